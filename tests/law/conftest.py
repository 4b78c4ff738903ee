"""The results of the law cohort."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def law(repo: Path) -> Path:
    path = repo / "results" / "law"
    if not (path / "report" / "index.html").exists():
        pytest.skip("no results of the law cohort; make law")
    return path
