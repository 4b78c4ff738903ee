"""Shared parts of the benchmarks: interleaved timing, the interval of a ratio, JSON lines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "support")]
PAIRS = 5


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_own_process(script: str, *arguments: str) -> str:
    """Run a script in a separate process and return the last line that it prints."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


def peak_mb() -> float:
    """Return the highest resident memory of this process so far, MB.

    Not ru_maxrss, which a child takes over from the process that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def interval(ratios: list[float], share: float = 0.9, resamples: int = 2000) -> tuple[float, float]:
    """Return the bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (resamples, len(ratios))), axis=1)
    low, high = np.quantile(medians, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def compare(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    yardstick: str,
    target: float,
    work: float = 1.0,
    unit: str = "1/s",
    pairs: int = PAIRS,
) -> bool:
    """Time both in turn and print the speed ratio.

    The ratio is the median over the pairs; `ok` is false only if the whole 90 % interval lies
    below the target. `work` is what one call gets done, in units of `unit` times seconds.
    """
    ours()
    theirs()
    mine, other = [], []
    for _ in range(pairs):
        mine.append(seconds(ours))
        other.append(seconds(theirs))
    ratios = [b / a for a, b in zip(mine, other, strict=True)]
    value = work / float(np.median(mine))
    return report(name, value, unit, yardstick, ratios, target)


def report(
    name: str, value: float, unit: str, yardstick: str, ratios: list[float], target: float
) -> bool:
    """Print one JSON line; true if the target is met or can't be excluded."""
    low, high = interval(ratios)
    line = {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "yardstick": yardstick,
        "ratio": round(float(np.median(ratios)), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "target": target,
        "ok": high >= target,
    }
    print(json.dumps(line), flush=True)
    return bool(line["ok"])


def finish(results: list[bool]) -> None:
    """Exit with 1 if a target was missed."""
    sys.exit(0 if all(results) else 1)
