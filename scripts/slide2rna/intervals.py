"""The ends of an interval around a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def interval(point: Array, scale: Array, factor: Array) -> tuple[Array, Array]:
    """Ends of point ± factor * scale; expression in log2(x+1) isn't below 0."""
    half = factor * scale
    return np.maximum(point - half, 0), np.maximum(point + half, 0)
