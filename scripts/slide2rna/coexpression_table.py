"""Co-expression of draws, points and nulls against that of the measured test profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna import bootstrap, coexpression, io, lineup
from slide2rna.coexpression import Matrix
from slide2rna.folds import Fold
from slide2rna.parallel import ordered_map
from slide2rna.scoring import Evaluated

Array = NDArray[np.floating]
Key = tuple[str, str]  # model, kind

# At most so many genes, draws of a null (and of the model, where the jackknife leaves patients
# out), and groups of a fold's patients that it leaves out in turn.
GENES, REPLICATES, GROUPS = 2000, 20, 10
TRAIN, MEASURED = "constant", "measured"
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


@dataclass
class OfFold:
    """Scores of one fold on one gene set.

    Attributes
    ----------
    gsc : by model and kind; without : the same without each group of patients (groups,).
    energy : by model and kind (n,) per sample.
    halves : GSC between halves of the test samples, one per split.
    """

    genes: int
    gsc: dict[Key, float] = field(default_factory=dict)
    without: dict[Key, Array] = field(default_factory=dict)
    energy: dict[Key, Array] = field(default_factory=dict)
    halves: Array = field(default_factory=lambda: np.empty(0))


def table(found: Evaluated, threads: int) -> pl.DataFrame:
    """A row per model, kind, metric and gene set (all genes, and the headline set).

    Metrics
    -------
    gsc : correlation of the gene-gene correlations with the measured ones, higher is better.
    energy : energy score over genes in units of their train sd, lower is better; of a point its
        distance from the profile.
    gsc_minus, energy_minus : the draws less another kind or another model's point, paired.
    """
    names = lineup.shown_sets(found.set_names)
    of_folds = [_of_fold(found, index, names, threads) for index in range(len(found.folds))]
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        of_set = [of[place] for of in of_folds]
        rows += _rows(found, of_set, name)
    return pl.DataFrame(rows, schema=SCHEMA)


def _chosen(found: Evaluated, fold: int, name: str) -> NDArray[np.int64]:
    """At most 2,000 genes of a set, the same in all folds as far as the set is."""
    inside = found.inputs[fold].sets[found.model][:, found.set_names.index(name)]
    order = io.rng_for(found.seed, "coexpression").permutation(len(inside))
    return np.sort(order[inside[order]][:GENES])


def _of_fold(found: Evaluated, index: int, names: Sequence[str], threads: int) -> list[OfFold]:
    fold, given = found.folds[index], found.inputs[index]
    sets = [_chosen(found, index, name) for name in names]
    union = np.unique(np.concatenate(sets))
    drawn: list[Array] = []
    if found.draws:
        samples = fold.test_draws()
        drawn = list(ordered_map(lambda item: item[1][:, :, union], samples, threads))
    mean = {(found.model, "mean"): found.draws[index].mean} if found.draws else {}
    points = {(name, "point"): value for name, value in given.test.items() if name != "constant"}
    out = []
    for name, genes in zip(names, sets, strict=True):
        inside = np.searchsorted(union, genes)
        whole = len(inside) == len(union)
        own = drawn if whole else [of[:, :, inside] for of in drawn]
        fixed = {key: value[:, genes] for key, value in (mean | points).items()}
        scored = OfFold(len(genes))
        rng = io.rng_for(found.seed, "coexpression", fold.number, name)
        apart = [coexpression.shuffled(of, rng) for of in own]
        _gsc(found, index, fold, genes, own, apart, fixed, scored, rng, threads)
        _energy(found, index, fold, genes, own, apart, fixed, scored, threads)
        out.append(scored)
    return out


def _gsc(
    found: Evaluated,
    index: int,
    fold: Fold,
    genes: NDArray[np.int64],
    drawn: Sequence[Array],
    apart: Sequence[Array],
    fixed: dict[Key, Array],
    scored: OfFold,
    rng: np.random.Generator,
    threads: int,
) -> None:
    """Fill in the similarity of correlation matrices; nothing for a fold of three or fewer."""
    truth, train = fold.test.truth[:, genes], fold.train.truth[:, genes]
    n = len(truth)
    if n <= 3 or len(genes) < 3:
        return
    picked = rng.integers(len(train), size=(REPLICATES, n))
    halves = [rng.permutation(n) for _ in range(REPLICATES)]
    every = min((of.shape[1] for of in drawn), default=0)
    of_train = Matrix(train)
    everyone = np.arange(n)

    def work(rows: NDArray[np.int64]) -> dict[Key, float]:
        """Of these samples: with all draws if that is everyone."""
        whole = len(rows) == n
        measured = Matrix(truth[rows])
        here = {}
        if drawn:
            own, independent = ([of[row] for row in rows] for of in (drawn, apart))
            count = every if whole else min(REPLICATES, every)
            here[found.model, "draws"] = coexpression.of_draws(truth[rows], own, count)
            value = coexpression.of_draws(truth[rows], independent, min(REPLICATES, every))
            here[found.model, "shuffled-draws"] = value
        for key, values in fixed.items():
            here[key] = Matrix(values[rows]).similarity(measured)
        profiles = [Matrix(train[of[rows]]).similarity(measured) for of in picked]
        here[TRAIN, "train-profiles"] = float(np.mean(profiles))
        here[MEASURED, "train-matrix"] = of_train.similarity(measured)
        return here

    left = [everyone, *_without(fold.test.owners, rng)]
    scored.gsc, *rest = ordered_map(work, left, threads)
    scored.without = {key: np.array([of[key] for of in rest]) for key in scored.gsc}

    def split(of: NDArray[np.int64]) -> float:
        first, second = Matrix(truth[of[: n // 2]]), Matrix(truth[of[n // 2 :]])
        return first.similarity(second)

    scored.halves = np.array(list(ordered_map(split, halves if n >= 8 else [], threads)))


def _without(owners: Sequence[str], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows left when each group of patients in turn is taken out; samples, of a lone patient."""
    names = np.array(owners if len(set(owners)) > 1 else range(len(owners)), dtype=object)
    known = np.unique(names.astype(str))
    groups = np.array_split(rng.permutation(known), min(GROUPS, len(known)))
    rows = [np.flatnonzero(~np.isin(names.astype(str), group)) for group in groups]
    return [of for of in rows if len(of) > 2]


def _energy(
    found: Evaluated,
    index: int,
    fold: Fold,
    genes: NDArray[np.int64],
    drawn: Sequence[Array],
    apart: Sequence[Array],
    fixed: dict[Key, Array],
    scored: OfFold,
    threads: int,
) -> None:
    """Fill in the energy scores, over genes in units of their train sd."""
    mean, sd = (of[genes].astype(np.float32) for of in found.train[index])
    sd = np.where(sd > 0, sd, np.float32(1))

    def z(values: Array) -> Array:
        return (np.asarray(values, dtype=np.float32) - mean) / sd

    truth = z(fold.test.truth[:, genes])
    for kind, of in (("draws", drawn), ("shuffled-draws", apart)):
        if of and min(one.shape[1] for one in of) > 1:
            pairs = zip(of, truth, strict=True)
            scores = ordered_map(
                lambda pair: coexpression.energy(z(pair[0]), pair[1]), pairs, threads
            )
            scored.energy[found.model, kind] = np.array(list(scores))
    for key, values in fixed.items():
        distance = np.sqrt(np.square(z(values) - truth).mean(axis=1, dtype=np.float64))
        scored.energy[key] = distance
    if len(fold.train.truth) > 1:
        profiles = z(fold.train.truth[:, genes])
        of_train = coexpression.energy_of_profiles(profiles, truth)
        scored.energy[TRAIN, "train-profiles"] = of_train


def _rows(found: Evaluated, of_folds: Sequence[OfFold], name: str) -> list[dict[str, Any]]:
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
