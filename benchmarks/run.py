"""Run every benchmark, one after the other; exit status 1 if a claim was missed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NO_CLAIMS = ("common", "compare_results", "loop", "run")


def main() -> None:
    missed = []
    for path in sorted(HERE.glob("*.py")):
        # Maps of her2st are no claim about speed; tests/real runs them.
        if path.stem in NO_CLAIMS or path.stem.startswith("maps_her2st"):
            continue
        if subprocess.run([sys.executable, path], check=False).returncode:
            missed.append(path.stem)
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
