"""The slides that a model was made from: a slide among them isn't predicted, but fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from slide2rna import bagfile, data

FILE = "known_slides.parquet"
SCHEMA = pl.Schema(
    {
        "name": pl.String,
        "train": pl.List(pl.Int64),
        "n_tiles": pl.Int64,
        "mean": pl.List(pl.Float32),
    }
)
# So many numbers of a slide's mean tile tell it from any other.
NUMBERS = 32
# Of the spread between slides: wider than what threads, devices or half precision change.
TOLERANCE = 0.01


def digest(name: str) -> str:
    """What stands for a slide's name, which may say more of a patient than should be passed on."""
    return hashlib.sha256(f"slide {name}".encode()).hexdigest()[:24]


def fingerprint(means: ArrayLike, sizes: ArrayLike) -> tuple[int, NDArray[np.float32]]:
    """Tiles of a bag, and the first `NUMBERS` features of their mean (m,).

    They are the same however the tiles were clustered, so that a slide under another name has them.

    Parameters
    ----------
    means, sizes : (K, d) and (K,)
    """
    weight = np.asarray(sizes, np.float64)
    count = float(weight.sum())
    first = np.asarray(means, np.float64)[:, :NUMBERS]
    return round(count), (weight @ first / max(count, 1.0)).astype(np.float32)


def table(bags: Path, slides: Path, splits: Path, folds: Sequence[int]) -> pl.DataFrame:
    """A row per slide of the cohort.

    Returns
    -------
    name (a digest of the slide's), train (folds that were trained on it), n_tiles, mean (of the
    first features of its tiles).
    """
    ids, means, sizes = bagfile.stored(bags)
    trained: dict[int, list[int]] = {row: [] for row in range(len(ids))}
    for fold in folds:
        for row in data.fold_rows(ids, slides, splits, fold).of("train").bag:
            trained[int(row)].append(fold)
    rows = []
    for row, name in enumerate(ids):
        count, mean = fingerprint(means[row], sizes[row])
        rows.append(
            {"name": digest(name), "train": trained[row], "n_tiles": count, "mean": mean.tolist()}
        )
    return pl.DataFrame(rows, schema=SCHEMA).sort("name")


def trained_on(known: pl.DataFrame, name: str) -> int | None:
    """Fold models that were trained on the slide of this name; None if it isn't of the cohort."""
    found = known.filter(pl.col("name") == digest(name))
    return len(found["train"][0]) if found.height else None


def recognised(known: pl.DataFrame, means: ArrayLike, sizes: ArrayLike) -> int | None:
    """Fold models that were trained on a slide with these tiles, whatever its name; or None.

    A slide of which training took a random part of the tiles isn't recognised under another name.
    """
    if known.is_empty():
        return None
    count, mean = fingerprint(means, sizes)
    stored = np.array(known["mean"].to_list(), dtype=np.float64)
    scale = TOLERANCE * stored.std(axis=0) + 1e-6 * np.abs(stored).max(axis=0) + 1e-12
    alike = (np.abs(stored - mean) <= scale).all(axis=1) & (known["n_tiles"].to_numpy() == count)
    if len(known) < 2 or not alike.any():
        return None
    return max(len(folds) for folds in known.filter(pl.Series(alike))["train"])


def empty() -> pl.DataFrame:
    """Of a model that came without the list."""
    return pl.DataFrame(schema=SCHEMA)


def read(folder: Path) -> pl.DataFrame:
    """The list of a model's folder; empty where an older version packaged it."""
    path = folder / FILE
    return pl.read_parquet(path) if path.is_file() else empty()


def words(trained: int, folds: int) -> str:
    """What is to be said of such a slide before all else."""
    if not trained:
        return (
            "This slide is of the cohort that the model was made from, though no fold model was "
            "trained on it: calibration or validation may have used it"
        )
    models = "fold model" if folds == 1 else "fold models"
    return (
        f"This slide was in the training of {trained} of {folds} {models}: its numbers are fitted, "
        "not predicted; p-values and intervals don't hold"
    )


def told(trained: int | None, folds: int) -> dict[str, Any] | None:
    """What a prediction says of it: trained, folds, words; None for a new slide."""
    if trained is None:
        return None
    return {"trained": trained, "folds": folds, "words": words(trained, folds)}
