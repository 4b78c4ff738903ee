"""Comparison of all predictions on all gene sets, by a paired bootstrap over patients in folds.

Only a fold's val ranks its gene sets. Scores of a set are means over its genes in each fold, then
means over the folds; a gene's correlations are combined by Fisher z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring.fold_scores import (
    Averages,
    FoldPredictions,
    Key,
    score_block,
    set_weights,
)

BLOCK = 512
MIN_PATIENTS = 20


@dataclass
class Comparison:
    """Bootstrapped scores, and scores per gene.

    Attributes
    ----------
    scores : (name, metric, owner of the sets) -> (F, B + 1, K); row 0 is the value.
    r : name -> (F, G) correlations on test.
    rmse : name -> (F, G)
    within : (F, G) the model's correlations within sites.
    gene_r, gene_low, gene_high, weight : (G,) the model's correlation over folds.
    pathway : (B + 1, P) mean correlation of a pathway's genes.
    """

    scores: dict[Key, Array] = field(default_factory=dict)
    r: dict[str, Array] = field(default_factory=dict)
    rmse: dict[str, Array] = field(default_factory=dict)
    within: Array = field(default_factory=lambda: np.empty(0))
    gene_r: Array = field(default_factory=lambda: np.empty(0))
    gene_low: Array = field(default_factory=lambda: np.empty(0))
    gene_high: Array = field(default_factory=lambda: np.empty(0))
    weight: Array = field(default_factory=lambda: np.empty(0))
    pathway: Array = field(default_factory=lambda: np.empty(0))


def shown_sizes(top: Sequence[int], genes: int, patients: Sequence[int]) -> list[int]:
    """Return the sizes k of T-k that a table may show, largest first.

    With fewer than 20 test patients in a fold, sets below a twentieth of the genes are mostly
    luck and are omitted. A k that reaches the number of genes selects nothing.
    """
    smallest = genes / 20 if min(patients) < MIN_PATIENTS else 1
    return sorted((k for k in top if smallest <= k < genes), reverse=True)


def gene_sets(
    val_prediction: Array, val_truth: Array, eligible: NDArray[np.bool_], sizes: Sequence[int]
) -> NDArray[np.bool_]:
    """Return gene sets (G, 1 + len(sizes)): all eligible genes, then the k best by val correlation.

    Ties keep the gene order; a gene that is constant in val ranks last among the eligible.
    """
    r, _ = gene_metrics.pcc(val_prediction, val_truth)
    rank = np.where(eligible, np.nan_to_num(r, nan=-2.0), -3.0)
    order = np.argsort(-rank, kind="stable")
    sets = np.zeros((len(rank), 1 + len(sizes)), dtype=bool)
    sets[:, 0] = eligible
    for column, k in enumerate(sizes, start=1):
        sets[order[:k], column] = True
    return sets & eligible[:, None]


def compare(
    folds: Sequence[FoldPredictions], members: sparse.csr_matrix, threads: int = 1
) -> Comparison:
    """Score all predictions of all folds, a block of genes at a time.

    Parameters
    ----------
    members : (P, G) pathway membership, rows summing to 1.
    """
    model = next(iter(folds[0].test))
    genes, resamples = folds[0].truth.shape[1], folds[0].counts.shape[0]
    patients = np.array([fold.truth.shape[0] for fold in folds])
    out = Comparison(pathway=np.zeros((resamples, members.shape[0])))
    for name in folds[0].test:
        out.r[name], out.rmse[name] = np.full((2, len(folds), genes), np.nan)
    out.within = np.full((len(folds), genes), np.nan)
    out.gene_r, out.gene_low, out.gene_high, out.weight = np.full((4, genes), np.nan)
    by_pathway = members.tocsc()
    averages = [Averages(fold, model) for fold in folds]

    def score_genes(block: slice) -> tuple[dict[Key, list[Array]], Array]:
        model_r = []
        sums: dict[Key, list[Array]] = {}
        for index, (fold, average) in enumerate(zip(folds, averages, strict=True)):
            scored = score_block(fold, average, block, model)
            for key, values in scored.sums.items():
                sums.setdefault(key, [np.zeros_like(values)] * len(folds))[index] = values
            for name in fold.test:
                out.r[name][index, block] = scored.r[name]
                out.rmse[name][index, block] = scored.rmse[name]
            out.within[index, block] = scored.within
            model_r.append(scored.resampled)
        combined, weight = gene_metrics.fisher_combine(np.stack(model_r), patients)
        out.gene_r[block], out.weight[block] = combined[0], weight[0]
        out.gene_low[block], out.gene_high[block] = bootstrap.interval_r(combined)
        return sums, (by_pathway[:, block] @ np.nan_to_num(combined).T).T

    blocks = [slice(start, min(start + BLOCK, genes)) for start in range(0, genes, BLOCK)]
    for sums, pathway in ordered_map(score_genes, blocks, threads):
        out.pathway += pathway
        for key, values in sums.items():
            out.scores[key] = out.scores.get(key, 0.0) + np.array(values, dtype=np.float64)
    return out


def over_folds(scores: Array, patients: Sequence[int], correlation: bool) -> Array:
    """Return the mean over folds (B + 1, K); a correlation needs folds of over three patients."""
    counted = np.array([n > 3 or not correlation for n in patients])
    if not counted.any():
        return np.full(scores.shape[1:], np.nan)
    return np.asarray(scores[counted].mean(axis=0))


def noise_floor(fold: FoldPredictions, name: str, orders: NDArray[np.int64]) -> Array:
    """Return set means of correlations (permutations, K) after permuting the patients' profiles.

    A permutation changes neither mean nor variance, so the mean of the correlations over a set's
    genes is a sum over the patients' inner products, computed once for all permutations.

    Parameters
    ----------
    orders : (permutations, n)
    """
    sets = set_weights(fold.sets[name], fold.varies)
    x = gene_metrics.standardise(fold.test[name]).astype(np.float32)
    y = gene_metrics.standardise(fold.truth).astype(np.float32)
    rows = np.arange(len(x))
    out = np.empty((len(orders), sets.shape[1]))
    for column in range(sets.shape[1]):
        used = np.flatnonzero(sets[:, column])
        inner = (x[:, used] * sets[used, column]) @ y[:, used].T
        out[:, column] = inner[rows, orders].sum(axis=1)
    return out
