"""Targets of spots: library-normalised and raw log counts, and depth.

The raw target log2(count + 1) is mostly depth: on her2st an oracle that knows each spot's total
count alone correlates with it better than any model of the image. Both targets are therefore
always scored side by side, and depth is predicted and scored beside them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array

Counts = NDArray[np.int64]
Target = Literal["clean", "published"]
TARGETS: tuple[Target, ...] = ("clean", "published")
# Counts per spot that the clean target is scaled to.
SCALE = 5000.0


def depth(totals: NDArray[np.int64]) -> Array:
    """Return the depth (n,) of spots: log2(1 + total count over all genes)."""
    return np.log2(1.0 + totals)


def transform(counts: Counts, totals: NDArray[np.int64] | Array, target: Target) -> Array:
    """Return counts (n, G) of spots as float64 targets.

    Parameters
    ----------
    counts
        Counts of the panel, (n, G).
    totals
        (n,) counts of each spot over all genes of the section, not of the panel alone.
    target
        `clean`: log2(1 + count / total * 5000); `published`: log2(count + 1).

    Raises
    ------
    ValueError
        A total is 0: such a spot has no profile and must be dropped first.
    """
    if target == "published":
        return np.log2(1.0 + counts)
    if (totals <= 0).any():
        raise ValueError("a spot without counts has no normalised profile")
    return np.log2(1.0 + counts / totals[:, None] * SCALE)


def split_counts(counts: Counts, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Split counts into two halves at random, the two measurements behind the noise ceiling."""
    first = rng.binomial(counts, 0.5)
    return first, counts - first
