"""Monotone maps per column between values and normal scores, through quantiles of train values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.types import Array

# More knots would only resolve the outermost 0.2 % of each tail.
MAX_KNOTS = 256


def quantile_knots(values: Array) -> Array:
    """Return quantiles (Q, C) of values (n, C) at the levels (i + 1/2) / Q, Q at most MAX_KNOTS.

    With n <= MAX_KNOTS values, the knots are the sorted values. NaN is left out; a column without
    any value is 0.
    """
    count = min(len(values), MAX_KNOTS)
    levels = (np.arange(count) + 0.5) / count
    empty = np.isnan(values).all(axis=0)
    filled = np.where(empty, 0.0, values.astype(np.float64))
    return np.nanquantile(filled, levels, axis=0, method="hazen")


def to_scores(values: Tensor, knots: Tensor, position: Tensor | None = None) -> Tensor:
    """Map values (N, C) to normal scores by knots (Q, C).

    Between two knots the level is interpolated. A value that equals several knots (a tie) has a
    band of levels; `position` (N, C) in [0, 1] says where in the band, the middle by default.
    Levels beyond the outer knots are those of the outer knots, so scores are finite.
    """
    count = len(knots)
    columns, rows = knots.T.contiguous(), values.T.contiguous()
    below = torch.searchsorted(columns, rows)
    up_to = torch.searchsorted(columns, rows, right=True)
    low = columns.gather(1, (below - 1).clamp(min=0))
    high = columns.gather(1, below.clamp(max=count - 1))
    step = torch.where(high > low, high - low, 1)
    between = below - 0.5 + ((rows - low) / step).clamp(0, 1)
    ties = up_to - below
    middle = torch.full_like(rows, 0.5) if position is None else position.T.to(rows.dtype)
    share = torch.where(ties > 1, middle, 0.5)
    level = torch.where(ties > 0, below + share * ties, between) / count
    return torch.special.ndtri(level.clamp(0.5 / count, 1 - 0.5 / count)).T


def to_values(scores: Tensor, knots: Tensor) -> Tensor:
    """Map normal scores (N, C) to values by knots (Q, C), linearly between knots.

    The inverse of `to_scores`; scores beyond the outer knots give the outer knots.
    """
    count = len(knots)
    place = (torch.special.ndtr(scores) * count - 0.5).clamp(0, count - 1)
    lower = place.floor()
    first = lower.long()
    low = knots.gather(0, first)
    high = knots.gather(0, (first + 1).clamp(max=count - 1))
    return torch.lerp(low, high, place - lower)
