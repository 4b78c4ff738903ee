"""Where training of `model.skip: ridge` starts: a ridge on the bag's mean, in closed form.

With few hundred slides a network alone finds less of the conditional mean than a ridge. Starting
there, it learns what the ridge leaves; val decides whether that is anything.
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
    """Set the linear mean to a ridge with val's penalty, and the noise to what its residuals are.

    Residuals are those of samples left out with all their slides: a ridge that follows its
    slides closely would otherwise look certain. Of several slides, factors see the mean.

    Parameters
    ----------
    model
        With the statistics of train in its buffers; `linear`, `theta` and `loadings` are set in
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
    off = ridge.left_out(x, z, penalty, train.sample_ids)
    residual = np.sqrt(np.square(off).mean(axis=0))
    # The model sees features that its own buffers standardise.
    mean, scale = (
        buffer.double().numpy()
        for buffer in (model.condition.feature_mean, model.condition.feature_scale)
    )
    with torch.no_grad():
        model.linear.weight.copy_(torch.from_numpy(weight.T * scale))
        model.linear.bias.copy_(torch.from_numpy(bias + mean @ weight))
        model.theta.copy_(torch.from_numpy(np.log(np.clip(residual, *SD_RANGE))))
        if model.loadings.shape[1]:
            unit = np.where(residual > 0, 1 / np.where(residual > 0, residual, 1), 0)
            held = (z_val - ridge.predict(x_val, penalty)) * unit
            rows, rows_val = (
                per_sample(values, part.sample_ids)
                for values, part in ((off * unit, train), (held, val))
            )
            loadings, scores = fit_factors(rows, rows_val, model.loadings.shape[1])
            model.loadings[:, : loadings.shape[1]] = torch.from_numpy(loadings)
            log.info(
                "noise: %d shared factors, val log-likelihood per gene %.3f (none: %.3f)",
                *(loadings.shape[1], scores[loadings.shape[1]], scores[0]),
            )
    log.info("ridge: penalty %.3g per slide, val error %.4f", penalty / len(z), error)


def per_sample(values: Array, sample_ids: Sequence[str]) -> Array:
    """Mean over the slides of each sample, (slides, G) to (samples, G)."""
    names, place = np.unique(np.array(sample_ids), return_inverse=True)
    total = np.zeros((len(names), values.shape[1]))
    np.add.at(total, place, values)
    return total / np.bincount(place)[:, None]


FACTOR_COUNTS = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# A gene keeps at least so much variance of its own.
OWN = 0.05


def fit_factors(train: Array, val: Array, most: int) -> tuple[Array, dict[int, float]]:
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
    possible = [count for count in FACTOR_COUNTS if count <= most and count < min(n, genes) - 1]
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
