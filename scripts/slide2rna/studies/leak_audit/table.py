"""Table of the leak audit: rows of each model under each pairing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.core.types import Array, Mask, Row
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.studies.leak_audit.pairings import CLEAN, PUBLISHED, PairedRun

DIFFERENCE = "difference"
SELECTION_SUFFIX, TEST_SUFFIX, POOLED_SUFFIX = "", "-test", "-pooled"
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
    SELECTION_SUFFIX: "genes ranked by what the run picks by",
    TEST_SUFFIX: "genes ranked by the pooled test patients: luck included, so no interval",
    POOLED_SUFFIX: "correlation over the pooled test patients, who also ranked the genes",
}
PICKS = {CLEAN: "val of the fold", PUBLISHED: "the test fold itself: no interval"}


@dataclass(frozen=True)
class PairingScores:
    """Scores of a model under one pairing; a list entry per run.

    Attributes
    ----------
    test : predictions (n, G).
    test_r : (G,) correlations over the test part.
    resampled : (B + 1, K) mean correlation of each gene set that the selection part ranks.
    """

    test: list[Array]
    test_r: list[Array]
    resampled: list[Array]


def counted(runs: Sequence[PairedRun]) -> list[bool]:
    """Flag the runs that enter the mean: as in evaluation, those that test more than three."""
    return [len(run.test.samples) > 3 for run in runs]


def rows(
    name: str,
    runs: Sequence[PairedRun],
    scores: PairingScores,
    eligible: Mask,
    sizes: Sequence[int],
) -> list[Row]:
    """Return all rows of a model under one pairing: per run, and over the runs."""
    pairing = runs[0].pairing
    numbers = [
        {
            "n_train": len(run.train.samples),
            "n_test": len(run.test.samples),
            "n_shared": run.shared,
        }
        for run in runs
    ]
    in_mean = counted(runs)
    left_out = "" if all(in_mean) else "; folds of three or fewer are left out of the mean"
    totals = {
        "n_train": round(np.mean([n["n_train"] for n in numbers])),
        "n_test": sum(n["n_test"] for n in numbers),
        "n_shared": sum(n["n_shared"] for n in numbers),
    }
    out: list[Row] = []

    def add(fold: int | None, gene_set: str, values: Array, genes: int, note: str) -> None:
        """Add a row; `values` are resampled, or a single value where no interval is valid."""
        low, high = bootstrap.interval(values) if len(values) > 1 else (None, None)
        row: Row = {"pairing": pairing, "model": name, "fold": fold}
        row |= {"gene_set": gene_set, "value": values[0], "low": low, "high": high}
        row |= {"n_genes": genes, "note": note}
        out.append(row | (totals if fold is None else numbers[fold]))

    def add_runs(gene_set: str, per_run: Sequence[Array], genes: int, note: str) -> None:
        for fold, values in enumerate(per_run):
            add(fold, gene_set, values, genes, note)
        add(None, gene_set, np.mean(np.array(per_run)[in_mean], axis=0), genes, note + left_out)

    add_runs(
        "all", [values[:, 0] for values in scores.resampled], int(eligible.sum()), NOTES["all"]
    )
    pooled = gene_metrics.pcc(
        np.concatenate(scores.test), np.concatenate([run.test.truth for run in runs])
    )[0]
    order = np.argsort(-np.where(eligible, np.nan_to_num(pooled, nan=-2.0), -3.0), kind="stable")
    add(
        None,
        f"all{POOLED_SUFFIX}",
        _mean(pooled, np.flatnonzero(eligible)),
        int(eligible.sum()),
        "correlation over the pooled test patients",
    )
    for column, k in enumerate(sizes, start=1):
        per_run = [values[: None if pairing == CLEAN else 1, column] for values in scores.resampled]
        add_runs(f"T{k}", per_run, k, f"{NOTES[SELECTION_SUFFIX]}: {PICKS[pairing]}")
        top = order[:k]
        add_runs(
            f"T{k}{TEST_SUFFIX}", [_mean(r, top) for r in scores.test_r], k, NOTES[TEST_SUFFIX]
        )
        add(None, f"T{k}{POOLED_SUFFIX}", _mean(pooled, top), k, NOTES[POOLED_SUFFIX])
    return out


def _mean(r: Array, genes: NDArray[np.int64]) -> Array:
    return np.array([np.nanmean(r[genes])])


def difference(
    name: str, scored: dict[str, PairingScores], eligible: Mask, runs: Sequence[PairedRun]
) -> Row:
    """Return published minus clean on all genes, paired: both test the same patients."""
    in_mean = counted(runs)
    mean = {
        pairing: np.mean(np.array(scores.resampled)[in_mean], axis=0)[:, 0]
        for pairing, scores in scored.items()
    }
    values = mean[PUBLISHED] - mean[CLEAN]
    low, high = bootstrap.interval(values)
    row: Row = {
        "pairing": DIFFERENCE,
        "model": name,
        "gene_set": "all",
        "value": values[0],
    }
    row |= {"low": low, "high": high, "n_genes": int(eligible.sum())}
    return row | {"note": "published minus clean, paired over the test patients"}
