"""Snakemake as a user calls it, and the jobs that a dry run counts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def snakemake(repo: Path, results: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake as a user would, with results in a folder of the test's own."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "2", "--nolock"),
            *("--config", f"results={results}", *args),
        ],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def job_counts(output: str) -> dict[str, int]:
    """The first job table of a dry run."""
    table = output.split("Job stats:")[1].split("\n\n")[0]
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
