"""Runner of all benchmarks, one after the other; exit status 1 if a claim was missed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NO_CLAIMS = ("common", "compare_results", "law2", "loop", "run")
# These need external data and have separate targets: make real, make real-tcga.
OWN_TARGETS = ("maps_her2st", "real_tcga")


def main() -> None:
    missed = []
    for path in sorted(HERE.glob("*.py")):
        if path.stem in NO_CLAIMS or path.stem.startswith(OWN_TARGETS):
            continue
        if subprocess.run([sys.executable, path], check=False).returncode:
            missed.append(path.stem)
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
