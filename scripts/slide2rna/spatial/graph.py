"""Neighbour graph of a slide's spots: sparse, and free of direction and position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from slide2rna.core.types import Array, Indices

NEIGHBOURS = 6
REACH = 1.6  # pitches: the diagonal of a square array is 1.41, its next ring 2


@dataclass(frozen=True)
class SpotGraph:
    """Directed edges of a slide's spots, each from a spot to one of its nearest neighbours.

    Attributes
    ----------
    target, source : (E,) rows of the spot and of its neighbour, sorted by target.
    distance : (E,) distance of both in pitches.
    spots : number of spots.
    """

    target: Indices
    source: Indices
    distance: Array
    spots: int

    @property
    def weights(self) -> sparse.csr_array:
        """Row-normalised weights (n, n); the row of an isolated spot is empty."""
        degree = np.bincount(self.target, minlength=self.spots)
        values = 1.0 / degree[self.target]
        return sparse.csr_array(
            (values, (self.target, self.source)), shape=(self.spots, self.spots)
        )

    def cosine(self, features: Array) -> Array:
        """Return the cosine (E,) of the features (n, d) of both ends of each edge."""
        norm = np.linalg.norm(features, axis=1)
        inner = np.einsum("ed,ed->e", features[self.target], features[self.source])
        return inner / np.maximum(norm[self.target] * norm[self.source], 1e-12)


def pitch(xy: Array) -> float:
    """Return the distance of neighbouring spots: the median distance to the nearest one."""
    nearest = cKDTree(xy).query(xy, k=2)[0][:, 1]
    return float(np.median(nearest))


def build(
    xy: Array, step: float | None = None, neighbours: int = NEIGHBOURS, reach: float = REACH
) -> SpotGraph:
    """Connect each spot (n, 2) with at most `neighbours` nearest ones within `reach` pitches.

    Spots at a border have fewer neighbours, and a spot may have none. Equal distances go to the
    lower row, so the graph doesn't depend on the tree.

    Parameters
    ----------
    xy
        Positions in any unit.
    step
        The pitch in that unit; None measures it.
    """
    count = len(xy)
    step = pitch(xy) if step is None else step
    # Ties at the cut are only resolved if all of them are found.
    found = cKDTree(xy).query_pairs(reach * step * (1 + 1e-9), output_type="ndarray")
    target = np.concatenate([found[:, 0], found[:, 1]]).astype(np.int64)
    source = np.concatenate([found[:, 1], found[:, 0]]).astype(np.int64)
    distance = np.linalg.norm(xy[target] - xy[source], axis=1) / step
    order = np.lexsort((source, np.round(distance, 6), target))
    target, source, distance = target[order], source[order], distance[order]
    first = np.searchsorted(target, np.arange(count))
    kept = np.arange(len(target)) - first[target] < neighbours
    return SpotGraph(target[kept], source[kept], distance[kept], count)
