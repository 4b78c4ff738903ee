"""Fold rows: slides of one fold with their parts, bags and expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core.errors import StageError
from slide2rna.storage import parquet, split_file


@dataclass(frozen=True)
class FoldRows:
    """Slides of one fold that are in the bags, sorted by name.

    Attributes
    ----------
    slide_ids, sample_ids, parts, units
        Name, sample, part of the fold and split unit of each slide; the sample is a row of the
        expression table.
    bag
        (N,) row of each slide in the bags.
    """

    slide_ids: list[str]
    sample_ids: list[str]
    parts: list[str]
    units: list[str]
    bag: np.ndarray

    def of(self, *parts: str) -> FoldRows:
        """Return the rows of these parts."""
        keep = [i for i, part in enumerate(self.parts) if part in parts]
        return FoldRows(
            [self.slide_ids[i] for i in keep],
            [self.sample_ids[i] for i in keep],
            [self.parts[i] for i in keep],
            [self.units[i] for i in keep],
            self.bag[keep],
        )


def read_fold_rows(
    bag_ids: Sequence[str], slides: str | Path, splits: str | Path, fold: int
) -> FoldRows:
    """Join bags, slides.parquet and splits.tsv for one fold.

    Slides that failed in an earlier stage have no bag and are dropped.

    Raises
    ------
    StageError
        The fold doesn't exist, or a slide's unit has no part in it.
    """
    table = parquet.read(slides, columns=["slide_id", "sample_id", "unit"])
    parts = split_file.read(splits).filter(pl.col("fold") == fold)
    if parts.is_empty():
        raise StageError(splits, f"no fold {fold}", "use a fold of this file")
    bags = pl.DataFrame({"slide_id": list(bag_ids), "bag": np.arange(len(bag_ids))})
    joined = (
        table.join(bags, on="slide_id", how="inner")
        .join(parts.select("unit", "part"), on="unit", how="left")
        .sort("slide_id")
    )
    unassigned = joined.filter(pl.col("part").is_null())
    if len(unassigned):
        raise StageError(
            splits,
            f"unit '{unassigned['unit'][0]}' has no part in fold {fold}",
            "draw the folds again",
        )
    return FoldRows(
        joined["slide_id"].to_list(),
        joined["sample_id"].to_list(),
        joined["part"].to_list(),
        joined["unit"].to_list(),
        joined["bag"].to_numpy(),
    )


def read_expression_matrix(path: str | Path, sample_ids: Sequence[str]) -> np.ndarray:
    """Read (N, G) float32 log2(x+1), one row per entry of `sample_ids` (which may repeat).

    Raises
    ------
    StageError
        A sample isn't in the table.
    """
    table = parquet.read(path)
    position = {name: i for i, name in enumerate(table["sample_id"].to_list())}
    missing = sorted(set(sample_ids) - position.keys())
    if missing:
        raise StageError(path, f"sample '{missing[0]}' has no row", "run scripts/cohort.py again")
    values = table.drop("sample_id").to_numpy().astype(np.float32, copy=False)
    return values[[position[name] for name in sample_ids]]


def gene_names(path: str | Path) -> list[str]:
    """Return the gene columns of an expression table, in order."""
    return [name for name in parquet.read_names(path) if name != "sample_id"]
