"""Costs of the demo from nothing to its report: wall time, memory of all processes, no-op rerun.

The yardsticks are the promises: 5 minutes, 4 GB and 10 seconds on 2 cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

REPO = Path(__file__).resolve().parents[1]


def resident_gb(process: psutil.Process) -> float:
    """Return the memory of a process and all its children, shared pages counted once (PSS)."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended after the listing
    return total / 2**30


def run_demo(results: Path) -> tuple[float, float]:
    """Return seconds and peak memory in GB of one `snakemake demo`."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-q"]
    started = time.monotonic()
    child = subprocess.Popen(
        [*command, "--config", f"results={results}", "--", "demo"], cwd=REPO, stdout=sys.stderr
    )
    process, peak = psutil.Process(child.pid), 0.0
    while child.poll() is None:
        try:
            peak = max(peak, resident_gb(process))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.5)
    if child.wait():
        sys.exit("the demo failed")
    return time.monotonic() - started, peak


def line(name: str, value: float, unit: str, target: float) -> bool:
    """Print one claim; `ratio` is the share of the promise that was used."""
    ok = value <= target
    fields = {"name": name, "value": round(value, 2), "unit": unit, "yardstick": "promise"}
    print(json.dumps(fields | {"ratio": round(value / target, 3), "target": target, "ok": ok}))
    return ok


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak = run_demo(Path(folder))
        again, _ = run_demo(Path(folder))
    checks = [
        line("demo: wall time", seconds, "s", 300),
        line("demo: peak memory", peak, "GB", 4),
        line("demo: rerun with nothing to do", again, "s", 10),
    ]
    sys.exit(not all(checks))


if __name__ == "__main__":
    main()
