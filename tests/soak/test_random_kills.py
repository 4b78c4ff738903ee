"""Thirty-three SIGKILLs at random moments of the demo, each followed by the same command.

In turn they hit the whole process group, Snakemake alone, and one process of a job, after which
Snakemake ends without trying again. After each, no process of the run may be left and every file
that has its final name must be whole; at the end the tables are those of an undisturbed run.

python -m pytest tests/soak/test_random_kills.py -s
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import killed_demo
import polars as pl
import psutil
import pytest

KILLS, SEED = 33, 8
AIMS = ("group", "snakemake", "worker")
# Of the time of an undisturbed run that may pass between a run's first job and the kill.
SHARE = 0.12
# Of the kills, those that don't wait for a job: they hit Snakemake while it plans, or soon after.
EARLY = 0.15
IDLE = "nothing yet"
# A job that is loading torch looks for its Snakemake only when that is done.
PATIENCE_S = 30.0


def kill(aim: str, process: subprocess.Popen[bytes], draw: random.Random) -> str | None:
    """Kill what `aim` says; the rules that were running, or None if there was nothing to hit."""
    jobs = [found for found in killed_demo.members(process.pid) if found.pid != process.pid]
    try:
        under_way = sorted({killed_demo.rule_of(job) for job in jobs} - {"bash"})
        hit = draw.choice(jobs) if aim == "worker" and jobs else None
        if aim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif aim == "snakemake":
            process.kill()
        elif hit is None:
            return None
        else:
            under_way = [f"{hit.name()} of {killed_demo.rule_of(hit)}"]
            hit.kill()
    except psutil.NoSuchProcess:
        return None
    return ", ".join(under_way) or IDLE


@pytest.mark.timeout(3600)
def test_random_kills(quiet: Path, lab: Path, expected: dict[str, pl.DataFrame]) -> None:
    longest = SHARE * float((quiet / "seconds").read_text())
    draw = random.Random(SEED)
    done: Counter[str] = Counter()
    runs, orphaned, read, left, idle = 0, 0.0, 0, 0, 0
    rules: set[str] = set()
    seen: dict[Path, tuple[int, int]] = {}
    while done.total() < KILLS:
        results = lab / f"results-{runs}"
        aim = AIMS[done.total() % len(AIMS)]
        process = killed_demo.start(lab, "--retries", "0", results=results.name)
        hit, early = None, draw.random() < EARLY
        while hit is None and process.poll() is None:
            if not early and len(killed_demo.members(process.pid)) < 2:
                time.sleep(0.1)
                continue
            try:
                process.wait(draw.uniform(0, longest))
            except subprocess.TimeoutExpired:
                hit = kill(aim, process, draw)
        if hit is not None:
            done[aim] += 1
            rules |= {one.rpartition(" of ")[2] for one in hit.split(", ")} - {IDLE}
            idle += hit == IDLE
            print(f"{done.total():3d} {aim}: {hit}", flush=True)
        assert process.wait() in (0, 1, -signal.SIGKILL)
        orphaned = max(orphaned, killed_demo.wait_for_nobody(process.pid, PATIENCE_S))
        read += killed_demo.check_whole(results, seen)
        left = max(left, len(killed_demo.temporary(results)))
        if process.returncode == 0:
            runs += 1
            finished(lab, results, expected)
    began = time.monotonic()
    results = lab / f"results-{runs}"
    assert killed_demo.start(lab, results=results.name).wait() == 0
    finished(lab, results, expected)
    took = time.monotonic() - began
    print(f"{dict(done)} kills in {runs + 1} runs; the last was finished in {took:.0f} s")
    print(f"jobs outlived Snakemake by up to {orphaned:.1f} s; {read} files read, all whole")
    print(f"up to {left} temporary files lay about after a kill, none at the end")
    print(f"hit: {', '.join(sorted(rules))}")
    assert min(done.values()) == KILLS // len(AIMS)
    assert read > 300
    assert len(rules) >= 5
    assert idle <= KILLS // 4


def finished(lab: Path, results: Path, expected: dict[str, pl.DataFrame]) -> None:
    """The tables are right, nothing temporary is left, and there is nothing more to do."""
    killed_demo.assert_same_tables(results, expected)
    assert killed_demo.temporary(results) == []
    planned = killed_demo.run(lab, "-n", results=results.name)
    assert "Nothing to be done" in planned.stdout, planned.stdout[-2000:]
