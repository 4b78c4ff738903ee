"""Where training of `model.skip: ridge` starts: a ridge on the bag's mean, in closed form.

With few hundred slides a network alone finds less of the conditional mean than a ridge. Starting
there, it learns what the ridge leaves; val decides whether that is anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from slide2rna import factors
from slide2rna.cli import log
from slide2rna.model import RNAFM, SD_RANGE
from slide2rna.models.ridge import Ridge, mean_of_bags

if TYPE_CHECKING:
    from slide2rna.fit import Slides

Array = NDArray[np.floating]


def start_from_ridge(model: RNAFM, train: Slides, val: Slides) -> None:
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
            loadings, scores = factors.fit(rows, rows_val, model.loadings.shape[1])
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
