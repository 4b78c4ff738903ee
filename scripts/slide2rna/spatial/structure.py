"""Structure of maps: gene-gene similarity, spot-spot similarity, and Moran's I.

Each of them alone is blind to something: truth that is shuffled over spots has the gene-gene
structure of the truth, and a smooth map of anything has its neighbours' similarity. Reports show
them only beside their null rows and the correlation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics.coexpression import CorrelationMatrix
from slide2rna.evaluation.metrics.gene_metrics import is_flat, standardise
from slide2rna.evaluation.metrics.spatial import morans_i

SHUFFLES = 199


class Similarity(NamedTuple):
    """Correlation of two correlation matrices, and how many columns they were made of."""

    value: float
    columns: int


def gsc(predicted: Array, measured: Array) -> Similarity:
    """Return the gene structure correlation of a slide's maps (n, G).

    It is the Pearson correlation of the upper triangles of both gene-gene correlation matrices
    over spots. Genes without variance in either are left out; NaN with fewer than three genes.
    """
    varying = ~(is_flat(predicted) | is_flat(measured))
    return _similarity(predicted[:, varying], measured[:, varying])


def ssc_spot(predicted: Array, measured: Array) -> Similarity:
    """Return the spot structure correlation of a slide's maps (n, G).

    As `gsc`, with the correlation matrices of spots over genes.
    """
    return gsc(predicted.T, measured.T)


def ssc_moran(predicted: Array, measured: Array, weights: sparse.csr_array) -> Similarity:
    """Return the correlation over genes of Moran's I of the prediction and of the truth."""
    both = np.stack([morans_i(values, weights) for values in (predicted, measured)])
    usable = np.isfinite(both).all(axis=0)
    count = int(usable.sum())
    if count < 3:
        return Similarity(float("nan"), count)
    first, second = standardise(both[:, usable].T).T
    return Similarity(float(first @ second), count)


def moran_z(
    values: Array, weights: sparse.csr_array, rng: np.random.Generator, shuffles: int = SHUFFLES
) -> Array:
    """Return Moran's I (G,) in standard deviations of its values after shuffling the spots."""
    observed = morans_i(values, weights)
    shuffled = np.stack(
        [morans_i(values[rng.permutation(len(values))], weights) for _ in range(shuffles)]
    )
    return (observed - shuffled.mean(axis=0)) / shuffled.std(axis=0, ddof=1)


def _similarity(predicted: Array, measured: Array) -> Similarity:
    count = predicted.shape[1]
    if count < 3:
        return Similarity(float("nan"), count)
    first, second = (CorrelationMatrix(v, np.float64) for v in (predicted, measured))
    return Similarity(first.similarity(second), count)
