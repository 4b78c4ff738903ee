"""Gene slopes: factors that calibrate each gene's predicted deviation from its mean.

One penalty shrinks all genes alike, too little for some and too much for others. A gene's slope is
the regression slope of its measured on its predicted targets in left-out samples: 1 if deviations
are right on average, below 1 if they are too large. A single slope is uncertain, so it is shrunk
towards the slope of all genes: empirical Bayes with the moment estimate of DerSimonian and Laird
(1986), doi:10.1016/0197-2456(86)90046-2.

A positive slope changes squared errors and intervals, but no correlation within a fold.
"""

from __future__ import annotations

import numpy as np

from slide2rna.core.types import Array

LIMITS = (0.0, 2.0)


def gene_slopes(predicted: Array, measured: Array) -> Array:
    """Return the slope (G,) of measured on predicted targets, both (n, G) around 0.

    A gene without a prediction gets the slope of all genes.
    """
    squares = np.square(predicted).sum(axis=0)
    seen = squares > 1e-12
    if not seen.any():
        return np.ones(len(squares))
    divisor = np.where(seen, squares, 1.0)
    products = (predicted * measured).sum(axis=0)
    slopes = np.where(seen, products / divisor, 0.0)
    common = products.sum() / squares.sum()
    rest = np.square(measured - slopes * predicted).sum(axis=0) / max(1, len(predicted) - 1)
    # A gene predicted without error would have infinite weight.
    variance = np.maximum(rest, 1e-12) / divisor
    weights = np.where(seen, 1 / variance, 0.0)
    excess = float((weights * np.square(slopes - common)).sum()) - (seen.sum() - 1)
    scale = weights.sum() - np.square(weights).sum() / weights.sum()
    spread = max(0.0, excess / scale) if scale > 0 else 0.0
    believed = np.where(seen, spread / (spread + variance), 0.0)
    return np.clip(common + believed * (slopes - common), *LIMITS)
