"""What residuals of genes have in common: a few shared factors, as many as val bears out.

With independent noise per gene, a model whose network hasn't learned how residuals move together
draws profiles without co-expression: each gene's interval holds and that of a pathway's score
doesn't. So the flow starts from noise with the residuals' own correlation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

COUNTS = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# A gene keeps at least so much variance of its own.
OWN = 0.05


def fit(train: Array, val: Array, most: int) -> tuple[Array, dict[int, float]]:
    """Loadings L of the correlation L L' + diag(1 - row norms squared), by principal axes.

    Axes are those of the train residuals, less the mean of the eigenvalues that are left out,
    which is what noise adds to each (probabilistic PCA: Tipping and Bishop 1999,
    doi:10.1111/1467-9868.00196, Eq. 7). How many there are is decided by the Gaussian
    likelihood of the val residuals.

    Parameters
    ----------
    train, val : residuals (n, G) and (m, G) in units of each gene's residual sd; train's should
        be of slides left out.
    most : at most so many factors.

    Returns
    -------
    loadings (G, F) with F <= most, and by number of factors the mean log-likelihood per val slide
    and gene.
    """
    n, genes = train.shape
    values, vectors = np.linalg.eigh(train @ train.T / n)
    order = np.argsort(values)[::-1]
    values, vectors = np.maximum(values[order], 0), vectors[:, order]
    # The last axis is none: n residuals around a fitted mean.
    possible = [count for count in COUNTS if count <= most and count < min(n, genes) - 1]
    found = {count: _loadings(train, values, vectors, count) for count in possible}
    scores = {count: float(log_likelihood(val, of).mean()) for count, of in found.items()}
    return found[max(scores, key=lambda count: scores[count])], scores


def _loadings(train: Array, values: Array, vectors: Array, count: int) -> Array:
    """Loadings (G, count) from the decomposition of the rows' products."""
    n = len(train)
    noise = values[count:].sum() / (n - count)
    kept = np.maximum(values[:count], 1e-12)
    axes = train.T @ (vectors[:, :count] / np.sqrt(n * kept))
    loadings = axes * np.sqrt(np.maximum(kept - noise, 0))
    shared = np.square(loadings).sum(axis=1)
    return loadings * np.sqrt(np.minimum(1, (1 - OWN) / np.maximum(shared, 1e-12)))[:, None]


def log_likelihood(rows: Array, loadings: Array) -> Array:
    """Gaussian log-likelihood (m,) of rows (m, G), divided by G.

    Determinant and inverse of L L' + psi by the matrix determinant lemma and Woodbury's identity.
    """
    own = 1 - np.square(loadings).sum(axis=1)
    weighted = loadings / own[:, None]
    inner = np.eye(loadings.shape[1]) + loadings.T @ weighted
    projected = rows @ weighted
    square = (np.square(rows) / own).sum(axis=1)
    square -= (projected * np.linalg.solve(inner, projected.T).T).sum(axis=1)
    determinant = np.log(own).sum() + np.linalg.slogdet(inner)[1]
    genes = rows.shape[1]
    return -(square + determinant + genes * np.log(2 * np.pi)) / (2 * genes)
