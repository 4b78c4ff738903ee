"""Co-expression table: draws, points and nulls against the measured test profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna.core import seeds
from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap, coexpression
from slide2rna.evaluation.scoring import labels
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.uncertainty.coexpression_fold import (
    GROUPS,
    MEASURED,
    REPLICATES,
    FoldCoexpression,
    FoldProfiles,
    Key,
    score,
)

GENES = 2000  # maximum
# Kinds that need no draws.
FIXED = ("point", "mean", "train-matrix")
SCHEMA = {
    "model": pl.String,
    "kind": pl.String,
    "metric": pl.String,
    "gene_set": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_patients": pl.Int64,
    "n_genes": pl.Int64,
    "note": pl.String,
}
NOTES = {
    "draws": "one draw of each patient at a time, mean over draws",
    "shuffled-draws": "the same draws, each gene's in an order of its own: independent genes",
    "mean": "mean of a patient's draws",
    "train-profiles": "a train patient's profile drawn at random for each, no image",
    "train-matrix": "ceiling: all train profiles, as many as there are",
    "truth-halves": "ceiling: test patients in two halves, so half as many; 5th to 95th percentile "
    "of splits",
}


def table(evaluated: Evaluated, threads: int) -> pl.DataFrame:
    """Return a row per model, kind, metric and gene set (all genes, and the headline set).

    Metrics
    -------
    gsc : correlation of the gene-gene correlations with the measured ones, higher is better.
    energy : energy score over genes in units of their train sd, lower is better; for a point its
        distance from the profile.
    gsc_minus, energy_minus : the draws minus another kind or another model's point, paired.
    """
    names = labels.shown_sets(evaluated.set_names)
    by_fold = [
        _score_fold(evaluated, index, names, threads) for index in range(len(evaluated.folds))
    ]
    rows: list[Row] = []
    for column, name in enumerate(names):
        set_scores = [scores[column] for scores in by_fold]
        rows += _set_rows(evaluated, set_scores, name)
    return pl.DataFrame(rows, schema=SCHEMA)


def _choose_genes(evaluated: Evaluated, fold: int, name: str) -> NDArray[np.int64]:
    """Choose at most 2,000 genes of a set, the same in all folds as far as the sets agree."""
    inside = evaluated.predictions[fold].sets[evaluated.model][:, evaluated.set_names.index(name)]
    order = seeds.rng_for(evaluated.seed, "coexpression").permutation(len(inside))
    return np.sort(order[inside[order]][:GENES])


def _score_fold(
    evaluated: Evaluated, index: int, names: Sequence[str], threads: int
) -> list[FoldCoexpression]:
    fold, predictions = evaluated.folds[index], evaluated.predictions[index]
    mean, sd = evaluated.train_moments[index]
    sets = [_choose_genes(evaluated, index, name) for name in names]
    union = np.unique(np.concatenate(sets))
    fixed = {
        (name, "point"): value for name, value in predictions.test.items() if name != "constant"
    }
    drawn: list[Array] = []
    if evaluated.draw_scores:
        fixed = {(evaluated.model, "mean"): evaluated.draw_scores[index].mean} | fixed
        samples = fold.test_draws()
        drawn = list(ordered_map(lambda item: item[1][:, :, union], samples, threads))
    out = []
    for name, genes in zip(names, sets, strict=True):
        inside = np.searchsorted(union, genes)
        all_genes = len(inside) == len(union)
        set_draws = drawn if all_genes else [draws[:, :, inside] for draws in drawn]
        rng = seeds.rng_for(evaluated.seed, "coexpression", fold.number, name)
        profiles = FoldProfiles(
            model=evaluated.model,
            scale=(mean[genes], sd[genes]),
            truth=fold.test.truth[:, genes],
            train=fold.train.truth[:, genes],
            patient_ids=fold.test.patient_ids,
            drawn=set_draws,
            shuffled=[coexpression.shuffled(draws, rng) for draws in set_draws],
            fixed={key: value[:, genes] for key, value in fixed.items()},
        )
        out.append(score(profiles, rng, threads))
    return out


def _set_rows(evaluated: Evaluated, by_fold: Sequence[FoldCoexpression], name: str) -> list[Row]:
    counts = [predictions.counts for predictions in evaluated.predictions]
    base: Row = {
        "gene_set": name,
        "n_patients": sum(predictions.patients for predictions in evaluated.predictions),
        "n_genes": round(float(np.mean([fold.genes for fold in by_fold]))),
    }
    draws_key = (evaluated.model, "draws")
    rows: list[Row] = []
    scored = [fold for fold in by_fold if fold.gsc]
    for key in scored[0].gsc if scored else []:
        spread = _jackknife(
            [fold.gsc[key] for fold in scored], [fold.without[key] for fold in scored]
        )
        rows.append(base | _score_row(key, "gsc", *spread))
        if draws_key in scored[0].gsc and key not in (draws_key, (MEASURED, "train-matrix")):
            spread = _jackknife(
                [fold.gsc[draws_key] - fold.gsc[key] for fold in scored],
                [fold.without[draws_key] - fold.without[key] for fold in scored],
            )
            rows.append(base | _score_row(draws_key, f"gsc_minus:{_opponent(key)}", *spread))
    if scored and all(len(fold.halves) for fold in scored):
        halves = np.mean([fold.halves for fold in scored], axis=0)
        low, high = np.quantile(halves, [0.05, 0.95])
        rows.append(base | _score_row((MEASURED, "truth-halves"), "gsc", halves.mean(), low, high))
    energy = {key: [fold.energy[key] for fold in by_fold] for key in by_fold[0].energy}
    for key, parts in energy.items():
        rows.append(base | _score_row(key, "energy", *bootstrap.over_patients(counts, parts)))
        if draws_key in energy and key != draws_key:
            difference = [a - b for a, b in zip(energy[draws_key], parts, strict=True)]
            difference_ci = bootstrap.over_patients(counts, difference)
            rows.append(
                base | _score_row(draws_key, f"energy_minus:{_opponent(key)}", *difference_ci)
            )
    return rows


def _opponent(key: Key) -> str:
    """Name the other side of a difference: a kind, or another model for its point."""
    model, kind = key
    return kind if kind != "point" else f"{model}/point"


def _jackknife(values: Sequence[float], without: Sequence[Array]) -> tuple[float, float, float]:
    """Return the mean over folds with its 95 % interval, by leaving out groups of patients.

    The delete-a-group jackknife (Shao and Tu 1995, section 2.3). A bootstrap would draw patients
    twice, and a duplicated patient looks like co-expression.
    """
    value, variance, freedom = float(np.mean(values)), 0.0, 0
    for left_out in without:
        groups = len(left_out)
        if groups < 2:
            return value, np.nan, np.nan
        variance += float((groups - 1) / groups * np.square(left_out - left_out.mean()).sum())
        freedom += groups - 1
    half = float(stats.t.ppf(0.975, freedom)) * np.sqrt(variance) / len(values)
    return value, value - half, value + half


def _score_row(key: Key, metric: str, value: Any, low: Any, high: Any) -> Row:
    model, kind = key
    note = NOTES.get(kind, "")
    if metric.startswith("gsc") and kind != "truth-halves":
        jackknife = f"jackknife over {GROUPS} groups of patients a fold"
        if kind not in FIXED:
            jackknife += f", on at most {REPLICATES} draws"
        note = "; ".join(filter(None, [note, jackknife]))
    out = {"model": model, "kind": kind, "metric": metric, "value": float(value), "note": note}
    return out | ({"low": float(low), "high": float(high)} if np.isfinite(low) else {})
