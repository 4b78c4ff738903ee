"""SIGKILL in every stage of the demo; the same command again leaves the same tables.

Each kill hits the whole process group while the stage's own log proves that the stage had
started and had not finished.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

# In the order of the flow; a fold's or a shard's first log stands for its stage.
STAGES = {
    "generate": "demo.log",
    "cohort": "cohort.log",
    "download": "download-0.log",
    "guard": "guard.log",
    "tiles": "tiles-0.log",
    "features": "features-lite0-0.log",
    "bags": "bags-lite0.log",
    "pathways": "pathways-go-bp.log",
    "train": "train-lite0-flow-go-bp-0.log",
    "sample": "sample-lite0-flow-go-bp-0.log",
    "evaluate": "evaluate-lite0-flow-go-bp.log",
    "report": "report.log",
}
# Seconds of work to let pass after the start, so that a kill lands in the middle of long stages.
DELAY_S = {"generate": 8.0, "features": 5.0, "train": 5.0, "sample": 4.0}
WALL_CLOCK = {"seconds"}


def start(repo: Path, results: Path, *extra: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", f"results={results}"]
    subprocess.run([*command, "--unlock", "-q"], cwd=repo, check=False, capture_output=True)
    return subprocess.Popen(
        [*command, *extra, "--", "demo"],
        cwd=repo,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def state(log: Path) -> str:
    text = log.read_text() if log.exists() else ""
    return "finished" if ": finished" in text else "started" if ": started" in text else "waiting"


def kill_in(stage: str, repo: Path, results: Path) -> bool:
    """Run until `stage` is under way, then kill everything. False if it had finished too soon.

    The stage is forced, since it may have been finished beside the one that was killed before.
    """
    log = results / "demo" / "logs" / STAGES[stage]
    log.unlink(missing_ok=True)
    process = start(repo, results, "--forcerun", stage)
    deadline = time.monotonic() + 600
    while state(log) == "waiting" and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(DELAY_S.get(stage, 0.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return state(log) == "started"


def tables(results: Path) -> dict[str, pl.DataFrame]:
    return {
        str(path.relative_to(results)): pl.read_parquet(path)
        for path in sorted((results / "demo").rglob("*.parquet"))
        if "checkpoint" not in path.parts
    }


@pytest.mark.timeout(3600)
def test_kill_in_every_stage(repo: Path, tmp_path: Path) -> None:
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    assert start(repo, quiet).wait() == 0
    landed = {}
    for stage in STAGES:
        landed[stage] = kill_in(stage, repo, killed)
        print(f"{stage}: {'killed under way' if landed[stage] else 'finished before the kill'}")
    assert all(landed.values()), landed
    assert start(repo, killed).wait() == 0

    expected, found = tables(quiet), tables(killed)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        columns = [c for c in table.columns if c not in WALL_CLOCK | {"path"}]
        assert_frame_equal(found[name].select(columns), table.select(columns), rel_tol=1e-5)
    leftovers = [p for p in killed.rglob("*.partial*") if "checkpoint" not in p.parts]
    print(f"{len(leftovers)} temporary files left behind by the kills, none counted as done")
