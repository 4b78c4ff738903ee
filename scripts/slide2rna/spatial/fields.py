"""Noise fields over spots and genes: correlated in space and among genes, N(0, 1) in each entry."""

from __future__ import annotations

import numpy as np

from slide2rna.core.types import Array


def draw_field(root: Array, loadings: Array, draws: int, rng: np.random.Generator) -> Array:
    """Draw fields (draws, n, G) with covariance C_gene (x) K_space.

    Parameters
    ----------
    root
        (n, n) root of the spatial correlation, `SpatialKernel.root`.
    loadings
        (G, F) of the genes' correlation L L' + diag(1 - row norms squared),
        `training.factors.fit_factors`.
    draws
        Number of fields.
    rng
        Numbers are drawn field by field, so that the first fields don't depend on `draws`.
    """
    genes, factors = loadings.shape
    own = np.sqrt(1 - np.square(loadings).sum(axis=1))
    fields = np.empty((draws, len(root), genes), dtype=np.float32)
    for number in range(draws):
        white = rng.standard_normal((len(root), factors + genes), dtype=np.float32)
        space = root.astype(np.float32) @ white
        fields[number] = space[:, :factors] @ loadings.T + space[:, factors:] * own
    return fields
