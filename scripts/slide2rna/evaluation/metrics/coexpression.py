"""Co-expression of draws: similarity of gene-gene correlations, and the energy score.

Unlike scores of single genes, these two detect whether genes that rise together in patients also
rise together in the draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics.gene_metrics import FLAT

# Draws (slides, D, genes) of a sample.
Drawn = Sequence[Array]


class CorrelationMatrix:
    """Gene-gene correlation matrix of n patients, kept in factored form.

    With Z the patients' values (n, g), columns centred and of norm 1, the matrix is Z'Z. Its inner
    product with another is ||Z_a Z_b'||², a sum over pairs of patients: with 100 patients and
    2,000 genes 20 times cheaper than the full matrices. A gene without variance correlates with
    no other.

    Parameters
    ----------
    values : (n, g)
    dtype : precision of the matrix; float32 is twice as fast.
    """

    def __init__(self, values: Array, dtype: type[np.floating] = np.float32) -> None:
        x = np.asarray(values, dtype=dtype)
        mean = x.mean(axis=0)
        z = x - mean
        norm = np.sqrt(np.einsum("ng,ng->g", z, z))
        flat = norm <= FLAT * np.sqrt(len(x)) * np.maximum(1.0, np.abs(mean))
        z *= np.where(flat, dtype(0), 1 / np.where(flat, dtype(1), norm))
        self.z = z
        self.diagonal = (~flat).astype(np.float64)
        self.total = float(np.square(z.sum(axis=1), dtype=np.float64).sum())
        self.norm = self.inner(self)

    def inner(self, other: CorrelationMatrix) -> float:
        """Return the sum over all pairs of genes of the product of both correlations."""
        return float(np.square(self.z @ other.z.T, dtype=np.float64).sum())

    def similarity(self, other: CorrelationMatrix) -> float:
        """Return the GSC: Pearson correlation of both upper triangles; 0 if either is constant."""
        genes = len(self.diagonal)
        pairs = genes * (genes - 1)
        mean_self, mean_other = ((m.total - m.diagonal.sum()) / pairs for m in (self, other))

        def covariance(
            inner: float, a: CorrelationMatrix, b: CorrelationMatrix, mean: float
        ) -> float:
            return (inner - float(a.diagonal @ b.diagonal)) / pairs - mean

        cross = covariance(self.inner(other), self, other, mean_self * mean_other)
        variance_self = covariance(self.norm, self, self, mean_self**2)
        variance_other = covariance(other.norm, other, other, mean_other**2)
        return (
            cross / np.sqrt(variance_self * variance_other)
            if min(variance_self, variance_other) > 1e-12
            else 0.0
        )


def draw_per_sample(drawn: Drawn, index: int) -> NDArray[np.float32]:
    """Return draw number `index` of every sample (n, g), cycling through its slides."""
    return np.stack([draws[index % len(draws), index] for draws in drawn]).astype(np.float32)


def mean_similarity(truth: Array, drawn: Drawn, count: int) -> float:
    """Return the mean GSC of `count` draws with the measured profiles (n, g).

    Each time, one draw of every sample is compared.
    """
    measured = CorrelationMatrix(truth)
    return float(
        np.mean(
            [
                CorrelationMatrix(draw_per_sample(drawn, index)).similarity(measured)
                for index in range(count)
            ]
        )
    )


def shuffled(drawn: Array, rng: np.random.Generator) -> Array:
    """Shift each gene's draws (slides, D, g) separately: same marginals, independent genes."""
    slides, draws, genes = drawn.shape
    shift = rng.integers(draws, size=(slides, 1, genes))
    order = (np.arange(draws)[None, :, None] + shift) % draws
    return np.take_along_axis(drawn, order, axis=1)


def energy(drawn: Array, observed: Array) -> float:
    """Return the fair energy score of one sample's draws; lower is better.

    mean ||x - y|| - E||x - x'|| / 2 over pairs of different draws (Gneiting and Raftery 2007,
    doi:10.1198/016214506000001437, eq. 22); for one gene it is the CRPS. Divided by the root of
    the number of genes.

    Parameters
    ----------
    drawn : (slides, D, g) with D >= 2; slides weigh equally, as in `gene_metrics.fair_crps`.
    observed : (g,)
    """
    slides, draws, genes = drawn.shape
    pool = np.asarray(drawn, dtype=np.float32).reshape(slides * draws, genes)
    between = pair_distances(pool)
    blocks = between.reshape(slides, draws, slides, draws).sum(axis=(1, 3))
    within = float(np.trace(blocks)) / (draws * (draws - 1))
    spread = (within + float(blocks.sum() - np.trace(blocks)) / draws**2) / slides**2
    return float((to_observed(pool, observed).mean() - spread / 2) / np.sqrt(genes))


def energy_of_profiles(profiles: Array, observed: Array) -> Array:
    """Return energy scores (n,) of observed (n, g), with the profiles (m, g) as draws of each."""
    count, genes = profiles.shape
    spread = pair_distances(profiles).sum() / (count * (count - 1))
    distance = np.array([to_observed(profiles, y).mean() for y in observed])
    return np.asarray((distance - spread / 2) / np.sqrt(genes))


def to_observed(pool: Array, observed: Array) -> Array:
    """Return distances (m,) of the rows of a pool (m, g) from one profile (g,)."""
    return np.sqrt(np.square(pool - observed).sum(axis=1, dtype=np.float64))


def pair_distances(pool: Array) -> Array:
    """Return distances (m, m) between the rows of a pool (m, g)."""
    centred = np.asarray(pool - pool.mean(axis=0), dtype=np.float32)
    inner = (centred @ centred.T).astype(np.float64)
    squared = np.diag(inner)[:, None] + np.diag(inner)[None] - 2 * inner
    np.fill_diagonal(squared, 0)
    return np.sqrt(np.maximum(squared, 0))
