"""One-standard-error rule: the choice on val between a simple fit and a larger one.

With a few val patients, the lower of two mean losses is often chance, and such choices cost
accuracy. The larger fit has to be better by more than a standard error of the paired
difference (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slide2rna.core.types import Array


def clearly_better(losses: Array, reference: Array, units: Sequence[str]) -> bool:
    """Return whether the losses (n,) of val slides are below the reference's on the same slides.

    By more than a standard error of the mean difference over split units, the patients in most
    cohorts: two slides of a patient aren't two witnesses. One unit alone decides nothing.
    """
    gain = np.asarray(reference, dtype=np.float64) - np.asarray(losses, dtype=np.float64)
    _, position, counts = np.unique(np.array(units), return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return False
    means = np.bincount(position, gain) / counts
    return bool(means.mean() > means.std(ddof=1) / np.sqrt(len(counts)))
