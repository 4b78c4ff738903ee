"""The slides that a model was made from: a slide among them isn't predicted, but fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from slide2rna.data import fold_rows
from slide2rna.features import bag_file

FILE = "known_slides.parquet"
SCHEMA: Any = {
    "name": pl.String,
    "train": pl.List(pl.Int64),
    "n_tiles": pl.Int64,
    "mean": pl.List(pl.Float32),
}
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


def training_table(bags: Path, slides: Path, splits: Path, folds: Sequence[int]) -> pl.DataFrame:
    """A row per slide of the cohort.

    Returns
    -------
    name (a digest of the slide's), train (folds that were trained on it), n_tiles, mean (of the
    first features of its tiles).
    """
    ids, means, sizes = bag_file.stored(bags)
    trained: dict[int, list[int]] = {row: [] for row in range(len(ids))}
    for fold in folds:
        for row in fold_rows.fold_rows(ids, slides, splits, fold).of("train").bag:
            trained[int(row)].append(fold)
    rows = []
    for row, name in enumerate(ids):
        count, mean = fingerprint(means[row], sizes[row])
        rows.append(
            {"name": digest(name), "train": trained[row], "n_tiles": count, "mean": mean.tolist()}
        )
    return pl.DataFrame(rows, schema=SCHEMA).sort("name")


def match_by_name(known: pl.DataFrame, name: str) -> int | None:
    """Fold models that were trained on the slide of this name; None if it isn't of the cohort."""
    found = known.filter(pl.col("name") == digest(name))
    return len(found["train"][0]) if found.height else None


def match_by_tiles(known: pl.DataFrame, means: ArrayLike, sizes: ArrayLike) -> int | None:
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


def empty_table() -> pl.DataFrame:
    """Of a model that came without the list."""
    return pl.DataFrame(schema=SCHEMA)


def read_table(folder: Path) -> pl.DataFrame:
    """The list of a model's folder; empty where an older version packaged it."""
    path = folder / FILE
    return pl.read_parquet(path) if path.is_file() else empty_table()


def training_facts(
    known: pl.DataFrame, name: str, means: ArrayLike, sizes: ArrayLike
) -> dict[str, int | str | None]:
    """What is known of a slide, for the facts of its prediction.

    Returns
    -------
    trained_folds (fold models that were trained on it; None for a new slide), trained_as (tiles:
    it is that slide; name: its name is the same, its tiles aren't; None).
    """
    by_tiles, by_name = match_by_tiles(known, means, sizes), match_by_name(known, name)
    if by_tiles is not None:
        return {"trained_folds": by_tiles, "trained_as": "tiles"}
    return {"trained_folds": by_name, "trained_as": None if by_name is None else "name"}


def in_sample_note(trained: int, folds: int, by: str | None = "tiles") -> str:
    """What is to be said of such a slide before all else; `by` as `told` gives it."""
    which = "A slide of this name" if by == "name" else "This slide"
    if not trained:
        return (
            f"{which} is of the cohort that the model was made from; no fold model was trained on "
            "it, but calibration or the choice of the best epoch may have used it."
        )
    what = f"{which} was in the training of {trained} of {folds} fold models"
    if by == "name":
        return f"{what}: if it is this one, the numbers are fitted, not predicted."
    return f"{what}: its numbers are fitted, not predicted; p-values and intervals don't hold."
