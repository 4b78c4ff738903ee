"""Scores of the patients not abstained on, for all orders, shares and resamples at once."""

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
    patient_ids : (n,) patient of each.
    orders : by name, (n,); the patient with the largest mean is left out first.
    sets : (G, K) gene sets, all genes first.
    """

    number: int
    truth: Array
    point: Array
    crps: Array
    patient_ids: list[str]
    orders: dict[str, Array]
    sets: NDArray[np.bool_]

    @property
    def error(self) -> Array:
        """Mean square error (n,) over all genes."""
        return np.asarray(((self.point - self.truth)[:, self.sets[:, 0]] ** 2).mean(axis=1))


def answered_weights(counts: Array, order: Array, shares: Array) -> Array:
    """Return the weights (R, S, n) of the answered samples.

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


def patient_means(values: Array, patient_ids: Sequence[str]) -> Array:
    """Replace every sample's value (n,) by the mean over its patient's samples.

    A patient is answered as a whole. Samples of a patient are alike, so an order of single samples
    that keeps them together would look unusual among random orders even if it is uninformative.
    """
    _, patient_index = np.unique(patient_ids, return_inverse=True)
    sums = np.bincount(patient_index, values)
    return np.asarray((sums / np.bincount(patient_index))[patient_index])


def scores(
    fold: FoldSamples, orders: Sequence[str], resamples: int, permutations: int, seed: int
) -> Scores:
    """Return scores (R, S, K) by order and metric; R is resamples + 1, the value itself first.

    For random orders, R is the number of permutations.
    """
    n = len(fold.truth)
    counts = bootstrap.patient_counts(
        seeds.rng_for(seed, "abstain", fold.number), fold.patient_ids, resamples
    )
    orders_by_name = fold.orders | {ORACLE: fold.error}
    weights = {
        name: answered_weights(
            counts, patient_means(orders_by_name[name], fold.patient_ids), SHARES
        )
        for name in orders
    }
    rng = seeds.rng_for(seed, "abstain-random", fold.number)
    names, patient_index = np.unique(fold.patient_ids, return_inverse=True)
    random_orders = rng.random((permutations, len(names)))[:, patient_index]
    weights[RANDOM] = answered_weights(np.ones((permutations, n)), random_orders, SHARES)
    flat = np.concatenate([order_weights.reshape(-1, n) for order_weights in weights.values()])
    flat = (flat * (n / flat.sum(axis=1, keepdims=True))).astype(np.float32)
    by_metric = _score_weights(fold, flat)
    out: Scores = {}
    start = 0
    for name, order_weights in weights.items():
        stop = start + order_weights.shape[0] * order_weights.shape[1]
        out[name] = {
            metric: values[start:stop].reshape(*order_weights.shape[:2], -1)
            for metric, values in by_metric.items()
        }
        start = stop
    return out


def _score_weights(fold: FoldSamples, counts: NDArray[np.float32]) -> dict[str, Array]:
    """Score (rows, K) every row of weights (rows, n), a block of genes at a time."""
    genes, columns = fold.sets.shape
    pcc_weights = fold_scores.set_weights(fold.sets, ~gene_metrics.is_flat(fold.truth))
    rmse_weights = fold_scores.set_weights(fold.sets, np.ones(genes, dtype=bool))
    out = {name: np.zeros((len(counts), columns)) for name in ("pcc", "rmse")}
    for start in range(0, genes, comparison.BLOCK):
        block = slice(start, start + comparison.BLOCK)
        truth, point = fold.truth[:, block], fold.point[:, block]
        out["pcc"] += bootstrap.PccBootstrap(counts, truth)(point) @ pcc_weights[block]
        out["rmse"] += bootstrap.bootstrap_rmse(counts, point, truth) @ rmse_weights[block]
    return out | {"crps": bootstrap.bootstrap_mean(counts, fold.crps)[:, None]}
