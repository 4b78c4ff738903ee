"""Ridge on six numbers a slide: mean and sd of R, G and B, the stain and the scanner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slide2rna.models.base import Fitted, Unavailable
from slide2rna.models.ridge import tuned
from slide2rna.patients import Part


def fit(train: Part, val: Part, seed: int, fold: int) -> Fitted:
    """Ridge on colour statistics; seed and fold aren't used.

    Raises
    ------
    Unavailable
        Here or in `predict`: slides without colour statistics.
    """
    return tuned(color, train, val, train.truth, val.truth)


def color(part: Part) -> NDArray[np.float64]:
    """Colour statistics of a part's slides (S, 6)."""
    values = part.bags.color[part.bag_rows].astype(np.float64)
    if not np.isfinite(values).all():
        raise Unavailable("slides without colour statistics in their features")
    return values
