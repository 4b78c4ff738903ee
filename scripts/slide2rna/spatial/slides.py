"""Spots of a slide, as models and metrics take them: features, positions, targets and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array, Indices
from slide2rna.spatial import graph, targets
from slide2rna.spatial.targets import Counts, Target


@dataclass(frozen=True)
class SpotSlide:
    """One section with its spots.

    Attributes
    ----------
    name, patient : ids; the patient is the split unit.
    features : (n, d) of the tile around each spot.
    xy : (n, 2) positions in µm.
    pitch : distance of neighbouring spots in µm.
    counts : (n, G) of the panel.
    totals : (n,) counts over all genes of the section.
    """

    name: str
    patient: str
    features: Array
    xy: Array
    pitch: float
    counts: Counts
    totals: NDArray[np.int64]

    @cached_property
    def graph(self) -> graph.SpotGraph:
        """Neighbour graph of the spots."""
        return graph.build(self.xy, self.pitch)

    @cached_property
    def depth(self) -> Array:
        """Depth (n,) of the spots."""
        return targets.depth(self.totals)

    def target(self, kind: Target) -> Array:
        """Return the targets (n, G)."""
        return targets.transform(self.counts, self.totals, kind)

    def neighbour_mean(self, values: Array) -> Array:
        """Return the mean (n, c) of the neighbours' values; an isolated spot has its slide's."""
        mean = self.graph.weights @ values
        lone = np.bincount(self.graph.target, minlength=len(values)) == 0
        mean[lone] = values.mean(axis=0)
        return mean

    def with_features(self, features: Array) -> SpotSlide:
        """Return the slide with other features of its spots."""
        return replace(self, features=features)

    def with_profiles(self, counts: Counts, totals: NDArray[np.int64]) -> SpotSlide:
        """Return the slide with other measurements at its spots."""
        return replace(self, counts=counts, totals=totals)

    def of_panel(self, columns: Indices) -> SpotSlide:
        """Return the slide with some of its genes."""
        return replace(self, counts=self.counts[:, columns])


def stacked(slides: Sequence[SpotSlide], kind: Target) -> Array:
    """Return the targets of all spots, one below the other."""
    return np.concatenate([slide.target(kind) for slide in slides])
