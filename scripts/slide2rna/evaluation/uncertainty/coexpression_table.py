"""Co-expression of draws, points and nulls against that of the measured test profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna.core import seeds
from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
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

GENES = 2000  # at most so many
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


def table(found: Evaluated, threads: int) -> pl.DataFrame:
    """A row per model, kind, metric and gene set (all genes, and the headline set).

    Metrics
    -------
    gsc : correlation of the gene-gene correlations with the measured ones, higher is better.
    energy : energy score over genes in units of their train sd, lower is better; of a point its
        distance from the profile.
    gsc_minus, energy_minus : the draws less another kind or another model's point, paired.
    """
    names = labels.shown_sets(found.set_names)
    of_folds = [_of_fold(found, index, names, threads) for index in range(len(found.folds))]
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        of_set = [of[place] for of in of_folds]
        rows += _rows(found, of_set, name)
    return pl.DataFrame(rows, schema=SCHEMA)


def _chosen(found: Evaluated, fold: int, name: str) -> NDArray[np.int64]:
    """At most 2,000 genes of a set, the same in all folds as far as the set is."""
    inside = found.inputs[fold].sets[found.model][:, found.set_names.index(name)]
    order = seeds.rng_for(found.seed, "coexpression").permutation(len(inside))
    return np.sort(order[inside[order]][:GENES])


def _of_fold(
    found: Evaluated, index: int, names: Sequence[str], threads: int
) -> list[FoldCoexpression]:
    fold, given = found.folds[index], found.inputs[index]
    mean, sd = found.train[index]
    sets = [_chosen(found, index, name) for name in names]
    union = np.unique(np.concatenate(sets))
    fixed = {(name, "point"): value for name, value in given.test.items() if name != "constant"}
    drawn: list[Array] = []
    if found.draws:
        fixed = {(found.model, "mean"): found.draws[index].mean} | fixed
        samples = fold.test_draws()
        drawn = list(ordered_map(lambda item: item[1][:, :, union], samples, threads))
    out = []
    for name, genes in zip(names, sets, strict=True):
        inside = np.searchsorted(union, genes)
        whole = len(inside) == len(union)
        own = drawn if whole else [of[:, :, inside] for of in drawn]
        rng = seeds.rng_for(found.seed, "coexpression", fold.number, name)
        part = FoldProfiles(
            model=found.model,
            scale=(mean[genes], sd[genes]),
            truth=fold.test.truth[:, genes],
            train=fold.train.truth[:, genes],
            owners=fold.test.owners,
            drawn=own,
            apart=[coexpression.shuffled(of, rng) for of in own],
            fixed={key: value[:, genes] for key, value in fixed.items()},
        )
        out.append(score(part, rng, threads))
    return out


def _rows(
    found: Evaluated, of_folds: Sequence[FoldCoexpression], name: str
) -> list[dict[str, Any]]:
    counts = [given.counts for given in found.inputs]
    base: dict[str, Any] = {
        "gene_set": name,
        "n_patients": sum(given.patients for given in found.inputs),
        "n_genes": round(float(np.mean([of.genes for of in of_folds]))),
    }
    own = (found.model, "draws")
    rows: list[dict[str, Any]] = []
    kept = [of for of in of_folds if of.gsc]
    for key in kept[0].gsc if kept else []:
        spread = _jackknife([of.gsc[key] for of in kept], [of.without[key] for of in kept])
        rows.append(base | _row(key, "gsc", *spread))
        if own in kept[0].gsc and key not in (own, (MEASURED, "train-matrix")):
            spread = _jackknife(
                [of.gsc[own] - of.gsc[key] for of in kept],
                [of.without[own] - of.without[key] for of in kept],
            )
            rows.append(base | _row(own, f"gsc_minus:{_other(key)}", *spread))
    if kept and all(len(of.halves) for of in kept):
        halves = np.mean([of.halves for of in kept], axis=0)
        low, high = np.quantile(halves, [0.05, 0.95])
        rows.append(base | _row((MEASURED, "truth-halves"), "gsc", halves.mean(), low, high))
    energy = {key: [of.energy[key] for of in of_folds] for key in of_folds[0].energy}
    for key, parts in energy.items():
        rows.append(base | _row(key, "energy", *bootstrap.over_patients(counts, parts)))
        if own in energy and key != own:
            less = [a - b for a, b in zip(energy[own], parts, strict=True)]
            apart = bootstrap.over_patients(counts, less)
            rows.append(base | _row(own, f"energy_minus:{_other(key)}", *apart))
    return rows


def _other(key: Key) -> str:
    """The other side of a difference: a kind, or another model for its point."""
    model, kind = key
    return kind if kind != "point" else f"{model}/point"


def _jackknife(values: Sequence[float], without: Sequence[Array]) -> tuple[float, float, float]:
    """Mean over folds with its 95 % interval, from leaving out groups of patients in each fold.

    The delete-a-group jackknife (Shao and Tu 1995, section 2.3). A bootstrap would draw patients
    twice, and a patient that is there twice looks like co-expression.
    """
    value, variance, freedom = float(np.mean(values)), 0.0, 0
    for of in without:
        groups = len(of)
        if groups < 2:
            return value, np.nan, np.nan
        variance += float((groups - 1) / groups * np.square(of - of.mean()).sum())
        freedom += groups - 1
    half = float(stats.t.ppf(0.975, freedom)) * np.sqrt(variance) / len(values)
    return value, value - half, value + half


def _row(key: Key, metric: str, value: Any, low: Any, high: Any) -> dict[str, Any]:
    model, kind = key
    note = NOTES.get(kind, "")
    if metric.startswith("gsc") and kind != "truth-halves":
        jackknife = f"jackknife over {GROUPS} groups of patients a fold"
        if kind not in FIXED:
            jackknife += f", on at most {REPLICATES} draws"
        note = "; ".join(filter(None, [note, jackknife]))
    out = {"model": model, "kind": kind, "metric": metric, "value": float(value), "note": note}
    return out | ({"low": float(low), "high": float(high)} if np.isfinite(low) else {})
