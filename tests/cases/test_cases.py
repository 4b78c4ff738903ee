"""Small inputs from reports of the field, which went wrong before: `../shared/cases/*/run.sh`.

A script whose functions have other names now has an adapted copy in this folder; its inputs and
its check are the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = HERE.parents[2] / "shared" / "cases"


@pytest.fixture(scope="module")
def model(repo: Path) -> Path:
    """The packaged model of the demo, which some scripts predict with."""
    path = repo / "results" / "demo"
    if not list(path.glob("models/*/predictor.json")):
        pytest.skip("no results of the demo; make demo")
    return path


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", sorted(path.parent.name for path in CASES.glob("*/run.sh")))
def test_case(case: str, repo: Path, model: Path) -> None:
    own = HERE / case / "run.sh"
    script = own if own.is_file() else CASES / case / "run.sh"
    given = {"REPO": repo, "PY": sys.executable, "MODEL": model, "CASES": CASES}
    done = subprocess.run(
        ["bash", str(script)],
        env=os.environ | {name: str(value) for name, value in given.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().splitlines()[-1].startswith("PASS"), done.stdout + done.stderr
