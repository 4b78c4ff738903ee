"""The default profile on a machine: threads, memory and GPUs as the machine and the rules say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
import yte
from job_graph import RULE, call_snakemake

REPO = Path(__file__).resolve().parents[2]
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
    done = call_snakemake(workplace, "--cores", "16", *profile, path=tool.parent)
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
    done = call_snakemake(workplace, "--cores", "16", "--workflow-profile", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert (workplace / "tries").read_text().split() == ["1000", "7", "1500", "14"]
