"""Spread of the draws: closed-form CRPS of a Gaussian in the targets' units, and its common sd."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from slide2rna.core.types import Array
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.velocity import SD_RANGE

# Levels of the Gaussian quantiles that represent its draws.
LEVELS = (np.arange(39) + 0.5) / 39
# Limits of the common factor's log, and the search tolerance.
LOG_FACTORS, TOLERANCE = (-0.5, 0.5), 0.005


def gaussian_crps(scale: GeneScale, mean: Array, sd: Array, values: Array) -> Array:
    """Return each slide's CRPS (N,) in log2 units, averaged over genes.

    The CRPS is twice the mean pinball loss over quantiles (Gneiting and Ranjan 2011,
    doi:10.1198/jbes.2010.08110).

    Parameters
    ----------
    scale : from targets to expression.
    mean, sd : (N, G), (G,) of the Gaussian, in the targets' units.
    values : (N, G) measured log2(x+1).
    """
    centre, width = _tensor(mean), _tensor(np.clip(sd, *SD_RANGE))
    truth = torch.from_numpy(values)
    total = torch.zeros(len(truth), dtype=torch.float64)
    for level in LEVELS:
        gap = truth - scale.restore(centre + width * float(norm.ppf(level)))
        total += torch.maximum(level * gap, (level - 1) * gap).double().mean(dim=1)
    return (2 * total / len(LEVELS)).numpy()


def best_factor(scale: GeneScale, mean: Array, sd: Array, values: Array) -> float:
    """Return the common factor on all sds with the least CRPS.

    The root mean square of residuals is the sd of least squared error. Their tails are heavier than
    a Gaussian's, so a smaller sd has intervals of the right width, and the lower CRPS.
    """

    def error(log_factor: float) -> float:
        return float(gaussian_crps(scale, mean, sd * np.exp(log_factor), values).mean())

    found = minimize_scalar(
        error, bounds=LOG_FACTORS, method="bounded", options={"xatol": TOLERANCE}
    )
    return float(np.exp(found.x))


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values).float()
