"""Variant scores: variants of a run (ablations, samplers), each compared with a base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import fold_scores, folds, summary
from slide2rna.evaluation.scoring.evaluated import Evaluated

SHARED = ("gene_set", "metric", "value", "low", "high", "n_patients", "n_genes", "note")


def variant_rows(table: pl.DataFrame, label: str, metrics: Sequence[str]) -> list[Row]:
    """Return a variant's rows of the clean summary, each on the genes that its val ranks."""
    variant = table.filter((pl.col("model") == label) & pl.col("metric").is_in(list(metrics)))
    return [{key: row[key] for key in SHARED} for row in variant.iter_rows(named=True)]


def difference_rows(
    table: pl.DataFrame, base: str, label: str, metrics: Sequence[str], name: str
) -> list[Row]:
    """Return variant minus base on the base's genes, from the base's paired differences.

    Parameters
    ----------
    base, label : the two models of the summary.
    name : name of the base in the new rows: `<metric>_minus:<name>`.
    """
    rows = []
    for metric in metrics:
        paired = table.filter(
            (pl.col("model") == base) & (pl.col("metric") == f"{metric}_minus:{label}")
        )
        for row in paired.iter_rows(named=True):
            flipped = {"value": _negate(row["value"]), "metric": f"{metric}_minus:{name}"}
            flipped |= {"low": _negate(row["high"]), "high": _negate(row["low"])}
            rows.append({key: (row | flipped)[key] for key in SHARED})
    return rows


def _negate(value: float | None) -> float | None:
    return None if value is None else -value


def interval_means(
    evaluated: Evaluated, variant_folds: list[folds.Fold], levels: Sequence[float]
) -> dict[float, tuple[Array, Array]]:
    """Return coverage and width of the draws' central intervals.

    Parameters
    ----------
    variant_folds : a variant's folds.
    levels : nominal levels; those that its draws can't attain are omitted.

    Returns
    -------
    dict
        Per level, bootstrapped means over patients on the base's gene sets, (B + 1, K) each.
    """
    inside: dict[float, list[Array]] = {level: [] for level in levels}
    for fold, predictions in zip(variant_folds, evaluated.predictions, strict=True):
        weights = fold_scores.set_weights(
            predictions.sets[evaluated.model], np.ones_like(predictions.eligible)
        )
        by_level = {
            level: np.empty((2, len(predictions.truth), weights.shape[1])) for level in inside
        }
        for row, raw in fold.test_draws():
            ordered = np.sort(raw.reshape(-1, raw.shape[-1]).astype(np.float32), axis=0).T
            truth = predictions.truth[row]
            for level in list(by_level):
                if not gene_metrics.attainable(level, ordered.shape[1]):
                    del by_level[level], inside[level]
                    continue
                low, high = gene_metrics.central_interval(ordered, level)
                hit = ((low <= truth) & (truth <= high)).astype(np.float32)
                by_level[level][:, row] = hit @ weights, (high - low) @ weights
        for level, values in by_level.items():
            inside[level].append(predictions.counts @ values / values.shape[1])
    sizes = [len(predictions.truth) for predictions in evaluated.predictions]
    means = {level: np.average(values, axis=0, weights=sizes) for level, values in inside.items()}
    return {level: (mean[0], mean[1]) for level, mean in means.items()}


def interval_rows(
    evaluated: Evaluated,
    metric: str,
    values: Array,
    ends: tuple[float, float] = (-np.inf, np.inf),
    note: str = "",
) -> list[Row]:
    """Return a row per gene set of the base from bootstrapped values (B + 1, K), cut at `ends`."""
    low, high = (edge.clip(*ends) for edge in bootstrap.interval(values))
    counts = [
        predictions.sets[evaluated.model].sum(axis=0) for predictions in evaluated.predictions
    ]
    return [
        {
            "gene_set": gene_set,
            "metric": metric,
            "value": float(values[0, column]),
            "low": float(low[column]),
            "high": float(high[column]),
            "n_patients": sum(predictions.patients for predictions in evaluated.predictions),
            "n_genes": round(float(np.mean([count[column] for count in counts]))),
            "note": note,
        }
        for column, gene_set in enumerate(evaluated.set_names)
    ]


def guidance_note(variant_folds: list[folds.Fold]) -> str:
    """Return the caution that belongs to intervals of guided draws, else an empty text."""
    return (
        f"guided: {summary.UNCLAIMED}" if {fold.guidance for fold in variant_folds} - {1.0} else ""
    )
