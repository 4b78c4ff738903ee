"""What the profiles and the rules say to a machine or a cluster, held against Snakemake itself."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from doc_blocks import blocks
from job_graph import RULE, call_snakemake

REPO = Path(__file__).resolve().parents[2]
PLATFORM = re.compile(
    r"slurm|sbatch|srun\b|squeue|sacct|scancel|\bqsub|\bqos\b|\bgres\b|_partition|kubernetes"
    r"|\bkubectl|grid engine|\bPBS\b|\bLSF\b|\bbsub",
    re.I,
)
# A key that a profile offers as a comment.
OFFERED = re.compile(r"^# ( *[a-z_-]+:(?: .*)?)$", re.M)


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
    done = call_snakemake(REPO, "-n", "--workflow-profile", str(profile), *files, "--", "demo")
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
