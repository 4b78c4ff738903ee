"""Spatial correlation of residuals: one kernel for all genes, fitted in closed form.

K = (1 - a) I + a exp(-distance / length), with distances in pitches. Each spot keeps unit variance,
so a field with this correlation changes no marginal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from slide2rna.core.types import Array

# Pairs of spots behind the fit: the first ring, and the spots about two pitches apart.
FIRST, SECOND = (0.5, 1.6), (1.6, 2.5)
MIN_LENGTH, MAX_LENGTH = 0.3, 20.0


@dataclass(frozen=True)
class SpatialKernel:
    """Correlation of two spots' residuals by their distance.

    Attributes
    ----------
    share : a in [0, 1], the share of a residual's variance that neighbours share.
    length : decay of the correlation, in pitches.
    """

    share: float
    length: float

    def matrix(self, xy: Array, pitch: float) -> Array:
        """Return the correlation (n, n) of spots at `xy` (n, 2)."""
        made = self.share * np.exp(-cdist(xy, xy) / (pitch * self.length))
        np.fill_diagonal(made, 1.0)
        return made

    def root(self, xy: Array, pitch: float) -> Array:
        """Return a lower triangular (n, n) whose product with white noise has this correlation."""
        matrix = self.matrix(xy, pitch)
        # Two spots at one place with share 1 would make it singular.
        matrix[np.diag_indices(len(xy))] += 1e-9
        return np.linalg.cholesky(matrix)


WHITE = SpatialKernel(0.0, 1.0)


def fit(
    residuals: Sequence[Array], places: Sequence[Array], pitches: Sequence[float]
) -> SpatialKernel:
    """Fit the kernel to residuals (n, G) of training slides by their correlation at two distances.

    With c1 and c2 the mean correlation over genes of pairs at mean distances d1 and d2, the length
    is (d2 - d1) / log(c1 / c2) and the share is c1 exp(d1 / length). Slides weigh by their pairs.

    Parameters
    ----------
    residuals
        Held-out residuals of each slide, in units of each gene's residual sd.
    places
        Positions (n, 2) of each slide's spots.
    pitches
        Distance of neighbouring spots of each slide, in the unit of `places`.
    """
    sums = np.zeros((2, 3))  # of either range: pairs, distances, correlations
    for values, xy, pitch in zip(residuals, places, pitches, strict=True):
        tree = cKDTree(xy)
        pairs = tree.query_pairs(SECOND[1] * pitch, output_type="ndarray")
        distance = np.linalg.norm(xy[pairs[:, 0]] - xy[pairs[:, 1]], axis=1) / pitch
        product = np.einsum("pg,pg->p", values[pairs[:, 0]], values[pairs[:, 1]]) / values.shape[1]
        for row, (low, high) in enumerate((FIRST, SECOND)):
            inside = (distance > low) & (distance <= high)
            sums[row] += inside.sum(), distance[inside].sum(), product[inside].sum()
    if not sums[:, 0].all():
        return WHITE
    (d1, c1), (d2, c2) = sums[:, 1:] / sums[:, :1]
    if c1 <= 0:
        return WHITE
    length = (d2 - d1) / np.log(c1 / c2) if 0 < c2 < c1 else MIN_LENGTH if c2 <= 0 else MAX_LENGTH
    length = float(np.clip(length, MIN_LENGTH, MAX_LENGTH))
    return SpatialKernel(float(min(1.0, c1 * np.exp(d1 / length))), length)
