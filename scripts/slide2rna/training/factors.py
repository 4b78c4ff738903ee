"""Shared factors of the noise: a low-rank correlation of a fit's residuals, its rank by val."""

from __future__ import annotations

import numpy as np

from slide2rna.core.types import Array

FACTOR_COUNTS = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Minimum share of a gene's variance that isn't shared.
MIN_UNIQUENESS = 0.05


def fit_factors(train: Array, val: Array, max_factors: int) -> tuple[Array, dict[int, float]]:
    """Fit loadings L of the correlation L L' + diag(1 - row norms squared) by principal axes.

    The axes are those of the train residuals. Each eigenvalue is reduced by the mean of the
    discarded eigenvalues, the contribution of noise (probabilistic PCA: Tipping and Bishop 1999,
    doi:10.1111/1467-9868.00196, Eq. 7). The Gaussian likelihood of the val residuals decides the
    number of factors.

    Parameters
    ----------
    train, val : residuals (n, G) and (m, G) in units of each gene's residual sd; those of train
        should be held-out.
    max_factors : maximum number of factors.

    Returns
    -------
    loadings (G, F) with F <= max_factors, and by number of factors the mean log-likelihood per val
    slide and gene.
    """
    n, genes = train.shape
    values, vectors = np.linalg.eigh(train @ train.T / n)
    order = np.argsort(values)[::-1]
    values, vectors = np.maximum(values[order], 0), vectors[:, order]
    # The last axis is empty: n residuals around a fitted mean.
    counts = [
        count for count in FACTOR_COUNTS if count <= max_factors and count < min(n, genes) - 1
    ]
    fitted = {count: _loadings(train, values, vectors, count) for count in counts}
    scores = {
        count: float(log_likelihood(val, loadings).mean()) for count, loadings in fitted.items()
    }
    return fitted[max(scores, key=lambda count: scores[count])], scores


def _loadings(train: Array, values: Array, vectors: Array, count: int) -> Array:
    """Compute loadings (G, count) from the eigendecomposition of the rows' Gram matrix."""
    n = len(train)
    noise = values[count:].sum() / (n - count)
    leading = np.maximum(values[:count], 1e-12)
    axes = train.T @ (vectors[:, :count] / np.sqrt(n * leading))
    loadings = axes * np.sqrt(np.maximum(leading - noise, 0))
    shared = np.square(loadings).sum(axis=1)
    return (
        loadings * np.sqrt(np.minimum(1, (1 - MIN_UNIQUENESS) / np.maximum(shared, 1e-12)))[:, None]
    )


def log_likelihood(rows: Array, loadings: Array) -> Array:
    """Return the Gaussian log-likelihood (m,) of rows (m, G), divided by G.

    The determinant and inverse of L L' + psi use the matrix determinant lemma and Woodbury's
    identity.
    """
    uniqueness = 1 - np.square(loadings).sum(axis=1)
    weighted = loadings / uniqueness[:, None]
    inner = np.eye(loadings.shape[1]) + loadings.T @ weighted
    projected = rows @ weighted
    square = (np.square(rows) / uniqueness).sum(axis=1)
    square -= (projected * np.linalg.solve(inner, projected.T).T).sum(axis=1)
    determinant = np.log(uniqueness).sum() + np.linalg.slogdet(inner)[1]
    genes = rows.shape[1]
    return -(square + determinant + genes * np.log(2 * np.pi)) / (2 * genes)
