"""Scores of variants of a run, each held against one of them: ablations, and samplers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import fold_scores, folds, summary
from slide2rna.evaluation.scoring.evaluated import Evaluated

SHARED = ("gene_set", "metric", "value", "low", "high", "n_patients", "n_genes", "note")


def scores(table: pl.DataFrame, label: str, metrics: Sequence[str]) -> list[Row]:
    """A variant's own rows of the clean summary, each on the genes that its own val ranks."""
    own = table.filter((pl.col("model") == label) & pl.col("metric").is_in(list(metrics)))
    return [{key: row[key] for key in SHARED} for row in own.iter_rows(named=True)]


def differences(
    table: pl.DataFrame, base: str, label: str, metrics: Sequence[str], name: str
) -> list[Row]:
    """Variant minus base on the base's genes, from the base's paired differences.

    Parameters
    ----------
    base, label : the two models of the summary.
    name : of the base in the new rows: `<metric>_minus:<name>`.
    """
    rows = []
    for metric in metrics:
        paired = table.filter(
            (pl.col("model") == base) & (pl.col("metric") == f"{metric}_minus:{label}")
        )
        for row in paired.iter_rows(named=True):
            turned = {"value": _minus(row["value"]), "metric": f"{metric}_minus:{name}"}
            turned |= {"low": _minus(row["high"]), "high": _minus(row["low"])}
            rows.append({key: (row | turned)[key] for key in SHARED})
    return rows


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def intervals(
    found: Evaluated, of: list[folds.Fold], levels: Sequence[float]
) -> dict[float, tuple[Array, Array]]:
    """Of the draws' central intervals the share that holds the measured value, and their width.

    Parameters
    ----------
    of : a variant's folds.
    levels : those that its draws can't attain are left out.

    Returns
    -------
    dict
        Per level, bootstrapped means over patients on the base's gene sets, (B + 1, K) each.
    """
    inside: dict[float, list[Array]] = {level: [] for level in levels}
    for fold, given in zip(of, found.inputs, strict=True):
        weights = fold_scores.set_weights(given.sets[found.model], np.ones_like(given.eligible))
        both = {level: np.empty((2, len(given.truth), weights.shape[1])) for level in inside}
        for row, raw in fold.test_draws():
            ordered = np.sort(raw.reshape(-1, raw.shape[-1]).astype(np.float32), axis=0).T
            truth = given.truth[row]
            for level in list(both):
                if not gene_metrics.attainable(level, ordered.shape[1]):
                    del both[level], inside[level]
                    continue
                low, high = gene_metrics.central_interval(ordered, level)
                hit = ((low <= truth) & (truth <= high)).astype(np.float32)
                both[level][:, row] = hit @ weights, (high - low) @ weights
        for level, values in both.items():
            inside[level].append(given.counts @ values / values.shape[1])
    sizes = [len(given.truth) for given in found.inputs]
    means = {level: np.average(values, axis=0, weights=sizes) for level, values in inside.items()}
    return {level: (mean[0], mean[1]) for level, mean in means.items()}


def rows(
    found: Evaluated,
    metric: str,
    values: Array,
    ends: tuple[float, float] = (-np.inf, np.inf),
    note: str = "",
) -> list[Row]:
    """A row per gene set of the base from bootstrapped values (B + 1, K), cut at `ends`."""
    low, high = (edge.clip(*ends) for edge in bootstrap.interval(values))
    counts = [given.sets[found.model].sum(axis=0) for given in found.inputs]
    return [
        {
            "gene_set": gene_set,
            "metric": metric,
            "value": float(values[0, column]),
            "low": float(low[column]),
            "high": float(high[column]),
            "n_patients": sum(given.patients for given in found.inputs),
            "n_genes": round(float(np.mean([count[column] for count in counts]))),
            "note": note,
        }
        for column, gene_set in enumerate(found.set_names)
    ]


def guided(of: list[folds.Fold]) -> str:
    """What must be said beside the intervals of guided draws."""
    return f"guided: {summary.UNCLAIMED}" if {fold.guidance for fold in of} - {1.0} else ""
