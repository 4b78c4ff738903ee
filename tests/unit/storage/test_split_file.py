"""Folds are compared with their digest, which `sha256sum` can check, too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
from slide2rna.core.errors import StageError
from slide2rna.storage import split_file

FOLDS = pl.DataFrame({"unit": ["01", "P2"], "fold": [0, 0], "part": ["train", "test"]})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    split_file.write(FOLDS, tmp_path / "splits.tsv")
    return tmp_path / "splits.tsv"


def test_folds_come_back(path: Path) -> None:
    assert split_file.read(path).equals(FOLDS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (path.parent / "splits.tsv.sha256").read_text() == f"{digest}  splits.tsv\n"


def test_an_edited_table_says_how_to_give_folds(path: Path) -> None:
    path.write_text(path.read_text().replace("test", "val"))
    with pytest.raises(StageError, match=r"splits\.tsv: damaged or edited.*set cohorts\.<name>"):
        split_file.read(path)


def test_a_table_without_digest_is_read(path: Path) -> None:
    split_file.digest_path(path).unlink()
    assert split_file.read(path).equals(FOLDS)
    path.write_text("unit\tpart\nP1\ttest\n")
    with pytest.raises(StageError, match="no column fold"):
        split_file.read(path)
    path.write_text("unit\tfold\tpart\nP1\tone\ttest\n")
    with pytest.raises(StageError, match="not a table of unit, fold and part"):
        split_file.read(path)
