"""A copy of the repository to run in, and one undisturbed run that all others are held against."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest
from doc_blocks import copy_of
from killed_demo import run, tables


@pytest.fixture(scope="session")
def quiet(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small demo ran to its end, once; `seconds` says how long it took."""
    lab = copy_of(repo, tmp_path_factory.mktemp("quiet") / "slide2rna")
    began = time.monotonic()
    done = run(lab)
    assert done.returncode == 0, done.stdout[-4000:]
    (lab / "seconds").write_text(str(time.monotonic() - began))
    return lab


@pytest.fixture(scope="session")
def expected(quiet: Path) -> dict[str, pl.DataFrame]:
    """The tables of the undisturbed run."""
    return tables(quiet / "results")


@pytest.fixture
def lab(repo: Path, tmp_path: Path) -> Path:
    """A fresh copy of the repository, with no results."""
    return copy_of(repo, tmp_path / "slide2rna")
