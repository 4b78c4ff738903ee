"""Null rows and oracles of a spatial report: what a score means without a model of the tissue.

Null rows know the training spots and not the test image. Oracles know something of the test slide
that no model has, and bound what a score can be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slide2rna.core.types import Array
from slide2rna.spatial import targets
from slide2rna.spatial.slides import SpotSlide, stacked
from slide2rna.spatial.targets import Target


def constant(train: Sequence[SpotSlide], test: SpotSlide, kind: Target) -> Array:
    """Predict the mean (n, G) of the training spots."""
    return np.tile(stacked(train, kind).mean(axis=0), (len(test.xy), 1))


def random_spots(
    train: Sequence[SpotSlide], test: SpotSlide, kind: Target, rng: np.random.Generator
) -> Array:
    """Predict the profile (n, G) of a random training spot for each spot."""
    pool = stacked(train, kind)
    return pool[rng.integers(len(pool), size=len(test.xy))]


def permuted(train: Sequence[SpotSlide], rng: np.random.Generator) -> list[SpotSlide]:
    """Return the training slides with their profiles dealt to random spots of the same slide."""
    dealt = []
    for slide in train:
        order = rng.permutation(len(slide.xy))
        dealt.append(slide.with_profiles(slide.counts[order], slide.totals[order]))
    return dealt


def totals_oracle(train: Sequence[SpotSlide], test: SpotSlide, kind: Target) -> Array:
    """Predict (n, G) from the measured depth of the test spots, linearly, and from nothing else."""
    depth = np.concatenate([slide.depth for slide in train])
    design = np.column_stack([np.ones(len(depth)), depth])
    weights, *_ = np.linalg.lstsq(design, stacked(train, kind), rcond=None)
    return np.column_stack([np.ones(len(test.depth)), test.depth]) @ weights


def neighbour_oracle(test: SpotSlide, kind: Target) -> Array:
    """Predict (n, G) by the mean of the neighbours' measured profiles."""
    return test.neighbour_mean(test.target(kind))


def shuffled_oracle(test: SpotSlide, kind: Target, rng: np.random.Generator) -> Array:
    """Predict (n, G) by the measured profiles of the slide, each at another spot."""
    return test.target(kind)[rng.permutation(len(test.xy))]


def noise_ceiling(test: SpotSlide, kind: Target, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return two measurements (n, G) of the same spots: each spot's counts, halved at random.

    Their correlation is the best that any model can reach against one of them. The halves have
    half the depth, so this is a little pessimistic for the whole.
    """
    first, second = targets.split_counts(test.counts, rng)
    totals = 0.5 * test.totals
    return targets.transform(first, totals, kind), targets.transform(second, totals, kind)
