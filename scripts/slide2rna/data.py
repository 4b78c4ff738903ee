"""What training and sampling read: a fold's rows, expression, and statistics of the train part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.errors import StageError


@dataclass(frozen=True)
class Rows:
    """Slides of one fold that are in the bags, sorted by name.

    Attributes
    ----------
    slide_ids, sample_ids, parts
        Per slide its name, its row of the expression table, and its part of the fold.
    bag
        (N,) its row in the bags.
    """

    slide_ids: list[str]
    sample_ids: list[str]
    parts: list[str]
    bag: np.ndarray

    def of(self, *parts: str) -> Rows:
        """The rows of these parts."""
        keep = [i for i, part in enumerate(self.parts) if part in parts]
        return Rows(
            [self.slide_ids[i] for i in keep],
            [self.sample_ids[i] for i in keep],
            [self.parts[i] for i in keep],
            self.bag[keep],
        )


def fold_rows(bag_ids: Sequence[str], slides: str | Path, splits: str | Path, fold: int) -> Rows:
    """Join bags, slides.parquet and splits.tsv for one fold.

    Slides that failed in a stage before have no bag and are left out.

    Raises
    ------
    StageError
        The fold doesn't exist, or a slide's unit has no part in it.
    """
    table = pl.read_parquet(slides, columns=["slide_id", "sample_id", "unit"])
    parts = pl.read_csv(
        splits, separator="\t", schema_overrides={"unit": pl.String, "part": pl.String}
    ).filter(pl.col("fold") == fold)
    if parts.is_empty():
        raise StageError(splits, f"there is no fold {fold}", "use a fold that the file has")
    bags = pl.DataFrame({"slide_id": list(bag_ids), "bag": np.arange(len(bag_ids))})
    joined = (
        table.join(bags, on="slide_id", how="inner")
        .join(parts.select("unit", "part"), on="unit", how="left")
        .sort("slide_id")
    )
    lost = joined.filter(pl.col("part").is_null())
    if len(lost):
        raise StageError(
            splits, f"unit '{lost['unit'][0]}' has no part in fold {fold}", "draw the folds again"
        )
    return Rows(
        joined["slide_id"].to_list(),
        joined["sample_id"].to_list(),
        joined["part"].to_list(),
        joined["bag"].to_numpy(),
    )


def expression(path: str | Path, sample_ids: Sequence[str]) -> np.ndarray:
    """(N, G) float32 log2(x+1), one row per entry of `sample_ids` (which may repeat).

    Raises
    ------
    StageError
        A sample isn't in the table.
    """
    table = pl.read_parquet(path)
    position = {name: i for i, name in enumerate(table["sample_id"].to_list())}
    missing = sorted(set(sample_ids) - position.keys())
    if missing:
        raise StageError(path, f"sample '{missing[0]}' has no row", "run scripts/cohort.py again")
    values = table.drop("sample_id").to_numpy().astype(np.float32, copy=False)
    return values[[position[name] for name in sample_ids]]


def gene_names(path: str | Path) -> list[str]:
    """Gene columns of an expression table, in order."""
    return [name for name in pl.read_parquet_schema(path) if name != "sample_id"]


def gene_statistics(values: np.ndarray, sample_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (n - 1) per gene over the train samples, each sample once, in float64.

    A gene with one value in all samples has sd exactly 0 (as DGCR5 has in all six published
    cohorts); such genes are predicted as their constant.

    Raises
    ------
    StageError
        Fewer than two samples, or no gene that varies.
    """
    _, first = np.unique(np.array(sample_ids), return_index=True)
    once = values[first].astype(np.float64)
    if len(once) < 2:
        raise StageError("training part", f"{len(once)} samples", "at least 2 are needed")
    sd = once.std(axis=0, ddof=1)
    sd[once.max(axis=0) == once.min(axis=0)] = 0
    if not (sd > 0).any():
        raise StageError("training part", "no gene varies", "check the expression table")
    mean = np.where(sd > 0, once.mean(axis=0), once[0])
    return mean, sd


def feature_statistics(
    means: np.ndarray, sizes: np.ndarray, rows: Sequence[int] | NDArray[np.int64] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd per feature over the train bags' clusters, weighted by size, slides equally.

    They are stored with the model, so that encoders of any scale train at the same settings; a
    converted published model has 0 and 1. A constant feature gets sd 1. Slides are taken one at a
    time, so that no copy of the bags is made.

    Parameters
    ----------
    means, sizes : (S, k, d) and (S, k)
    rows : the train slides' rows; None for all.
    """
    rows = range(len(means)) if rows is None else rows
    mean, square = np.zeros((2, means.shape[-1]))
    for row in rows:
        weight = sizes[row].astype(np.float64)
        weight /= weight.sum() * len(rows)
        mean += np.einsum("k,kd->d", weight, means[row].astype(np.float64))
    for row in rows:
        weight = sizes[row].astype(np.float64)
        weight /= weight.sum() * len(rows)
        square += np.einsum("k,kd->d", weight, (means[row] - mean) ** 2)
    sd = np.sqrt(square)
    return mean, np.where(sd > 1e-6 * np.maximum(np.abs(mean), 1e-6), sd, 1.0)
