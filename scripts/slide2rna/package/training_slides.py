"""Training slides of a model: a new slide that matches one, by name or tiles, is in-sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from slide2rna.data import fold_rows, training_record
from slide2rna.features import bag_file
from slide2rna.storage import parquet

FILE = "known_slides.parquet"
SCHEMA: Any = {
    "name": pl.String,
    "train": pl.List(pl.Int64),
    "n_tiles": pl.Int64,
    "mean": pl.List(pl.Float32),
}
# This many features of a slide's mean tile identify it.
FINGERPRINT_FEATURES = 32
# Share of the sd between slides; wider than the effect of threads, devices or half precision.
TOLERANCE = 0.01


class TrainingFacts(TypedDict):
    """A slide's match among the slides of the cohort.

    Attributes
    ----------
    trained_folds : fold models that were trained on it; None for a new slide.
    trained_as : tiles (its tiles match), name (only its name does), or None.
    """

    trained_folds: int | None
    trained_as: str | None


def fingerprint(means: ArrayLike, sizes: ArrayLike) -> tuple[int, NDArray[np.float32]]:
    """Return the tile count of a bag and the first `FINGERPRINT_FEATURES` of its mean tile (m,).

    Both are independent of the clustering, so a renamed slide has the same.

    Parameters
    ----------
    means, sizes : (K, d) and (K,)
    """
    weight = np.asarray(sizes, np.float64)
    count = float(weight.sum())
    first = np.asarray(means, np.float64)[:, :FINGERPRINT_FEATURES]
    return round(count), (weight @ first / max(count, 1.0)).astype(np.float32)


def training_table(
    bags: Path, slides: Path, splits: Path, models: Mapping[int, Path]
) -> pl.DataFrame:
    """Return a row per slide of the cohort, and of its partners.

    Parameters
    ----------
    models : folder of each fold's model.

    Returns
    -------
    name (a digest of the slide's), train (folds that were trained on it), n_tiles, mean (of the
    first features of its tiles).
    """
    ids, means, sizes = bag_file.open_bags(bags)
    trained: dict[int, list[int]] = {row: [] for row in range(len(ids))}
    for fold in models:
        for row in fold_rows.read_fold_rows(ids, slides, splits, fold).of("train").bag:
            trained[int(row)].append(fold)
    rows = []
    for row, name in enumerate(ids):
        count, mean = fingerprint(means[row], sizes[row])
        known = {"name": training_record.digest("slide", name), "train": trained[row]}
        rows.append(known | {"n_tiles": count, "mean": mean.tolist()})
    rows += _partner_rows(models)
    return pl.DataFrame(rows, schema=SCHEMA).sort("name")


def _partner_rows(models: Mapping[int, Path]) -> list[dict[str, Any]]:
    """Return a row per slide of partner cohorts, which are known by name alone."""
    trained: dict[str, list[int]] = {}
    for fold, folder in models.items():
        record = training_record.read(folder)
        if record is not None:
            for name in record.filter(~pl.col("part").is_in(["train", "val"]))["slide"]:
                trained.setdefault(name, []).append(fold)
    return [
        {"name": name, "train": folds, "n_tiles": 0, "mean": []} for name, folds in trained.items()
    ]


def match_by_name(cohort_slides: pl.DataFrame, name: str) -> int | None:
    """Count fold models trained on the slide of this name; None if it isn't in the cohort."""
    match = cohort_slides.filter(pl.col("name") == training_record.digest("slide", name))
    return len(match["train"][0]) if match.height else None


def match_by_tiles(cohort_slides: pl.DataFrame, means: ArrayLike, sizes: ArrayLike) -> int | None:
    """Count fold models trained on a slide with these tiles, whatever its name; None for no match.

    A renamed copy isn't recognised if training used a random part of the slide's tiles.
    """
    described = cohort_slides.filter(pl.col("mean").list.len() > 0)
    if len(described) < 2:
        return None
    count, mean = fingerprint(means, sizes)
    stored = np.array(described["mean"].to_list(), dtype=np.float64)
    # A vector per slide may have missing features, which are the same in a copy.
    missing, stored = np.isnan(stored), np.nan_to_num(stored)
    scale = TOLERANCE * stored.std(axis=0) + 1e-6 * np.abs(stored).max(axis=0) + 1e-12
    close = (np.abs(stored - np.nan_to_num(mean)) <= scale) & (missing == np.isnan(mean))
    match = close.all(axis=1) & (described["n_tiles"].to_numpy() == count)
    if not match.any():
        return None
    return max(len(folds) for folds in described.filter(pl.Series(match))["train"])


def empty_table() -> pl.DataFrame:
    """Return the empty table of a model without one."""
    return pl.DataFrame(schema=SCHEMA)


def read_table(folder: Path) -> pl.DataFrame:
    """Read the table from a model's folder; empty if an older version packaged it."""
    path = folder / FILE
    return parquet.read(path) if path.is_file() else empty_table()


def training_facts(
    cohort_slides: pl.DataFrame, name: str, means: ArrayLike, sizes: ArrayLike
) -> TrainingFacts:
    """Match a slide with the slides of the cohort, for the facts of its prediction."""
    by_tiles = match_by_tiles(cohort_slides, means, sizes)
    by_name = match_by_name(cohort_slides, name)
    if by_tiles is not None:
        return {"trained_folds": by_tiles, "trained_as": "tiles"}
    return {"trained_folds": by_name, "trained_as": None if by_name is None else "name"}


def in_sample_note(trained: int, folds: int, by: str | None = "tiles") -> str:
    """Return the first warning for a slide of the cohort.

    Parameters
    ----------
    trained : fold models that were trained on it.
    folds : fold models.
    by : tiles or name, as `TrainingFacts` has it.
    """
    subject = "A slide of this name" if by == "name" else "This slide"
    if not trained:
        return (
            f"{subject} is in the model's cohort. No fold model was trained "
            "on it, but calibration or early stopping may have used it."
        )
    fact = f"{subject} was in the training data of {trained} of {folds} fold models"
    if by == "name":
        return f"{fact}. If it is the same slide, the numbers are in-sample, not predictions."
    return f"{fact}. Its numbers are in-sample, so p-values and intervals don't hold."
