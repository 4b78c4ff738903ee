"""What the profiles and the rules say to a machine or a cluster, held against Snakemake itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest
import yaml
import yte

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from doc_blocks import blocks

REPO = Path(__file__).resolve().parents[2]
PLATFORM = re.compile(
    r"slurm|sbatch|srun\b|squeue|sacct|scancel|\bqsub|\bqos\b|\bgres\b|_partition|kubernetes"
    r"|\bkubectl|grid engine|\bPBS\b|\bLSF\b|\bbsub",
    re.I,
)
RULE = re.compile(r"^( *)rule[^\n]*:\n(?:(?:\1 +[^\n]*)?\n)+", re.M)
# A key that a profile offers as a comment.
OFFERED = re.compile(r"^# ( *[a-z_-]+:(?: .*)?)$", re.M)
POOLS = """\
import json, os, numpy, polars, pyarrow, torch
from threadpoolctl import threadpool_info
found = {pool["num_threads"] for pool in threadpool_info()}
found |= {polars.thread_pool_size(), pyarrow.cpu_count(), torch.get_num_threads()}
print(*sorted(found))
"""

STAGES = """\
import pathlib, runpy, sys
heavy = {"faiss", "numpy", "onnxruntime", "polars", "pyarrow", "torch"}
for path in sorted(pathlib.Path("scripts").glob("*.py")):
    text = path.read_text()
    # This one reads its options with the help of a stage's module.
    if "set_threads" in text and path.name != "consume.py":
        runpy.run_path(str(path))
        assert not heavy & set(sys.modules), (path, heavy & set(sys.modules))
        print(path.name)
"""


def snakemake(
    folder: Path, *words: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    search = [str(path)] if path else []
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--nolock", *words],
        cwd=folder,
        env=os.environ | {"PATH": os.pathsep.join([*search, *os.get_exec_path()])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_words_of_platforms_are_in_profiles_alone() -> None:
    sources = [REPO / "Snakefile", REPO / "config.yaml"]
    for pattern in ("workflow/**/*", "scripts/**/*.py", "envs/*"):
        sources += [path for path in REPO.glob(pattern) if path.is_file()]
    assert len(sources) > 100
    for path in sources:
        if path.suffix != ".pyc":
            found = PLATFORM.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(REPO)}: {found}"
    for profile in ("slurm", "generic"):
        assert PLATFORM.search((REPO / "profiles" / profile / "config.yaml").read_text())


def test_every_rule_says_what_it_needs_and_the_page_lists_it() -> None:
    page = (REPO / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| ([^|\n]*`[^|\n]*) \| (\d+) \| ([\d.]+) \|( yes)? \|$", re.M)
    listed = {
        name: (1000 * int(gb), round(60 * float(hours)), bool(gpu))
        for names, gb, hours, gpu in row.findall(page)
        for name in re.findall(r"`(\w+?)(?:_<cohort>)?`", names)
    }
    needs = re.compile(r"mem_mb=mem_mb\((\d+)\),\n +runtime=runtime\((\d+)\),")
    found = {}
    for path in REPO.glob("workflow/**/*.smk"):
        # What neither this nor the environments' test would see.
        assert not re.search(r"^ *(run:|script:|notebook:|checkpoint )", path.read_text(), re.M)
        for match in RULE.finditer(path.read_text()):
            if "shell:" not in match[0]:
                continue
            assert "mem_mb=mem_mb(" in match[0], match[0]
            if "localrule: True" not in match[0]:
                name = re.search(r"rule (\w+):|f\"(consume)_", match[0])
                asked = needs.search(match[0])
                assert name is not None
                assert asked is not None, match[0]
                minutes = int(asked[2])
                found[name[1] or name[2]] = (int(asked[1]), minutes, "gpu=" in match[0])
    assert len(found) >= 25
    assert listed == found
    # And where GPUs have a partition of their own, the profile shows how each of them gets there.
    offered = (REPO / "profiles" / "slurm" / "config.yaml").read_text()
    for name in (name for name, (*_, gpu) in found.items() if gpu):
        word = {"consume": "consume_COHORT"}.get(name, name)
        assert f"#   {word}: {{slurm_partition: GPU-PARTITION" in offered, name


def test_threads_are_set_before_a_library_starts_its_own() -> None:
    """Scripts with threads of their own import nothing that has a pool before they set it."""
    done = subprocess.run(
        [sys.executable, "-c", STAGES], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = {
        path.name
        for path in REPO.glob("scripts/*.py")
        if "--threads" in path.read_text() or "add_machine" in path.read_text()
    }
    assert ours - set(done.stdout.split()) == {"consume.py"}
    # And each rule hands its threads on, or has one.
    for path in REPO.glob("workflow/**/*.smk"):
        for match in RULE.finditer(path.read_text()):
            if re.search(r"^ +threads: (?!1\b)", match[0], re.M) and "rule tiles:" not in match[0]:
                assert "{threads}" in match[0], match[0]


def test_a_stage_has_as_many_threads_as_its_rule() -> None:
    """In all pools, whatever the environment says; 2 needs a machine of two cores."""
    own = {"OMP_NUM_THREADS": "7", "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "5"}
    told = "import sys\nsys.path.insert(0, 'scripts')\nfrom slide2rna.core import cli\n"
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", f"{told}cli.set_threads({threads})\n{POOLS}"],
            cwd=REPO,
            env=os.environ | own,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [threads]


@pytest.mark.parametrize("name", ["default", "slurm", "generic"])
def test_every_profile_goes_on_and_says_why_it_stopped(name: str) -> None:
    profile = yaml.safe_load((REPO / "profiles" / name / "config.yaml").read_text())
    for key in ("rerun-incomplete", "keep-going", "show-failed-logs"):
        assert profile[key] is True, key
    assert profile["scheduler"] == "greedy"
    assert profile["retries"] >= 1


def test_two_executors_are_installed() -> None:
    """Each one slows every start."""
    wanted = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]
    plugins = {re.split(r"[ <>=~]", one)[0] for one in wanted if "snakemake-" in one}
    executors = {f"snakemake-executor-plugin-{kind}" for kind in ("slurm", "cluster-generic")}
    assert plugins == executors


# What squeue says, what sacct says where squeue has forgotten the job, and what that means.
STATES = [
    ("PENDING", "", "running"),
    ("RUNNING", "", "running"),
    ("COMPLETING", "", "running"),
    ("COMPLETED", "", "success"),
    ("OUT_OF_MEMORY", "", "failed"),
    ("TIMEOUT", "", "failed"),
    ("CANCELLED", "", "failed"),
    ("NODE_FAIL", "", "failed"),
    ("Invalid job id", "COMPLETED", "success"),
    ("Invalid job id", "CANCELLED by 7", "failed"),
    ("Invalid job id", "", "failed"),
    ("Unable to contact slurm controller", "", "running"),
]


@pytest.mark.parametrize(("queue", "account", "meaning"), STATES)
def test_what_became_of_a_job(queue: str, account: str, meaning: str, tmp_path: Path) -> None:
    """The generic profile's status command, for each answer of a scheduler."""
    trouble = " >&2; exit 1" if " " in queue else ""
    tools = {"squeue": f"echo '{queue}'{trouble}", "sacct": f"echo '{account}'"}
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [REPO / "profiles" / "generic" / "status", "12"],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [meaning]


def test_the_example_for_kubernetes_can_be_read() -> None:
    found = {block.text for block in blocks(REPO / "docs" / "how-to" / "cluster.md")}
    (profile,) = (yaml.safe_load(text) for text in found if text.startswith("executor:"))
    asked = profile["cluster-generic-submit-cmd"].split()
    assert asked[1:] == [
        "{threads}",
        "{resources.mem_mb}",
        "{resources.runtime}",
        "{resources.gpu}",
    ]
    scripts = [text for text in found if text.startswith("#!/usr/bin/env bash")]
    assert len(scripts) == 3
    for text in scripts:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    (submit,) = (text for text in scripts if "kubectl create" in text)
    # The four above, and the job's script, which the executor puts last.
    assert set(re.findall(r"\$\{?(\d)", submit)) == set("12345")
    (manifest,) = re.findall(r"<<YAML\n(.*)\nYAML", submit, re.S)
    filled = re.sub(r"\$\(\(.*?\)\)|\$(?:\{\w+\}|\w+)", "1", manifest)
    assert yaml.safe_load(filled)["kind"] == "Job"


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A workflow of one rule, with what all rules share; its first try fails."""
    rule = f"""\
configfile: {str(REPO / "config.yaml")!r}
include: {str(REPO / "workflow/rules/common.smk")!r}
rule twice:
    output: "done"
    threads: 1
    resources: mem_mb=mem_mb(1000), runtime=runtime(7)
    shell: "echo {{resources.mem_mb}} {{resources.runtime}} >> tries; python pools.py >> pools;"
        " [ $(wc -l < tries) = 2 ] && touch {{output}}"
"""
    (tmp_path / "Snakefile").write_text(rule)
    (tmp_path / "pools.py").write_text(POOLS)
    return tmp_path


def test_the_default_profile_on_a_machine(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caps are the machine's; a failed job is tried again with more, on its threads alone.

    A second thread in any pool shows where there are two cores or more.
    """
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = workplace / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nprintf "GPU 0: one\\nGPU 1: two\\nGPU 2: three\\n"\n')
    tool.chmod(0o755)
    profile = ["--workflow-profile", str(REPO / "profiles" / "default")]
    done = snakemake(workplace, "--cores", "16", *profile, path=tool.parent)
    assert done.returncode == 0, done.stderr
    assert (workplace / "tries").read_text().split() == ["1000", "7", "2000", "14"]
    assert set((workplace / "pools").read_text().split()) == {"1"}

    caps = dict(re.findall(r"Resource\(\"(\w+)\", (\d+)\)", done.stderr))
    assert caps.keys() == {"mem_mb", "gpu", "downloads"}
    assert caps["gpu"] == "3"
    total = psutil.virtual_memory().total >> 20
    limit = Path("/sys/fs/cgroup/memory.max")
    own = limit.read_text().strip() if limit.is_file() else "max"
    assert int(caps["mem_mb"]) == min(total, int(own) >> 20 if own.isdigit() else total)


WHOLE = "".join(f"GPU {i}: NVIDIA H100 (UUID: GPU-{i})\n" for i in range(8))
PARTS = "".join(f"  MIG 3g.40gb     Device  {i}: (UUID: MIG-{i})\n" for i in range(2))


@pytest.mark.parametrize(
    ("tool", "visible", "cap"),
    [
        (f"#!/bin/sh\ncat <<'END'\n{WHOLE}END\n", None, 8),
        (f"#!/bin/sh\ncat <<'END'\n{WHOLE}END\n", "2", 1),
        (f"#!/bin/sh\ncat <<'END'\n{WHOLE}END\n", "5,GPU-1", 2),
        (f"#!/bin/sh\ncat <<'END'\n{WHOLE}END\n", "", 1),
        (f"#!/bin/sh\ncat <<'END'\n{WHOLE}{PARTS}END\n", None, 9),
        (f"#!/bin/sh\ncat <<'END'\n{PARTS}END\n", "0", 1),
        ("#!/bin/sh\necho 'GPU 0: no, an error'; exit 9\n", None, 1),
        ("no program of this machine", None, 1),
        ("#!/bin/sh\nexec sleep 600\n", None, 1),
    ],
)
def test_as_many_jobs_as_gpus_that_they_may_take(
    tool: str, visible: str | None, cap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job does about a GPU of its own is in slide2rna/core/gpu_lock.py."""
    path = tmp_path / "nvidia-smi"
    path.write_text(tool)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), *os.get_exec_path()]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    real = subprocess.run

    def impatient(*command: object, timeout: float, **how: object) -> object:
        seconds = 0.2 if "sleep" in tool else timeout
        return real(*command, timeout=seconds, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", impatient)
    text = (REPO / "profiles" / "default" / "config.yaml").read_text()
    assert f"gpu={cap}" in yte.process_yaml(text, require_use_yte=True)["resources"]


def test_nothing_asks_for_more_than_the_machine_has(workplace: Path) -> None:
    profile = yaml.safe_load((REPO / "profiles" / "default" / "config.yaml").read_text())
    profile["resources"] = {"mem_mb": 1500}
    (workplace / "small.yaml").write_text(yaml.safe_dump(profile))
    done = snakemake(workplace, "--cores", "16", "--workflow-profile", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert (workplace / "tries").read_text().split() == ["1000", "7", "1500", "14"]


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_a_cluster_profile_is_understood(name: str, tmp_path: Path) -> None:
    """With everything that it offers as a comment, too."""
    text = (REPO / "profiles" / name / "config.yaml").read_text()
    offered = OFFERED.sub(r"\1", text)
    profile = tmp_path / "profile.yaml"
    profile.write_text(offered)
    # Not by --config: it would take the place of the profile's own.
    config = {"results": str(tmp_path)} | ({"device": "cuda"} if name == "generic" else {})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    files = ["--configfile", str(tmp_path / "config.yaml")]
    done = snakemake(REPO, "-n", "--workflow-profile", str(profile), *files, "--", "demo")
    assert done.returncode == 0, done.stderr
    found = re.search(r"^ *rule train:\n(?: +\w+: .*\n)+", done.stdout, re.M)
    assert found is not None, done.stdout
    train = found[0]
    assert {"gpu=1", "mem_mb=8000"} <= set(re.split(r"[,\s]+", train)), train
    if name == "slurm":
        assert yaml.safe_load(offered).keys() > yaml.safe_load(text).keys()
        assert "slurm_partition=GPU-PARTITION" in train
        assert "runtime=1440" in train
        assert "slurm_account=ACCOUNT" in train
