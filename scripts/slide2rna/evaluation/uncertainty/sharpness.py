"""Sharpness of draws: the width of intervals, which matters once they are calibrated.

Gneiting, Balabdaoui and Raftery (2007), doi:10.1111/j.1467-9868.2007.00587.x. The train profiles
taken as draws are calibrated without any image; intervals that are no narrower add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring.draw_scores import DrawScores, Moments
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.scoring.fold_scores import set_weights

TRAIN_PROFILES = "train-profiles"


def rows(
    evaluated: Evaluated, moments: Sequence[Moments | DrawScores], levels: Sequence[float]
) -> list[Row]:
    """Return calibration rows: mean width of an interval, and mean sd (interval null).

    Parameters
    ----------
    moments : moments of the draws, per fold.
    levels : nominal levels; those that draws or train profiles can't attain are omitted.
    """
    fold_sets = [predictions.sets[evaluated.model] for predictions in evaluated.predictions]
    weights = [set_weights(sets, np.ones(len(sets), dtype=bool)) for sets in fold_sets]
    sds = [np.sqrt(fold.variance) @ w for fold, w in zip(moments, weights, strict=True)]
    entries: list[tuple[float | None, str, list[Array]]] = [(None, "draws", sds)]
    for level in levels:
        matches = [
            np.flatnonzero(np.isclose(draws.levels, level)) for draws in evaluated.draw_scores
        ]
        if matches and all(map(len, matches)):
            widths = [
                draws.set_width[index[0]]
                for draws, index in zip(evaluated.draw_scores, matches, strict=True)
            ]
            entries.append((float(level), "draws", widths))
    ordered = [np.sort(fold.train.truth, axis=0).T for fold in evaluated.folds]
    null: list[tuple[float | None, list[Array]]] = [
        (None, [train.std(axis=1, ddof=1) for train in ordered])
    ]
    for level in levels:
        if all(gene_metrics.attainable(level, train.shape[1]) for train in ordered):
            ends = [gene_metrics.central_interval(train, level) for train in ordered]
            null.append((float(level), [high - low for low, high in ends]))
    for null_level, values in null:
        repeated: list[Array] = [
            np.tile(gene_values @ w, (len(predictions.truth), 1))
            for gene_values, w, predictions in zip(
                values, weights, evaluated.predictions, strict=True
            )
        ]
        entries.append((null_level, TRAIN_PROFILES, repeated))
    return [
        row
        for entry_level, kind, values in entries
        for row in _set_rows(evaluated, entry_level, kind, values)
    ]


def _set_rows(
    evaluated: Evaluated, level: float | None, kind: str, values: Sequence[Array]
) -> list[Row]:
    value, low, high = bootstrap.over_patients(
        [predictions.counts for predictions in evaluated.predictions], values
    )
    base = {"quantity": "sharpness", "kind": kind, "within": "pooled", "n": sum(map(len, values))}
    base |= {
        "interval": level,
        "note": "mean sd" if level is None else "mean width of the interval",
    }
    if kind == TRAIN_PROFILES:
        base["note"] = f"{base['note']} of the train profiles, no image"
    return [
        base
        | {"gene_set": name, "value": value[column], "width": value[column]}
        | {"low": low[column], "high": high[column]}
        for column, name in enumerate(evaluated.set_names)
    ]
