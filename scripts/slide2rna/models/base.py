"""What every closed-form model gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.data.patients import Part


class Unavailable(Exception):
    """A model can't be had from these slides; the message says why, for the table."""


@dataclass(frozen=True)
class FittedModel:
    """A model fitted on one fold's train, its choices made on val.

    Attributes
    ----------
    note : how it was fitted, for the table.
    predict : a part's slides (S of them, of any cohort with the same genes) to (S, G) float32
        log2(x+1). It raises Unavailable where the part lacks what the model looks at.
    """

    note: str
    predict: Callable[[Part], NDArray[np.float32]]
