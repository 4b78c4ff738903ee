"""Snakemake as a user calls it, the jobs that a dry run counts, and the text of a rule."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from snakemake_server import dry_run

# A rule of a rule file, to its end.
RULE = re.compile(r"^( *)rule[^\n]*:\n(?:(?:\1 +[^\n]*)?\n)+", re.M)
HANGS_S = 1200


def call_snakemake(
    folder: Path, *words: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder, with `path` before the other folders of programs."""
    search = [str(path)] if path else []
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--nolock", *words],
        cwd=folder,
        env=os.environ | {"PATH": os.pathsep.join([*search, *os.get_exec_path()])},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


def snakemake(repo: Path, results: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Plan on the repository, with results in a folder of the test's own."""
    return dry_run(repo, "--cores", "2", "--nolock", "--config", f"results={results}", *args)


def job_counts(output: str) -> dict[str, int]:
    """The first job table of a dry run."""
    table = output.split("Job stats:")[1].split("\n\n")[0]
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
