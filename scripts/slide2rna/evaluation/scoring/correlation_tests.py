"""Correlation tests per gene: one model against another, and one model against 0.

Two correlations with the same truth and patients are dependent. Neither scipy nor statsmodels has
a test for that; Williams' t is implemented here for all genes at once, and folds are combined by
Stouffer's method from scipy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring.fold_scores import FoldPredictions

TEST = "Williams' t per fold, Stouffer over folds, Benjamini-Hochberg over genes, one-sided"
UNTESTED = "several samples of a patient depend on each other: no test per gene"
# Beyond this a z value would be infinite and outweigh all other folds.
LEAST_P = 1e-300


def has_repeated_samples(folds: Sequence[FoldPredictions]) -> bool:
    """Return True if a patient has several scored samples in a fold, which tests can't handle."""
    return any(fold.patients < len(fold.truth) for fold in folds)


def williams(r_a: Array, r_b: Array, r_ab: Array, n: int) -> Array:
    """Return one-sided p values for r(a, truth) > r(b, truth) in one sample of patients.

    Parameters
    ----------
    r_a, r_b : correlations of two predictions with the same truth.
    r_ab : correlation of the predictions with each other.
    n : patients; the result is NaN for three or fewer.

    Notes
    -----
    Williams (1959), J. R. Stat. Soc. B 21:396, in the form of Steiger (1980), Psychol. Bull.
    87:245, Eq. 7, who recommends it over the alternatives; t has n - 3 degrees of freedom.
    """
    if n <= 3:
        return np.full(np.shape(r_a), np.nan)
    determinant = 1.0 - r_a**2 - r_b**2 - r_ab**2 + 2.0 * r_a * r_b * r_ab
    mean = (r_a + r_b) / 2.0
    spread = 2.0 * (n - 1) / (n - 3) * np.maximum(determinant, 0.0) + mean**2 * (1.0 - r_ab) ** 3
    difference = r_a - r_b
    equal = np.abs(difference) < 1e-12
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference * np.sqrt((n - 1) * (1.0 + r_ab) / spread)
    return np.asarray(special.stdtr(n - 3, np.where(equal, 0.0, -t)))


def stouffer(p: Array, n: Sequence[int]) -> Array:
    """Combine one-sided p values (F, G) over folds of n patients, with weights sqrt(n - 3).

    A fold whose p is NaN is ignored; the result (G,) is NaN if no fold remains.
    """
    finite = np.isfinite(p)
    weights = np.sqrt(np.maximum(np.asarray(n, dtype=float) - 3.0, 0.0))[:, None] * finite
    counts = weights.any(axis=0)
    out = np.full(p.shape[1], np.nan)
    if counts.any():
        # p = 0.5 is z = 0, which adds nothing at weight 0.
        values = np.clip(np.where(finite, p, 0.5), LEAST_P, 1.0 - 1e-16)[:, counts]
        out[counts] = stats.combine_pvalues(
            values, method="stouffer", weights=weights[:, counts], axis=0
        ).pvalue
    return out


def better(
    truths: Sequence[Array],
    predictions: Sequence[dict[str, Array]],
    pairs: Sequence[tuple[str, str]],
    untested: bool = False,
) -> dict[tuple[str, str], Array]:
    """Return one-sided p values (G,) over all folds that the first of a pair beats the second.

    Parameters
    ----------
    truths : per fold, (n, G).
    predictions : per fold, (n, G) by model. One without variance in a fold has correlation 0.
    untested : the rows are dependent (`has_repeated_samples`): the result is NaN.
    """
    if untested:
        return {pair: np.full(truths[0].shape[1], np.nan) for pair in pairs}
    p_by_pair: dict[tuple[str, str], list[Array]] = {pair: [] for pair in pairs}
    names = dict.fromkeys(name for pair in pairs for name in pair)
    for truth, by_model in zip(truths, predictions, strict=True):
        y = gene_metrics.standardise(truth)
        flat = gene_metrics.is_flat(truth)
        z = {name: gene_metrics.standardise(by_model[name]) for name in names}
        r = {name: np.where(flat, np.nan, _products(values, y)) for name, values in z.items()}
        for a, b in pairs:
            p_by_pair[a, b].append(williams(r[a], r[b], _products(z[a], z[b]), len(truth)))
    sizes = [len(truth) for truth in truths]
    return {pair: stouffer(np.array(p), sizes) for pair, p in p_by_pair.items()}


def above_zero(
    truths: Sequence[Array], predictions: Sequence[Array], r: Array, untested: bool = False
) -> Array:
    """Return one-sided p values (G,) that a model's correlations are above 0.

    Exact in a single fold; over several, their combination by Fisher's z is taken as normal.

    Parameters
    ----------
    truths, predictions : per fold, (n, G).
    r : (F, G) correlations; NaN for genes that don't count.
    untested : the rows are dependent (`has_repeated_samples`): the result is NaN.
    """
    if untested:
        return np.full(r.shape[1], np.nan)
    combined, weight = gene_metrics.fisher_combine(r, np.array([len(truth) for truth in truths]))
    if len(truths) == 1:
        exact, p = gene_metrics.pcc_test(predictions[0], truths[0])
        return np.where(np.isnan(combined), np.nan, np.where(exact > 0, p / 2, 1 - p / 2))
    z = np.arctanh(np.clip(combined, -1 + 1e-7, 1 - 1e-7))
    return np.asarray(stats.norm.sf(z * np.sqrt(weight)))


def _products(a: Array, b: Array) -> Array:
    return np.clip(np.einsum("ng,ng->g", a, b), -1.0, 1.0)
