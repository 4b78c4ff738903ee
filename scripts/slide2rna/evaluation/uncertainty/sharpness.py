"""How narrow the draws are: sharpness counts for as much as calibration, and only beside it.

Gneiting, Balabdaoui and Raftery (2007), doi:10.1111/j.1467-9868.2007.00587.x. The train profiles
taken as draws are calibrated without any image; intervals that are no narrower say no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring.draw_scores import DrawScores, Moments
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.scoring.fold_scores import set_weights

NULL = "train-profiles"


def rows(
    found: Evaluated, moments: Sequence[Moments | DrawScores], levels: Sequence[float]
) -> list[dict[str, Any]]:
    """Rows of the calibration table: mean width of an interval, and mean sd (interval null).

    Parameters
    ----------
    moments : per fold, of the draws.
    levels : of the intervals; those that the draws or the train profiles can't give are left out.
    """
    sets = [given.sets[found.model] for given in found.inputs]
    weights = [set_weights(of, np.ones(len(of), dtype=bool)) for of in sets]
    sds = [np.sqrt(of.variance) @ w for of, w in zip(moments, weights, strict=True)]
    made: list[tuple[float | None, str, list[Array]]] = [(None, "draws", sds)]
    for level in levels:
        place = [np.flatnonzero(np.isclose(of.levels, level)) for of in found.draws]
        if place and all(map(len, place)):
            widths = [of.set_width[at[0]] for of, at in zip(found.draws, place, strict=True)]
            made.append((float(level), "draws", widths))
    ordered = [np.sort(fold.train.truth, axis=0).T for fold in found.folds]
    null: list[tuple[float | None, list[Array]]] = [
        (None, [of.std(axis=1, ddof=1) for of in ordered])
    ]
    for level in levels:
        if all(gene_metrics.attainable(level, of.shape[1]) for of in ordered):
            ends = [gene_metrics.central_interval(of, level) for of in ordered]
            null.append((float(level), [high - low for low, high in ends]))
    for of_level, values in null:
        same: list[Array] = [
            np.tile(of_genes @ w, (len(given.truth), 1))
            for of_genes, w, given in zip(values, weights, found.inputs, strict=True)
        ]
        made.append((of_level, NULL, same))
    return [row for at, kind, values in made for row in _of_sets(found, at, kind, values)]


def _of_sets(
    found: Evaluated, level: float | None, kind: str, values: Sequence[Array]
) -> list[dict[str, Any]]:
    value, low, high = bootstrap.over_patients([given.counts for given in found.inputs], values)
    base = {"quantity": "sharpness", "kind": kind, "within": "pooled", "n": sum(map(len, values))}
    base |= {
        "interval": level,
        "note": "mean sd" if level is None else "mean width of the interval",
    }
    if kind == NULL:
        base["note"] = f"{base['note']} of the train profiles, no image"
    return [
        base
        | {"gene_set": name, "value": value[column], "width": value[column]}
        | {"low": low[column], "high": high[column]}
        for column, name in enumerate(found.set_names)
    ]
