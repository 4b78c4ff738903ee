"""A finished demo for all tests that read one; it takes minutes, so there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_run import run_demo


@pytest.fixture(scope="session")
def demo(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a whole run."""
    results = tmp_path_factory.mktemp("e2e")
    done = run_demo(repo, results)
    assert done.returncode == 0, done.stderr[-4000:]
    return results / "demo"
