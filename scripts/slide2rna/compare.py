"""Every prediction on every gene set, with a paired bootstrap over patients within folds.

A gene set of a fold is ranked by that fold's val alone. Scores of a set are means over its
genes in each fold, then means over the folds; a gene's correlations are combined by Fisher z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna import bootstrap, metrics
from slide2rna.bootstrap import Counts

Array = NDArray[np.floating]

BLOCK = 1024
# The published ratio RMSE / mean explodes for genes that are hardly expressed.
LEAST_MEAN = 0.1
MIN_PATIENTS = 20


@dataclass
class FoldPredictions:
    """What is scored in one fold.

    Attributes
    ----------
    truth : (n, G)
    test : predictions (n, G) by name; the model's own come first.
    variants : further point predictions of the model, scored by correlation only.
    sets : (G, K) gene sets by name of the prediction that ranked them.
    eligible : (G,) genes that vary in train.
    train_mean : (G,)
    counts : (B + 1, n)
    varies : (G,) genes that vary among the scored patients; filled in here.
    """

    truth: Array
    test: dict[str, Array]
    variants: dict[str, Array]
    sets: dict[str, NDArray[np.bool_]]
    eligible: NDArray[np.bool_]
    train_mean: Array
    counts: Counts
    varies: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.varies = ~metrics.is_flat(self.truth)


@dataclass
class Comparison:
    """Bootstrapped scores, and scores per gene.

    Attributes
    ----------
    scores : (name, metric, owner of the sets) -> (F, B + 1, K); row 0 is the value.
    r : name -> (F, G) correlations on test.
    rmse : name -> (F, G)
    gene_r, gene_low, gene_high, weight : (G,) the model's correlation over folds.
    pathway : (B + 1, P) mean correlation of a pathway's genes.
    """

    scores: dict[tuple[str, str, str], Array] = field(default_factory=dict)
    r: dict[str, Array] = field(default_factory=dict)
    rmse: dict[str, Array] = field(default_factory=dict)
    gene_r: Array = field(default_factory=lambda: np.empty(0))
    gene_low: Array = field(default_factory=lambda: np.empty(0))
    gene_high: Array = field(default_factory=lambda: np.empty(0))
    weight: Array = field(default_factory=lambda: np.empty(0))
    pathway: Array = field(default_factory=lambda: np.empty(0))


def shown_sizes(top: Sequence[int], genes: int, patients: Sequence[int]) -> list[int]:
    """Sizes k of T-k that a table may show, largest first.

    With fewer than 20 test patients in a fold, sets below a twentieth of the genes are mostly
    luck and are left out; as many as there are genes is no choice at all.
    """
    least = genes / 20 if min(patients) < MIN_PATIENTS else 1
    return sorted((k for k in top if least <= k < genes), reverse=True)


def gene_sets(
    val_prediction: Array, val_truth: Array, eligible: NDArray[np.bool_], sizes: Sequence[int]
) -> NDArray[np.bool_]:
    """Gene sets (G, 1 + len(sizes)): all eligible genes, then the k best by val correlation.

    Ties go by gene order; a gene that is constant in val ranks last among the eligible.
    """
    r, _ = metrics.pcc(val_prediction, val_truth)
    rank = np.where(eligible, np.nan_to_num(r, nan=-2.0), -3.0)
    order = np.argsort(-rank, kind="stable")
    sets = np.zeros((len(rank), 1 + len(sizes)), dtype=bool)
    sets[:, 0] = eligible
    for column, k in enumerate(sizes, start=1):
        sets[order[:k], column] = True
    return sets & eligible[:, None]


def set_weights(sets: NDArray[np.bool_], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Weights (G, K) that average the usable genes of each set."""
    kept = sets & usable[:, None]
    return kept.astype(np.float32) / np.maximum(kept.sum(axis=0), 1).astype(np.float32)


def compare(folds: Sequence[FoldPredictions], members: sparse.csr_matrix) -> Comparison:
    """Score all predictions of all folds, a block of genes at a time.

    Parameters
    ----------
    members : (P, G) pathway membership, rows summing to 1.
    """
    model = next(iter(folds[0].test))
    names, variants = list(folds[0].test), list(folds[0].variants)
    genes, resamples = folds[0].truth.shape[1], folds[0].counts.shape[0]
    columns = folds[0].sets[model].shape[1]
    patients = np.array([fold.truth.shape[0] for fold in folds])
    out = Comparison(pathway=np.zeros((resamples, members.shape[0])))
    for name in names:
        out.r[name], out.rmse[name] = np.full((2, len(folds), genes), np.nan)
        for metric in ("pcc", "rmse", "nrmse"):
            for owner in {name, model}:
                out.scores[name, metric, owner] = np.zeros((len(folds), resamples, columns))
    for name in variants:
        out.scores[model, name, model] = np.zeros((len(folds), resamples, columns))
    out.gene_r, out.gene_low, out.gene_high, out.weight = np.full((4, genes), np.nan)
    by_pathway = members.tocsc()

    for start in range(0, genes, BLOCK):
        block = slice(start, min(start + BLOCK, genes))
        of_model = np.stack(
            [_score_block(out, index, fold, block, model) for index, fold in enumerate(folds)]
        )
        combined, out.weight[block] = _combine(of_model, patients)
        out.gene_r[block] = combined[0]
        out.gene_low[block], out.gene_high[block] = bootstrap.interval_r(combined)
        out.pathway += (by_pathway[:, block] @ np.nan_to_num(combined).T).T
    return out


def _combine(r: Array, patients: Array) -> tuple[Array, Array]:
    combined, weight = metrics.fisher_combine(r, patients)
    return combined, weight[0]


def _score_block(
    out: Comparison, index: int, fold: FoldPredictions, block: slice, model: str
) -> Array:
    """Add a block of genes to the scores; returns the model's correlations (B + 1, genes)."""
    truth = fold.truth[:, block]
    usable = (fold.eligible & fold.varies)[block]
    mean = fold.train_mean[block]
    high = mean >= LEAST_MEAN
    correlate = bootstrap.PccBootstrap(fold.counts, truth)
    # A set's mean runs over its genes in all blocks, so the divisor is that of the whole set.
    dense = fold.train_mean >= LEAST_MEAN
    of_model = np.empty(0)
    for name, prediction in fold.test.items():
        r = correlate(prediction[:, block])
        error = bootstrap.bootstrap_rmse(fold.counts, prediction[:, block], truth)
        out.r[name][index, block] = np.where(usable, r[0], np.nan)
        out.rmse[name][index, block] = error[0]
        for owner in {name, model}:
            sets = fold.sets[owner]
            weights = {
                "pcc": set_weights(sets, fold.varies)[block],
                "rmse": set_weights(sets, np.ones_like(dense))[block],
                "nrmse": set_weights(sets, dense)[block]
                / np.where(high, mean, 1.0).astype(np.float32)[:, None],
            }
            out.scores[name, "pcc", owner][index] += r @ weights["pcc"]
            out.scores[name, "rmse", owner][index] += error @ weights["rmse"]
            out.scores[name, "nrmse", owner][index] += error @ weights["nrmse"]
        if name == model:
            of_model = np.where(usable, r, np.nan)
            weights_model = set_weights(fold.sets[model], fold.varies)[block]
    for name, prediction in fold.variants.items():
        r = correlate(prediction[:, block])
        out.scores[model, name, model][index] += r @ weights_model
    return of_model


def over_folds(scores: Array, patients: Sequence[int], correlation: bool) -> Array:
    """Mean over folds (B + 1, K); a correlation needs a fold of more than three patients."""
    kept = np.array([n > 3 or not correlation for n in patients])
    if not kept.any():
        return np.full(scores.shape[1:], np.nan)
    return np.asarray(scores[kept].mean(axis=0))


def noise_floor(fold: FoldPredictions, name: str, orders: NDArray[np.int64]) -> Array:
    """Set means of correlations (permutations, K) after permuting the profiles of the patients.

    A permutation changes neither mean nor variance, so the mean over a set's genes of the
    correlations is a sum over the patients' inner products, taken once for all permutations.

    Parameters
    ----------
    orders : (permutations, n)
    """
    sets = set_weights(fold.sets[name], fold.varies)
    x = metrics.standardise(fold.test[name]).astype(np.float32)
    y = metrics.standardise(fold.truth).astype(np.float32)
    rows = np.arange(len(x))
    out = np.empty((len(orders), sets.shape[1]))
    for column in range(sets.shape[1]):
        used = np.flatnonzero(sets[:, column])
        inner = (x[:, used] * sets[used, column]) @ y[:, used].T
        out[:, column] = inner[rows, orders].sum(axis=1)
    return out
