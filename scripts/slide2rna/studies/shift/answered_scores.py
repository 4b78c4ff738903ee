"""Scores of the answered patients of a fold, for orders, shares and resamples at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core import seeds
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import comparison, fold_scores

Scores = dict[str, dict[str, Array]]

ORACLE, RANDOM = "oracle", "random"
SHARES = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])


@dataclass(frozen=True)
class FoldSamples:
    """The test samples of a fold.

    Attributes
    ----------
    truth, point : (n, G)
    crps : (n,) mean over the genes that vary in train; NaN without draws.
    owners : (n,) patient of each.
    orders : by name, (n,); the patient whose mean is largest is left out first.
    sets : (G, K) gene sets, all genes first.
    """

    number: int
    truth: Array
    point: Array
    crps: Array
    owners: list[str]
    orders: dict[str, Array]
    sets: NDArray[np.bool_]

    @property
    def error(self) -> Array:
        """(n,) mean square error over all genes."""
        return np.asarray(((self.point - self.truth)[:, self.sets[:, 0]] ** 2).mean(axis=1))


def answered_weights(counts: Array, order: Array, shares: Array) -> Array:
    """Weights (R, S, n) of the samples that are answered.

    Parameters
    ----------
    counts : (R, n) weights of the samples, a row per resample.
    order : (n,) or (R, n); the smallest are answered first, ties in the order of the samples.
    shares : (S,) of the weight; the patient on the edge is answered in part.
    """
    order = np.broadcast_to(order, counts.shape)
    rank = np.argsort(order, axis=1, kind="stable")
    sorted_counts = np.take_along_axis(counts, rank, axis=1).astype(np.float64)
    ends = np.cumsum(sorted_counts, axis=1)
    room = shares[None, :, None] * ends[:, None, -1:] - (ends - sorted_counts)[:, None]
    answered = np.clip(room, 0, sorted_counts[:, None])
    out = np.empty_like(answered)
    np.put_along_axis(out, np.broadcast_to(rank[:, None], answered.shape), answered, axis=2)
    return out


def patient_means(values: Array, owners: Sequence[str]) -> Array:
    """Every sample's value (n,) replaced by the mean over its patient's samples.

    A patient is answered as a whole: were samples put in order one by one, an order that keeps a
    patient's alike samples together would look unusual beside random ones, whatever it knows.
    """
    _, of = np.unique(owners, return_inverse=True)
    return np.asarray((np.bincount(of, values) / np.bincount(of))[of])


def scores(
    fold: FoldSamples, orders: Sequence[str], resamples: int, permutations: int, seed: int
) -> Scores:
    """Scores (R, S, K) by order and metric; R is resamples + 1, the value itself first.

    Of random orders R is the number of permutations.
    """
    n = len(fold.truth)
    counts = bootstrap.patient_counts(
        seeds.rng_for(seed, "abstain", fold.number), fold.owners, resamples
    )
    by = fold.orders | {ORACLE: fold.error}
    weights = {
        name: answered_weights(counts, patient_means(by[name], fold.owners), SHARES)
        for name in orders
    }
    rng = seeds.rng_for(seed, "abstain-random", fold.number)
    names, of = np.unique(fold.owners, return_inverse=True)
    drawn = rng.random((permutations, len(names)))[:, of]
    weights[RANDOM] = answered_weights(np.ones((permutations, n)), drawn, SHARES)
    flat = np.concatenate([one.reshape(-1, n) for one in weights.values()])
    flat = (flat * (n / flat.sum(axis=1, keepdims=True))).astype(np.float32)
    found = _metrics(fold, flat)
    out: Scores = {}
    start = 0
    for name, one in weights.items():
        stop = start + one.shape[0] * one.shape[1]
        out[name] = {
            metric: values[start:stop].reshape(*one.shape[:2], -1)
            for metric, values in found.items()
        }
        start = stop
    return out


def _metrics(fold: FoldSamples, counts: NDArray[np.float32]) -> dict[str, Array]:
    """Scores (rows, K) of every row of weights (rows, n), genes a block at a time."""
    genes, columns = fold.sets.shape
    of_pcc = fold_scores.set_weights(fold.sets, ~gene_metrics.is_flat(fold.truth))
    of_rmse = fold_scores.set_weights(fold.sets, np.ones(genes, dtype=bool))
    out = {name: np.zeros((len(counts), columns)) for name in ("pcc", "rmse")}
    for start in range(0, genes, comparison.BLOCK):
        block = slice(start, start + comparison.BLOCK)
        truth, point = fold.truth[:, block], fold.point[:, block]
        out["pcc"] += bootstrap.PccBootstrap(counts, truth)(point) @ of_pcc[block]
        out["rmse"] += bootstrap.bootstrap_rmse(counts, point, truth) @ of_rmse[block]
    return out | {"crps": bootstrap.bootstrap_mean(counts, fold.crps)[:, None]}
