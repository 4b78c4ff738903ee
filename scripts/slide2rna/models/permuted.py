"""The ridge on bag means, fitted to profiles that belong to other patients.

Whole profiles are permuted within train and within val, so that genes keep their correlations;
the test labels stay true. What it scores is chance and the machinery, not morphology.
"""

from __future__ import annotations

from slide2rna import io
from slide2rna.models.base import Fitted
from slide2rna.models.ridge import bag_mean, tuned
from slide2rna.patients import Part


def fit(train: Part, val: Part, seed: int, fold: int) -> Fitted:
    """Ridge on bag means with permuted profiles."""
    rng = io.rng_for(seed, "permuted", fold)
    shuffled = [part.truth[rng.permutation(len(part.samples))] for part in (train, val)]
    return tuned(bag_mean, train, val, *shuffled)
