"""Shared types: arrays, table rows and lengths on a slide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Floating-point values and boolean masks; shapes are in the docstrings, such as (N, G).
Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
# A row of a table, by column.
Row = dict[str, Any]
# Lengths on a slide: pixels of a level, micrometres, and micrometres per pixel.
Px = int
Um = float
Mpp = float
