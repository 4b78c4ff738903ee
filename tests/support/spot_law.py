"""Simulated spots under a known law: smooth tissue decides features and counts."""

from __future__ import annotations

import numpy as np
from slide2rna.spatial.kernel import SpatialKernel
from slide2rna.spatial.slides import SpotSlide

PITCH, LATENT, DIM, GENES = 200.0, 3, 12, 25
NOISE = SpatialKernel(0.6, 2.0)
TISSUE = SpatialKernel(1.0, 5.0)
NOISE_SD = 0.8


class SpotLaw:
    """Law of one tissue: features are linear in the latent field, log counts linear or squared."""

    def __init__(self, seed: int = 1, squared: bool = False, side: int = 16) -> None:
        world = np.random.default_rng(seed)
        self.mixing = world.normal(size=(LATENT, DIM))
        self.weights = world.normal(size=(LATENT, GENES)) * 0.9
        self.loadings = world.uniform(-0.5, 0.5, (GENES, 2))
        self.level = world.uniform(5, 8, GENES)
        self.squared = squared
        self.xy = np.stack(np.divmod(np.arange(side**2), side), axis=1) * PITCH

    def mean(self, latent: np.ndarray) -> np.ndarray:
        """Expected log2 counts (n, G) of spots with this latent field (n, LATENT)."""
        return self.level + (latent**2 - 1 if self.squared else latent) @ self.weights

    def slide(self, name: str, patient: str, seed: int) -> SpotSlide:
        """Draw a slide with side x side spots."""
        rng, spots = np.random.default_rng([seed, 2]), len(self.xy)
        latent = TISSUE.root(self.xy, PITCH) @ rng.standard_normal((spots, LATENT))
        space = NOISE.root(self.xy, PITCH) @ rng.standard_normal((spots, GENES + 2))
        own = np.sqrt(1 - np.square(self.loadings).sum(axis=1))
        noise = space[:, :2] @ self.loadings.T + space[:, 2:] * own
        counts = rng.poisson(2.0 ** (self.mean(latent) + NOISE_SD * noise))
        features = latent @ self.mixing + 0.05 * rng.normal(size=(spots, DIM))
        rest = rng.poisson(20_000, spots)
        return SpotSlide(name, patient, features, self.xy, PITCH, counts, counts.sum(axis=1) + rest)

    def cohort(self, patients: int = 4, slides: int = 2) -> list[SpotSlide]:
        """Draw slides of several patients."""
        return [
            self.slide(f"P{patient}-{number}", f"P{patient}", 10 * patient + number)
            for patient in range(patients)
            for number in range(slides)
        ]
