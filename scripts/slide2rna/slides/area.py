"""Area of a slide: a polygon in level-0 px, from the sample sheet's column or an option."""

from __future__ import annotations

import numpy as np

from slide2rna.core.files import parse_json
from slide2rna.core.types import Px

# No slide is wider; a number of 400 digits is none.
MAX_EDGE: Px = 10**9


def parse_area(text: str) -> np.ndarray | None:
    """Return the vertices (n, 2) of a JSON list of at least three [x, y]; None if it isn't one."""
    try:
        points = parse_json(text)
    except ValueError:
        return None
    if not isinstance(points, list) or len(points) < 3:
        return None
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            return None
        if not all(type(edge) in (int, float) and abs(edge) <= MAX_EDGE for edge in point):
            return None
    return np.asarray(points, dtype=np.float64)
