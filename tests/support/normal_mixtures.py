"""Mixtures of normals in one dimension: the exact velocity of their flow, and where it carries x0.

In one dimension the flow keeps the order of points, so it is the map between quantiles,
x1 = F1^-1(Phi(x0)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from slide2rna.flow.path import Path
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """x1 ~ sum of `weights` N(`means`, `sds`^2)."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]

    @property
    def sd(self) -> float:
        w, m, s = (np.array(values) for values in (self.weights, self.means, self.sds))
        return float(np.sqrt(w @ (s**2 + m**2) - (w @ m) ** 2))

    def velocity(self, x: Tensor, t: Tensor, path: Path) -> Tensor:
        """Eq. 12: alpha' E[x1 | x_t] + sigma' E[x0 | x_t]."""
        w, m, s = (torch.tensor(v, dtype=x.dtype) for v in (self.weights, self.means, self.sds))
        a, sigma = path.alpha(t), path.sigma(t)
        variance = a * a * s * s + sigma * sigma
        residual = x[..., None] - a * m
        share = torch.softmax(
            w.log() - variance.log() / 2 - residual * residual / variance / 2, dim=-1
        )
        x1, x0 = m + a * s * s * residual / variance, sigma * residual / variance
        return (share * (path.d_alpha(t) * x1 + path.d_sigma(t) * x0)).sum(dim=-1)

    def carried(self, x0: Tensor) -> Tensor:
        """Where the exact flow ends, by bisection."""
        w, m, s = (np.array(values) for values in (self.weights, self.means, self.sds))
        wanted = stats.norm.cdf(x0.numpy())
        low = np.full(wanted.shape, m.min() - 9 * s.max())
        high = np.full(wanted.shape, m.max() + 9 * s.max())
        for _ in range(60):
            middle = (low + high) / 2
            below = stats.norm.cdf((middle[..., None] - m) / s) @ w < wanted
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return torch.from_numpy((low + high) / 2)


def quantile_grid(points: int = 199) -> Tensor:
    """Standard normal noise in equal shares, (points, 1) float64."""
    return torch.from_numpy(stats.norm.ppf((np.arange(points) + 0.5) / points))[:, None]


BIMODAL = Mixture((0.5, 0.5), (-0.9, 0.9), (0.3, 0.3))
SKEWED = Mixture((0.8, 0.2), (-0.4, 1.6), (0.3, 0.6))
SPIKED = Mixture((0.4, 0.6), (-1.0, 0.67), (0.05, 0.7))
LAWS = {"bimodal": BIMODAL, "skewed": SKEWED, "with a spike": SPIKED}
