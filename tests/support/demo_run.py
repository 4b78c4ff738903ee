"""The demo by the command that users type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_demo(repo: Path, results: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "2", *args),
            *("--config", f"results={results}", "--", "demo"),
        ],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=2400,
        check=False,
    )
