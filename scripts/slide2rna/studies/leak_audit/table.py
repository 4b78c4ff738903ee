"""Rows of the leak audit's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.core.types import Array, Mask
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.studies.leak_audit.pairings import CLEAN, PUBLISHED, PairedRun

DIFFERENCE = "difference"
PICKED, TESTED, POOLED = "", "-test", "-pooled"
SCHEMA = {
    "pairing": pl.String,
    "model": pl.String,
    "fold": pl.Int64,
    "gene_set": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_train": pl.Int64,
    "n_test": pl.Int64,
    "n_shared": pl.Int64,
    "n_genes": pl.Int64,
    "note": pl.String,
}
NOTES = {
    "all": "genes that vary in every training set",
    PICKED: "genes ranked by what the run picks by",
    TESTED: "genes ranked by the pooled test patients: luck included, so no interval",
    POOLED: "correlation over the pooled test patients, who also ranked the genes",
}
PICKS = {CLEAN: "val of the fold", PUBLISHED: "the test fold itself: no interval"}


@dataclass
class PairingScores:
    """A model under one pairing; lists run over the runs.

    Attributes
    ----------
    test : predictions (n, G).
    ranks : (G,) correlations with what the run picks by.
    resampled : (B + 1, K) mean correlation of each set of `picked_sets`.
    """

    test: list[Array]
    ranks: list[Array]
    resampled: list[Array]


def counted(runs: Sequence[PairedRun]) -> list[bool]:
    """Which runs a mean is taken over: as in evaluation, those that test more than three."""
    return [len(run.test.samples) > 3 for run in runs]


def rows(
    name: str, runs: Sequence[PairedRun], found: PairingScores, eligible: Mask, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """All rows of a model under one pairing: per run, and over the runs."""
    pairing = runs[0].pairing
    numbers = [
        {
            "n_train": len(run.train.samples),
            "n_test": len(run.test.samples),
            "n_shared": run.shared,
        }
        for run in runs
    ]
    kept = counted(runs)
    left_out = "" if all(kept) else "; folds of three or fewer are left out of the mean"
    whole = {
        "n_train": round(np.mean([n["n_train"] for n in numbers])),
        "n_test": sum(n["n_test"] for n in numbers),
        "n_shared": sum(n["n_shared"] for n in numbers),
    }
    out: list[dict[str, Any]] = []

    def add(fold: int | None, gene_set: str, values: Array, genes: int, note: str) -> None:
        """A row; `values` are the resampled ones, or the value alone where none are honest."""
        low, high = bootstrap.interval(values) if len(values) > 1 else (None, None)
        row: dict[str, Any] = {"pairing": pairing, "model": name, "fold": fold}
        row |= {"gene_set": gene_set, "value": values[0], "low": low, "high": high}
        row |= {"n_genes": genes, "note": note}
        out.append(row | (whole if fold is None else numbers[fold]))

    def each(gene_set: str, per_run: Sequence[Array], genes: int, note: str) -> None:
        for fold, values in enumerate(per_run):
            add(fold, gene_set, values, genes, note)
        add(None, gene_set, np.mean(np.array(per_run)[kept], axis=0), genes, note + left_out)

    each("all", [values[:, 0] for values in found.resampled], int(eligible.sum()), NOTES["all"])
    pooled = gene_metrics.pcc(
        np.concatenate(found.test), np.concatenate([run.test.truth for run in runs])
    )[0]
    order = np.argsort(-np.where(eligible, np.nan_to_num(pooled, nan=-2.0), -3.0), kind="stable")
    add(
        None,
        f"all{POOLED}",
        _mean(pooled, np.flatnonzero(eligible)),
        int(eligible.sum()),
        "correlation over the pooled test patients",
    )
    for column, k in enumerate(sizes, start=1):
        per_run = [values[: None if pairing == CLEAN else 1, column] for values in found.resampled]
        each(f"T{k}", per_run, k, f"{NOTES[PICKED]}: {PICKS[pairing]}")
        top = order[:k]
        each(f"T{k}{TESTED}", [_mean(r, top) for r in found.ranks], k, NOTES[TESTED])
        add(None, f"T{k}{POOLED}", _mean(pooled, top), k, NOTES[POOLED])
    return out


def _mean(r: Array, genes: NDArray[np.int64]) -> Array:
    return np.array([np.nanmean(r[genes])])


def difference(
    name: str, scored: dict[str, PairingScores], eligible: Mask, runs: Sequence[PairedRun]
) -> dict[str, Any]:
    """Published minus clean on all genes; both test the same patients, so it is paired."""
    kept = counted(runs)
    mean = {
        pairing: np.mean(np.array(found.resampled)[kept], axis=0)[:, 0]
        for pairing, found in scored.items()
    }
    values = mean[PUBLISHED] - mean[CLEAN]
    low, high = bootstrap.interval(values)
    row: dict[str, Any] = {
        "pairing": DIFFERENCE,
        "model": name,
        "gene_set": "all",
        "value": values[0],
    }
    row |= {"low": low, "high": high, "n_genes": int(eligible.sum())}
    return row | {"note": "published minus clean, paired over the test patients"}
