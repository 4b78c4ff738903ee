"""Ridge start: initial weights for `model.skip: ridge`, a closed-form ridge on the bag's mean.

With a few hundred slides a network alone learns less of the conditional mean than a ridge. From
this start it learns what the ridge misses, and val decides whether that is an improvement.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from slide2rna.core.log import log
from slide2rna.core.types import Array
from slide2rna.flow.velocity import RNAFM, SD_RANGE
from slide2rna.models.ridge import Ridge, mean_of_bags
from slide2rna.training.task import PartSlides


def start_from_ridge(model: RNAFM, train: PartSlides, val: PartSlides) -> None:
    """Set the linear mean to a ridge tuned on val, and the noise to fit its residuals.

    Residuals are held-out: each sample is left out with all its slides. In-sample residuals of an
    overfitted ridge would look too certain. Factors are fitted to the mean over a sample's slides.

    Parameters
    ----------
    model
        With the train statistics in its buffers; `linear`, `theta` and `loadings` are set in
        place.
    """
    assert model.linear is not None
    assert model.theta is not None
    x, x_val = (mean_of_bags(part.means, part.sizes) for part in (train, val))
    z, z_val = (
        model.standardise(torch.from_numpy(part.values)).double().numpy() for part in (train, val)
    )
    ridge = Ridge.fit(x, z)
    penalty, error = ridge.choose(x_val, z_val, len(z))
    weight, bias = ridge.affine(penalty)
    residuals = ridge.left_out_residuals(x, z, penalty, train.sample_ids)
    residual_sd = np.sqrt(np.square(residuals).mean(axis=0))
    # The model receives features that its buffers standardise.
    mean, scale = (
        buffer.double().numpy()
        for buffer in (model.condition.feature_mean, model.condition.feature_scale)
    )
    with torch.no_grad():
        model.linear.weight.copy_(torch.from_numpy(weight.T * scale))
        model.linear.bias.copy_(torch.from_numpy(bias + mean @ weight))
        model.theta.copy_(torch.from_numpy(np.log(np.clip(residual_sd, *SD_RANGE))))
        if model.loadings.shape[1]:
            unit = np.where(residual_sd > 0, 1 / np.where(residual_sd > 0, residual_sd, 1), 0)
            residuals_val = (z_val - ridge.predict(x_val, penalty)) * unit
            rows, rows_val = (
                per_sample(values, part.sample_ids)
                for values, part in ((residuals * unit, train), (residuals_val, val))
            )
            loadings, scores = fit_factors(rows, rows_val, model.loadings.shape[1])
            model.loadings[:, : loadings.shape[1]] = torch.from_numpy(loadings)
            log.info(
                "noise: %d shared factors, val log-likelihood per gene %.3f (none: %.3f)",
                *(loadings.shape[1], scores[loadings.shape[1]], scores[0]),
            )
    log.info("ridge: penalty %.3g per slide, val error %.4f", penalty / len(z), error)


def per_sample(values: Array, sample_ids: Sequence[str]) -> Array:
    """Average over the slides of each sample, (slides, G) to (samples, G)."""
    names, position = np.unique(np.array(sample_ids), return_inverse=True)
    total = np.zeros((len(names), values.shape[1]))
    np.add.at(total, position, values)
    return total / np.bincount(position)[:, None]


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
