"""SIGKILL in every stage of the demo; the same command again leaves the same tables.

Not in the copy of the encoder's weights, which is over at once. Each kill hits the whole process
group while the stage's own log proves that the stage had started and had not finished.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import killed_demo
import polars as pl
import pytest
from killed_demo import STAGES, state

# Seconds of work to let pass after the start, so that a kill lands in the middle of long stages.
DELAY_S = {"generate": 4.0, "features": 2.0, "train": 1.5, "report": 2.0}


def kill_in(stage: str, lab: Path) -> bool:
    """Run until `stage` is under way, then kill everything. False if it had finished too soon.

    The stage is forced, since it may have been finished beside the one that was killed before.
    """
    log = lab / "results" / "demo" / "logs" / STAGES[stage]
    log.unlink(missing_ok=True)
    process = killed_demo.start(lab, "--forcerun", stage)
    deadline = time.monotonic() + 3600
    while state(log) == "waiting" and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(DELAY_S.get(stage, 0.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return state(log) == "started"


@pytest.mark.timeout(36_000)
def test_kill_in_every_stage(lab: Path, expected: dict[str, pl.DataFrame]) -> None:
    landed = {}
    for stage in STAGES:
        landed[stage] = kill_in(stage, lab)
        print(f"{stage}: {'killed under way' if landed[stage] else 'finished before the kill'}")
    assert all(landed.values()), landed
    done = killed_demo.start(lab)
    assert done.wait() == 0
    killed_demo.assert_same_tables(lab / "results", expected)
    assert killed_demo.temporary(lab / "results") == []
