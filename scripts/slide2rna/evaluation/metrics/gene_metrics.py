"""Metrics of predictions and of draws, for all genes at once.

Rows are patients and columns genes; draws are on the last axis. Expression is in log2(x+1).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from slide2rna.core.types import Array

# A column whose sd is below this fraction of its magnitude is constant up to rounding.
FLAT = 1e-6
BLOCK = 128


def is_flat(values: Array, axis: int = 0) -> NDArray[np.bool_]:
    """Return True for each column without variance beyond float32 rounding."""
    size = np.maximum(1.0, np.abs(values.mean(axis=axis)))
    return values.std(axis=axis, dtype=np.float64) <= FLAT * size


def standardise(values: Array) -> Array:
    """Scale columns to mean 0 and norm 1, so that a product of two columns is their correlation.

    Returns
    -------
    (n, G) float64; a column without variance is all 0.
    """
    out = np.empty(values.shape, dtype=np.float64)
    # A block at a time fits into the cache, so repeated passes are free.
    for start in range(0, values.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        columns = values[:, block].astype(np.float64)
        mean = columns.mean(axis=0)
        columns -= mean
        norm = np.sqrt(np.einsum("ng,ng->g", columns, columns))
        flat = norm <= FLAT * np.sqrt(len(values)) * np.maximum(1.0, np.abs(mean))
        columns *= np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, norm))
        out[:, block] = columns
    return out


def pcc(predicted: Array, observed: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the Pearson correlation per gene over patients (paper, Eq. 24).

    Parameters
    ----------
    predicted, observed : (n, G)

    Returns
    -------
    r : (G,) float64; 0 if the prediction has no variance, NaN if the truth has none.
    flat : (G,) True where the prediction has no variance.
    """
    genes = predicted.shape[1]
    r, flat = np.empty(genes), np.empty(genes, dtype=bool)
    for start in range(0, genes, BLOCK):
        block = slice(start, start + BLOCK)
        x, y = standardise(predicted[:, block]), standardise(observed[:, block])
        r[block] = np.clip(np.einsum("ng,ng->g", x, y), -1.0, 1.0)
        flat[block] = ~x.any(axis=0)
        r[block][~y.any(axis=0)] = np.nan
    return r, flat


def pcc_test(predicted: Array, observed: Array) -> tuple[Array, Array]:
    """Return correlations as in `pcc`, and their two-sided p values, (G,) each.

    Exact for normal data, as in scipy.stats.pearsonr: r sqrt((n - 2) / (1 - r^2)) follows
    Student's t with n - 2 degrees of freedom.
    """
    r, flat = pcc(predicted, observed)
    df = len(predicted) - 2
    with np.errstate(divide="ignore"):
        t = np.abs(r) * np.sqrt(df / ((1.0 - r) * (1.0 + r)))
    return r, np.where(flat, 1.0, 2.0 * special.stdtr(df, -t))


def rmse(predicted: Array, observed: Array) -> Array:
    """Return the root mean square error per gene over patients (paper, Eq. 25), in log2 units."""
    error = predicted.astype(np.float64) - observed
    return np.sqrt((error**2).mean(axis=0))


def pair_sum(ordered: Array) -> Array:
    """Return the sum of |x_i - x_j| over all ordered pairs of sorted draws, in O(D)."""
    n = ordered.shape[-1]
    weights = 2.0 * (2.0 * np.arange(1, n + 1) - n - 1)
    return ordered @ weights.astype(ordered.dtype)


def fair_crps(ordered: Array, observed: Array, strata: Array | None = None) -> Array:
    """Return the unbiased CRPS: mean |x - y| - E|x - x'| / 2 over pairs of different draws.

    Parameters
    ----------
    ordered : (..., n) draws, sorted along the last axis.
    observed : (...)
    strata : (S, ..., n / S) the same draws grouped by slide, each sorted. The pool is an equal
        mixture of slides; pairs within a slide then count for 1/S of all pairs, which ignores
        that a slide contributes exactly n / S of the draws.

    Notes
    -----
    Ferro (2014), doi:10.1002/qj.2270. A single draw has no spread: ValueError.
    """
    n = ordered.shape[-1]
    if n < 2 or (strata is not None and strata.shape[-1] < 2):
        raise ValueError("the unbiased CRPS needs at least two draws of a slide")
    distance = np.abs(ordered - observed[..., None]).mean(axis=-1)
    total = pair_sum(ordered)
    if strata is None or strata.shape[0] == 1:
        return distance - total / (2.0 * n * (n - 1))
    parts, each = strata.shape[0], strata.shape[-1]
    within = pair_sum(strata).sum(axis=0)
    spread = (within / (each * (each - 1)) + (total - within) / each**2) / parts**2
    return distance - spread / 2.0


def climatology_crps(train: Array, observed: Array) -> Array:
    """Return the CRPS of the train profiles taken as draws: the score of ignoring the slide.

    Parameters
    ----------
    train : (m, G)
    observed : (n, G)

    Returns
    -------
    (n, G)
    """
    ordered = np.sort(train.astype(np.float64), axis=0)
    m, genes = ordered.shape
    spread = pair_sum(ordered.T) / (2.0 * m * (m - 1)) if m > 1 else np.zeros(genes)
    sums = np.vstack([np.zeros(genes), np.cumsum(ordered, axis=0)])
    out = np.empty(observed.shape, dtype=np.float64)
    for gene in range(genes):
        y = observed[:, gene].astype(np.float64)
        below = np.searchsorted(ordered[:, gene], y)
        left = sums[below, gene]
        distance = y * (2 * below - m) + sums[m, gene] - 2 * left
        out[:, gene] = distance / m - spread[gene]
    return out


def attainable(level: float, n: int) -> bool:
    """Return True if n draws have order statistics extreme enough for a central interval."""
    return round((1.0 - level) / 2.0 * (n + 1), 9) >= 1.0


def central_interval(ordered: Array, level: float) -> tuple[Array, Array]:
    """Return the ends of the central interval: order statistics at p(n+1), linear in between.

    A new draw from the same distribution falls below the k-th of n order statistics with
    probability k/(n+1), so this covers `level`; numpy's default quantile of 100 draws covers less.

    Parameters
    ----------
    ordered : (..., n) draws, sorted along the last axis.

    Returns
    -------
    low, high : (...)
    """
    n = ordered.shape[-1]
    if not attainable(level, n):
        raise ValueError(f"{n} draws are too few for a {level:.0%} interval")
    ends = []
    for p in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        # Rounding keeps 0.05 * 101 from becoming 5.049999.
        position = round(p * (n + 1), 9)
        k = min(int(position), n - 1)
        share = ordered.dtype.type(position - k)
        ends.append(ordered[..., k - 1] * (1 - share) + ordered[..., k] * share)
    return ends[0], ends[1]


def pit(ordered: Array, observed: Array, uniform: Array) -> Array:
    """Return the probability integral transform, randomised at ties: uniform for a perfect model.

    Parameters
    ----------
    ordered : (..., n)
    observed, uniform : (...); `uniform` holds numbers from [0, 1).
    """
    n = ordered.shape[-1]
    below = (ordered < observed[..., None]).sum(axis=-1)
    equal = (ordered == observed[..., None]).sum(axis=-1)
    return (below + uniform * (equal + 1)) / (n + 1)


def gaussian_nll(mean: Array, variance: Array, observed: Array, floor: Array | float) -> Array:
    """Return the negative log-likelihood of a normal distribution; sds are at least `floor`."""
    variance = np.maximum(variance, np.square(floor))
    return 0.5 * (np.log(2.0 * np.pi * variance) + (observed - mean) ** 2 / variance)


def fisher_combine(r: Array, n: Array) -> tuple[Array, Array]:
    """Combine correlations over folds: mean of atanh(r) with weights n - 3.

    Parameters
    ----------
    r : (F, ...) correlations; NaN is ignored.
    n : (F,) patients per fold; a fold of three or fewer has no weight.

    Returns
    -------
    r : (...) NaN if no fold counts.
    weight : (...) sum of n - 3; the standard error of atanh(r) is its inverse square root.
    """
    weights = np.maximum(np.asarray(n, dtype=np.float64) - 3.0, 0.0)
    total, combined = np.zeros((2, *r.shape[1:]))
    for fold_r, weight in zip(r, weights, strict=True):
        z = np.arctanh(np.clip(fold_r, -1 + 1e-7, 1 - 1e-7))
        finite = np.isfinite(z)
        if not finite.all():
            z[~finite] = 0.0
        total += weight * finite
        combined += weight * z
    combined /= np.where(total > 0, total, 1.0)
    np.tanh(combined, out=combined)
    return np.where(total > 0, combined, np.nan), total


def benjamini_hochberg(p: Array) -> Array:
    """Return FDR-adjusted p values; NaN stays NaN."""
    adjusted = np.full(p.shape, np.nan)
    finite = np.isfinite(p)
    if finite.any():
        adjusted[finite] = stats.false_discovery_control(p[finite], method="bh")
    return adjusted


def spearman(a: Array, b: Array) -> float:
    """Return the Spearman correlation of two flat arrays; 0 if either is constant."""
    return correlate_ranks(ranks(a), ranks(b))


def ranks(values: Array) -> Array:
    """Return the ranks of a flat array, ties averaged, minus their mean.

    Polars takes about half of scipy's time: pooled over genes and patients there are millions.
    """
    ranked = pl.Series(values).rank("average").to_numpy()
    return np.asarray(ranked - (len(values) + 1) / 2.0)


def correlate_ranks(x: Array, y: Array) -> float:
    """Return the correlation of two centred arrays; 0 if either is constant."""
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else 0.0


def spearman_columns(a: Array, b: Array) -> Array:
    """Return the Spearman correlation per column of (n, G) arrays; 0 if either is constant."""
    r, _ = pcc(stats.rankdata(a, axis=0), stats.rankdata(b, axis=0))
    return np.nan_to_num(r)
