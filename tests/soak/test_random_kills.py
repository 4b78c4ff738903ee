"""Thirty-three SIGKILLs of the demo, spread over its stages, each followed by the same command.

A kill waits for a stage that was hit no more often than there were whole runs, and lands at a
random moment of it. In turn kills hit the whole process group, Snakemake alone, and one process of
a job, after which Snakemake ends without trying again; some hit Snakemake while it plans. After
each, no process of the run may be left and every file that has its final name must be whole; at
the end the tables are those of an undisturbed run.

python -m pytest tests/soak/test_random_kills.py -s
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import killed_demo
import polars as pl
import psutil
import pytest

KILLS, SEED = 33, 8
AIMS = ("group", "snakemake", "worker")
# Every so many kills, one that waits for no stage, for so many seconds at most.
EARLY, EARLY_S = 11, 3.0
PLANNING = "planning"
# A job that is loading torch looks for its Snakemake only when that is done.
PATIENCE_S = 300.0


def kill(aim: str, process: subprocess.Popen[bytes], script: str, draw: random.Random) -> str:
    """Kill what `aim` says; returns what was hit, or nothing if it had gone."""
    jobs = [found for found in killed_demo.members(process.pid) if found.pid != process.pid]
    own = [job for job in jobs if killed_demo.rule_of(job) == script]
    try:
        if aim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif aim == "snakemake" or not jobs:
            process.kill()
        else:
            hit = draw.choice(own or jobs)
            aim = f"{hit.name()} of {killed_demo.rule_of(hit)}"
            hit.kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return ""
    return aim


def script_of(log: Path) -> str:
    """The script whose job writes a log, by its first line."""
    return log.read_text().split(": started")[0].split()[-1]


def wait_while(going_on: Callable[[], bool], process: subprocess.Popen[bytes], s: float) -> bool:
    """Wait for some seconds, or until it is over; true if it still goes on."""
    end = time.monotonic() + s
    while time.monotonic() < end and going_on() and process.poll() is None:
        time.sleep(0.005)
    return going_on() and process.poll() is None


@pytest.mark.timeout(36_000)
def test_random_kills(quiet: Path, lab: Path, expected: dict[str, pl.DataFrame]) -> None:
    draw = random.Random(SEED)
    done: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    runs, orphaned, read, left = 0, 0.0, 0, 0
    seen: dict[Path, tuple[int, int]] = {}

    def strike(process: subprocess.Popen[bytes], results: Path) -> None:
        """One kill in this run, unless it ends before a stage that is to be hit comes."""
        aim, hit = AIMS[done.total() % len(AIMS)], ""
        stage, script = PLANNING, ""
        early = done.total() % EARLY == EARLY - 1
        if early and wait_while(lambda: True, process, draw.uniform(0, EARLY_S)):
            hit = kill(aim, process, script, draw)
        while not hit and process.poll() is None:
            found = killed_demo.logs_under_way(results)
            waiting = [stage for stage in found if hits[stage] <= runs]
            if not waiting:
                time.sleep(0.005)
                continue
            stage = min(waiting, key=lambda stage: hits[stage])
            log = found[stage][0]
            script = script_of(log)
            usual = quiet / "results/demo/benchmarks" / f"{log.stem}.tsv"
            moment = draw.uniform(0, pl.read_csv(usual, separator="\t")["s"][0])
            if wait_while(lambda log=log: killed_demo.state(log) == "started", process, moment):  # type: ignore[misc]
                hit = kill(aim, process, script, draw)
        if hit:
            done[aim] += 1
            hits[stage] += 1
            print(f"{done.total():3d} {stage}: {hit}", flush=True)

    while done.total() < KILLS:
        results = lab / f"results-{runs}"
        for logs in killed_demo.logs_under_way(results).values():
            for log in logs:  # of jobs that were killed
                log.unlink()
        process = killed_demo.start(lab, "--retries", "0", results=results.name)
        strike(process, results)
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
    print(f"kills by stage: {dict(hits)}")
    assert min(done.values()) >= KILLS // len(AIMS)
    assert read > 300
    assert len(hits) >= KILLS // 3
    assert max(hits.values()) <= max(runs + 1, KILLS // EARLY)


def finished(lab: Path, results: Path, expected: dict[str, pl.DataFrame]) -> None:
    """The tables are right, nothing temporary is left, and there is nothing more to do."""
    killed_demo.assert_same_tables(results, expected)
    assert killed_demo.temporary(results) == []
    planned = killed_demo.run(lab, "-n", results=results.name)
    assert "Nothing to be done" in planned.stdout, planned.stdout[-2000:]
