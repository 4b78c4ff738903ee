"""The demo on a real Slurm: from the how-to's command to the report, and what goes wrong there.

One node (`slurm_node.py`); jobs are really placed, killed for memory and cancelled by it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killed_demo
import polars as pl
import pytest
import slurm_node
import yaml

pytestmark = pytest.mark.timeout(7200)
# Small enough that starting jobs is most of the work.
SMALL: dict[str, Any] = {
    "folds": {"n": 2},
    "pathways": {"max_sets": 40},
    "model": {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2},
    "train": {"epochs": 8, "patience": 8, "checkpoint_epochs": 2},
    "sample": {"draws": 20, "steps": 2, "mean_pairs": 1},
    "evaluate": {"bootstrap": 50, "permutations": 10},
    "shift": {"bootstrap": 20, "permutations": 20},
}
# This Slurm has no accounting database, and its jobs take seconds rather than hours.
QUICK = {
    "slurm": [
        *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3"),
        *("--latency-wait", "15", "--max-status-checks-per-second", "1"),
    ],
    "generic": ["--seconds-between-status-checks", "2", "--latency-wait", "15"],
}
FIELDS = {
    **{"id": "JobId", "array": "ArrayJobId", "rule": "Comment", "state": "JobState"},
    **{"partition": "Partition", "memory": "MinMemoryNode", "time": "TimeLimit"},
    "cpus": "NumCPUs",
}
# Of `bags` and the Snakemake that starts it, in MiB: less than Snakemake alone takes, and for as
# long as Slurm needs to see it, which looks once a second.
TOO_LITTLE, ENOUGH = 60, 2400


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Slurm that is up, for all tests of this file."""
    try:
        with slurm_node.node(tmp_path_factory.mktemp("slurm")) as folder:
            yield folder
    except slurm_node.NoSlurm as reason:
        pytest.skip(f"no Slurm for this test: {reason}")
    left = [name for name in slurm_node.DAEMONS if slurm_node.running(name)]
    left += [str(path) for path in (slurm_node.CONFIG, slurm_node.GRES) if path.exists()]
    assert not left


class Demo:
    """A small demo cohort in a folder of its own, and the command that runs it."""

    def __init__(self, repo: Path, folder: Path, shards: int = 4) -> None:
        self.repo, self.results = repo, folder / "results"
        self.config = folder / "small.yaml"
        demo = {"source": "demo", "shards": shards, "settings": SMALL}
        self.config.write_text(yaml.safe_dump({"cohorts": {"demo": demo}}))

    def command(self, target: str, *words: str) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", *words, "--configfile", str(self.config)),
            *("--config", f"results={self.results}", "--", target),
        ]

    def start(self, target: str, *words: str, tools: Path | None = None) -> subprocess.Popen[str]:
        """`tools` come first on PATH."""
        path = os.pathsep.join([*([str(tools)] if tools else []), os.environ["PATH"]])
        # It must hear Ctrl-C where the tests run in the background, too.
        return subprocess.Popen(
            ["env", "--default-signal=INT", *self.command(target, *words)],
            cwd=self.repo,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, target: str, *words: str) -> tuple[int, str]:
        """Exit status, and what Snakemake said."""
        process = self.start(target, *words)
        try:
            said = process.communicate(timeout=1500)[0]
        finally:
            process.kill()
        return process.returncode, said

    def on(self, profile: str, target: str, *words: str) -> tuple[int, str]:
        return self.run(target, "--workflow-profile", profile, *QUICK[profile], *words)


@pytest.fixture(scope="module")
def demo(repo: Path, slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run through the executor plugin to the report: with arrays, a group per fold, and a GPU."""
    made = Demo(repo, tmp_path_factory.mktemp("placed"))
    status, said = made.on(
        *(
            "slurm",
            "demo",
            "--slurm-array-jobs",
            "download, train",
            "--set-resources",
            "features:gpu=1",
            "features:slurm_partition=gpus",
            "--default-resources",
            "slurm_partition=main",
        ),
        *("--groups", "sample=fold", "shift=fold"),
    )
    assert status == 0, said[-6000:]
    assert (made.results / "demo" / "report" / "index.html").is_file()
    return made


def jobs() -> list[dict[str, str]]:
    """All jobs that Slurm remembers: for which rule, what they asked for, and their state."""
    text = slurm_node.say("scontrol", "show", "jobs", "--oneliner")
    found = []
    for line in text.splitlines():
        told = dict(re.findall(r"(\S+?)=(\S*)", line))
        if "JobId" in told:
            job = {name: told.get(field, "") for name, field in FIELDS.items()}
            # By --gpus, or by --gres.
            job["gpu"] = told.get("TresPerJob", "") + told.get("TresPerNode", "")
            job["rule"] = re.sub(r"^rule_|_wildcards_.*", "", job["rule"])
            found.append(job)
    return sorted(found, key=lambda job: int(job["id"]))


def test_a_job_asks_for_what_its_rule_needs(demo: Demo) -> None:
    placed = jobs()
    asked = {job["rule"]: (job["memory"], job["time"], job["cpus"]) for job in placed}
    assert asked["generate"] == ("2000M", "00:30:00", "2")
    assert asked["evaluate"] == ("4000M", "04:00:00", "2")
    assert asked["train"][1:] == ("1-00:00:00", "1")
    assert {job["rule"] for job in placed if "gpu" in job["gpu"]} == {"features"}
    assert {job["state"] for job in placed} == {"COMPLETED"}
    assert {job["rule"] for job in placed if job["partition"] == "gpus"} == {"features"}
    assert {job["partition"] for job in placed} == {"main", "gpus"}


def test_arrays_and_groups_take_fewer_submissions(demo: Demo) -> None:
    placed = jobs()
    for rule, number in (("download", 4), ("train", 2)):
        arrays = [job["array"] for job in placed if job["rule"] == rule]
        assert len(arrays) == number
        assert len(set(arrays)) == 1
        assert arrays[0]
    rules = [job["rule"] for job in placed]
    # A fold's draws and their distances are one job.
    assert not {"sample", "shift"} & set(rules)
    assert rules.count("tiles") == 4


# What holds ids, coordinates and counts alone.
BYTES = ("tiles/DEMO-*.parquet", "splits.tsv", "guard.json", "pathways/*.json")


def test_the_tables_are_those_of_one_machine(repo: Path, demo: Demo, tmp_path: Path) -> None:
    """There in one shard, here in four: what a shard says is compared as one table."""
    alone = Demo(repo, tmp_path, shards=1)
    status, said = alone.run("demo", "--cores", "2")
    assert status == 0, said[-6000:]
    scattered, expected = (killed_demo.tables(one.results) for one in (demo, alone))
    assert len(expected) > 40
    killed_demo.assert_same(gathered(scattered), gathered(expected))
    same = [path for pattern in BYTES for path in (alone.results / "demo").glob(pattern)]
    assert len(same) > 45
    for path in same:
        other = demo.results / path.relative_to(alone.results)
        assert path.read_bytes() == other.read_bytes(), path


def gathered(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The shards of a stage as one table in the order of the slides, and all other tables."""
    found: dict[str, list[pl.DataFrame]] = {}
    for name, table in tables.items():
        found.setdefault(re.sub(r"shard-\d+", "shards", name), []).append(table)
    return {
        name: pl.concat(parts, how="vertical_relaxed").sort("slide_id")
        if "shards" in name
        else parts[0]
        for name, parts in found.items()
    }


@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_a_job_killed_for_memory_gets_more(demo: Demo, slurm: Path, profile: str) -> None:
    before = len(jobs())
    bags = demo.results / "demo" / "bags" / "lite0.safetensors"
    grows = f"bags:mem_mb={TOO_LITTLE} * {ENOUGH // TOO_LITTLE} ** (attempt - 1)"
    status, said = demo.on(profile, str(bags), "--forcerun", "bags", "--set-resources", grows)
    assert status == 0, said[-6000:]
    tried = jobs()[before:]
    assert [job["memory"] for job in tried] == [f"{TOO_LITTLE}M", f"{ENOUGH}M"]
    assert [job["time"] for job in tried] == ["02:00:00", "04:00:00"]
    assert [job["state"] for job in tried] == ["FAILED", "COMPLETED"]
    killed = rf"StepId={tried[0]['id']}\.\S+ exceeded memory limit"
    assert re.search(killed, (slurm / "slurmd.log").read_text())


# Failures in a row: the executor alone would give up after five, and wait for ever.
OUTAGE = 8


def test_an_outage_of_the_status_command_is_survived(demo: Demo, tmp_path: Path) -> None:
    asked, tool = tmp_path / "asked", tmp_path / "bin" / "squeue"
    tool.parent.mkdir()
    real = shutil.which("squeue")
    tool.write_text(
        f"#!/bin/sh\necho >> {asked}\n"
        f'[ $(wc -l < {asked}) -gt {OUTAGE} ] || exit 1\nexec {real} "$@"\n'
    )
    tool.chmod(0o755)
    bags = demo.results / "demo" / "bags" / "lite0.safetensors"
    words = ("--workflow-profile", "slurm", *QUICK["slurm"], "--forcerun", "bags")
    process = demo.start(str(bags), *words, tools=tool.parent)
    try:
        said = process.communicate(timeout=1500)[0]
    finally:
        process.kill()
    assert process.returncode == 0, said[-6000:]
    assert len(asked.read_text().splitlines()) > OUTAGE


@pytest.mark.parametrize("how", ["scancel", "interrupt"])
@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_what_was_cancelled_goes_on_with_the_same_command(
    demo: Demo, profile: str, how: str
) -> None:
    """At the next slide; those that were done are not touched. The job has the node's GPU."""
    before = len(jobs())
    folder = demo.results / "demo" / "features" / "lite0"
    manifest = folder / "shard-0.parquet"
    slides = pl.read_parquet(manifest)["slide_id"].to_list()
    files = [folder / f"{slide}.h5" for slide in slides]
    for path in (manifest, *files):
        path.unlink(missing_ok=True)
    words = [str(manifest), "--workflow-profile", profile, *QUICK[profile], "--retries", "0"]
    words += ["--set-resources", "features:gpu=1"]

    process = demo.start(*words)
    try:
        slurm_node.until(lambda: any(map(Path.exists, files)), "a slide's features", 300)
        if how == "scancel":
            slurm_node.say("scancel", jobs()[-1]["id"])
        else:
            process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=1500)[0]
        # As the page says: what a status check hid from Ctrl-C is still there.
        for left in slurm_node.say("squeue", "-h", "-o", "%i").split():
            slurm_node.say("scancel", left)
    finally:
        process.kill()
    assert process.returncode != 0
    assert not manifest.exists()
    slurm_node.until(lambda: not slurm_node.say("squeue", "-h"), "the end of the job")
    (job,) = jobs()[before:]
    assert job["state"] == "CANCELLED", said[-3000:]
    assert "gpu" in job["gpu"]
    done = {path: path.stat().st_mtime_ns for path in files if path.exists()}
    assert 0 < len(done) < len(files)

    status, said = demo.run(*words)
    assert status == 0, said[-6000:]
    assert pl.read_parquet(manifest)["slide_id"].to_list() == slides
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_nothing_is_left_behind(demo: Demo, slurm: Path) -> None:
    """But Slurm's own memory of the jobs."""
    assert not slurm_node.say("squeue", "-h")
    assert "fatal" not in (slurm / "slurmctld.log").read_text()
    shutil.rmtree(demo.results)
