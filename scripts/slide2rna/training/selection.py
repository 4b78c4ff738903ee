"""Choice on val between a simple fit and a larger one: the one-standard-error rule.

With a handful of val patients, the lower of two mean losses is often chance, and each choice by
chance costs a little. The larger fit has to be better by more than a standard error of the paired
difference (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3).
"""

from __future__ import annotations

import numpy as np

from slide2rna.core.types import Array


def clearly_better(losses: Array, reference: Array) -> bool:
    """Return whether the losses (n,) of val slides are below the reference's on the same slides.

    By more than a standard error of the mean difference; one slide alone decides nothing.
    """
    gain = np.asarray(reference, dtype=np.float64) - np.asarray(losses, dtype=np.float64)
    if len(gain) < 2:
        return False
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))
