"""Gaussian residual draws: a point prediction plus noise with the residuals' own law.

The generative null row: a model's draws earn their place only if they are better than these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slide2rna.core.types import Array
from slide2rna.spatial import fields, kernel
from slide2rna.spatial.kernel import SpatialKernel
from slide2rna.spatial.slides import SpotSlide
from slide2rna.training.factors import fit_factors


@dataclass(frozen=True)
class ResidualLaw:
    """Law of residuals around a point.

    Attributes
    ----------
    sd : (G,) of the residuals.
    loadings : (G, F) of their correlation between genes.
    space : their correlation between spots.
    """

    sd: Array
    loadings: Array
    space: SpatialKernel

    def draw(self, point: Array, slide: SpotSlide, draws: int, rng: np.random.Generator) -> Array:
        """Draw maps (draws, n, G) around a point (n, G), float32."""
        root = self.space.root(slide.xy, slide.pitch)
        noise = fields.draw_field(root, self.loadings, draws, rng)
        noise *= self.sd.astype(np.float32)
        noise += point.astype(np.float32)
        return noise


def fit(
    train: Sequence[SpotSlide],
    left_out: Sequence[Array],
    val: Sequence[Array],
    max_factors: int,
) -> ResidualLaw:
    """Fit the law to held-out residuals of the training slides.

    Parameters
    ----------
    train
        The training slides.
    left_out
        Their held-out residuals (n, G), slide by slide.
    val
        Residuals of the val slides, which choose the number of factors.
    max_factors
        Maximum number of factors.
    """
    every = np.concatenate(list(left_out))
    sd = np.maximum(np.sqrt(np.square(every).mean(axis=0)), 1e-6)
    scaled = [residuals / sd for residuals in left_out]
    loadings, _ = fit_factors(every / sd, np.concatenate(list(val)) / sd, max_factors)
    places, pitches = [slide.xy for slide in train], [slide.pitch for slide in train]
    return ResidualLaw(sd, loadings, kernel.fit(scaled, places, pitches))
