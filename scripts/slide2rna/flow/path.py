"""Probability path between noise and expression, and the flow-matching loss.

Time t runs from 0 (standard normal noise x0) to 1 (expression x1), as in Eq. 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from slide2rna.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


LOGISTIC_STEEPNESS = 6.0


@dataclass(frozen=True)
class Path:
    """An interpolant x_t = alpha(t) x1 + sigma(t) x0 with its derivatives (Eq. 10, 11).

    `linear` is alpha = t, sigma = 1 - t. `logistic` is the paper's ablation. The paper doesn't
    give its formula, so this is a logistic curve of steepness 6 around t = 1/2, shifted and
    scaled so that alpha(0) = 0 and alpha(1) = 1 hold exactly, and sigma = 1 - alpha.
    """

    name: str = "linear"

    def __post_init__(self) -> None:
        if self.name not in ("linear", "logistic"):
            raise ConfigError(
                "train.interpolant", f"'{self.name}' is unknown", "use linear or logistic"
            )

    def alpha(self, t: Tensor) -> Tensor:
        if self.name == "linear":
            return t
        return (torch.sigmoid(LOGISTIC_STEEPNESS * (t - 0.5)) - _LOW) / (1 - 2 * _LOW)

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - self.alpha(t)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return the time derivative of alpha."""
        if self.name == "linear":
            return torch.ones_like(t)
        rising = torch.sigmoid(LOGISTIC_STEEPNESS * (t - 0.5))
        return LOGISTIC_STEEPNESS * rising * (1 - rising) / (1 - 2 * _LOW)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Return the time derivative of sigma."""
        return -self.d_alpha(t)

    def interpolate(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_t and the target velocity v* (Eq. 10 and 11); t broadcasts against x."""
        x_t = self.alpha(t) * x1 + self.sigma(t) * x0
        return x_t, self.d_alpha(t) * x1 + self.d_sigma(t) * x0

    def gaussian(self, t: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """Return k, c of the velocity k x_t + c m that transports N(0, 1) to N(m, sd^2).

        With x1 ~ N(m, sd^2) independent of x0, Eq. 12 is a Gaussian conditional expectation:
        k = (alpha' alpha sd^2 + sigma' sigma) / D, c = alpha' - k alpha = sigma (alpha' sigma -
        alpha sigma') / D, where D = alpha^2 sd^2 + sigma^2 is the variance of x_t. The right-hand
        form of c has no cancellation. At t = 0, k = sigma'(0) and c = alpha'(0).
        """
        a, s, da, ds = self.alpha(t), self.sigma(t), self.d_alpha(t), self.d_sigma(t)
        variance = a * a * sd * sd + s * s
        return (da * a * sd * sd + ds * s) / variance, s * (da * s - a * ds) / variance


_LOW = 1 / (1 + math.exp(LOGISTIC_STEEPNESS / 2))


def loss(velocity: Tensor, target: Tensor, active: Tensor) -> Tensor:
    """Return the flow-matching loss (Eq. 13), the mean square over rows and active genes.

    Parameters
    ----------
    velocity, target
        (B, G).
    active
        (G,) 0 or 1; genes without variance in training carry no information and are left out.
    """
    squares = (velocity.float() - target).square() * active
    return squares.sum() / (active.sum() * len(target))
