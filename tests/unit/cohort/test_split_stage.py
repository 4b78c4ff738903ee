"""Folds that a job of their own makes are those of the whole stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sheet_cohorts import FILES, FOLDS, make_sheet, source_of
from slide2rna.cohort import freeze


@pytest.mark.parametrize("given", ["drawn", "column", "file", "published"])
def test_folds_made_apart_are_the_same(tmp_path: Path, given: str) -> None:
    """The workflow makes them by a job of their own, from slides.parquet."""
    tested = {f"P{i:02d}": i % 3 for i in range(12)}
    rows = [
        (name, fold, "test" if place == fold else "val" if place == (fold + 1) % 3 else "train")
        for name, place in tested.items()
        for fold in range(3)
    ]
    file = tmp_path / "split.tsv"
    table = pl.DataFrame(rows, schema=["patient_id", "fold", "part"], orient="row")
    table.write_csv(file, separator="\t")
    own = {"split": [str(i % 3) for i in (*range(12), 0)]} if given == "column" else {}
    folder = make_sheet(tmp_path / "in", extra=own)
    keys: dict[str, Any] = {
        "file": {"splits": str(file)},
        "published": {"splits": "published", "published_splits": str(file)},
    }.get(given, {})
    source, folds = source_of(folder, **keys), FOLDS | {"n": 3}
    freeze.freeze_cohort("mine", source, folds, 1, tmp_path / "whole")
    freeze.freeze_cohort("mine", source, folds, 1, tmp_path / "apart", with_folds=False)
    apart = tmp_path / "apart"
    assert not (apart / "splits.tsv").exists()
    freeze.split_cohort(apart / "slides.parquet", "sheet", source, folds, 1, apart / "splits.tsv")
    for name in FILES:
        assert (apart / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
