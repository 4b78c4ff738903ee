"""Whether draws hold together as profiles do: gene-gene correlations, and the energy score.

Both see what no score of single genes can: whether genes that rise together in patients rise
together in the draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics.gene_metrics import FLAT

# Draws (slides, D, genes) of a sample.
Drawn = Sequence[Array]


class Matrix:
    """The gene-gene correlation matrix of n patients, never written out.

    With Z the patients' values (n, g), columns centred and of norm 1, the matrix is Z'Z. Its inner
    product with another is ||Z_a Z_b'||², a sum over pairs of patients: with 100 patients and
    2,000 genes 20 times cheaper than the matrices. A gene without variance correlates with none.

    Parameters
    ----------
    values : (n, g)
    """

    def __init__(self, values: Array) -> None:
        x = np.asarray(values, dtype=np.float32)
        mean = x.mean(axis=0)
        z = x - mean
        norm = np.sqrt(np.einsum("ng,ng->g", z, z))
        flat = norm <= FLAT * np.sqrt(len(x)) * np.maximum(1.0, np.abs(mean))
        z *= np.where(flat, np.float32(0), 1 / np.where(flat, np.float32(1), norm))
        self.z = z
        self.diagonal = (~flat).astype(np.float64)
        self.total = float(np.square(z.sum(axis=1), dtype=np.float64).sum())
        self.norm = self.inner(self)

    def inner(self, other: Matrix) -> float:
        """Sum over all pairs of genes of the product of both correlations."""
        return float(np.square(self.z @ other.z.T, dtype=np.float64).sum())

    def similarity(self, other: Matrix) -> float:
        """GSC: Pearson correlation of both upper triangles; 0 if one of them is constant."""
        genes = len(self.diagonal)
        pairs = genes * (genes - 1)
        ours, theirs = ((m.total - m.diagonal.sum()) / pairs for m in (self, other))

        def covariance(inner: float, a: Matrix, b: Matrix, mean: float) -> float:
            return (inner - float(a.diagonal @ b.diagonal)) / pairs - mean

        both = covariance(self.inner(other), self, other, ours * theirs)
        own = covariance(self.norm, self, self, ours**2)
        their = covariance(other.norm, other, other, theirs**2)
        return both / np.sqrt(own * their) if min(own, their) > 1e-12 else 0.0


def one_draw(drawn: Drawn, index: int) -> NDArray[np.float32]:
    """Draw number `index` of every sample (n, g), its slides taken in turn."""
    return np.stack([of[index % len(of), index] for of in drawn]).astype(np.float32)


def of_draws(truth: Array, drawn: Drawn, count: int) -> float:
    """Mean GSC of so many draws with the measured profiles (n, g), one draw of each at a time."""
    measured = Matrix(truth)
    return float(
        np.mean([Matrix(one_draw(drawn, index)).similarity(measured) for index in range(count)])
    )


def shuffled(of: Array, rng: np.random.Generator) -> Array:
    """Draws (slides, D, g), each gene's in an order of its own: same laws, independent genes."""
    slides, draws, genes = of.shape
    shift = rng.integers(draws, size=(slides, 1, genes))
    order = (np.arange(draws)[None, :, None] + shift) % draws
    return np.take_along_axis(of, order, axis=1)


def energy(drawn: Array, observed: Array) -> float:
    """Energy score of one sample's draws, the fair version; lower is better.

    mean ||x - y|| - E||x - x'|| / 2 over pairs of different draws (Gneiting and Raftery 2007,
    doi:10.1198/016214506000001437, eq. 22); of one gene it is the CRPS. Divided by the root of
    the number of genes.

    Parameters
    ----------
    drawn : (slides, D, g) with D >= 2; slides have equal shares, as in `metrics.fair_crps`.
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
    """Energy scores (n,) of observed (n, g), with the same profiles (m, g) as draws of each."""
    count, genes = profiles.shape
    spread = pair_distances(profiles).sum() / (count * (count - 1))
    distance = np.array([to_observed(profiles, y).mean() for y in observed])
    return np.asarray((distance - spread / 2) / np.sqrt(genes))


def to_observed(pool: Array, observed: Array) -> Array:
    """Distances (m,) of the rows of a pool (m, g) from one profile (g,)."""
    return np.sqrt(np.square(pool - observed).sum(axis=1, dtype=np.float64))


def pair_distances(pool: Array) -> Array:
    """Distances (m, m) between the rows of a pool (m, g)."""
    centred = np.asarray(pool - pool.mean(axis=0), dtype=np.float32)
    inner = (centred @ centred.T).astype(np.float64)
    squared = np.diag(inner)[:, None] + np.diag(inner)[None] - 2 * inner
    np.fill_diagonal(squared, 0)
    return np.sqrt(np.maximum(squared, 0))
