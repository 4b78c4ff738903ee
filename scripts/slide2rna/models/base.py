"""Closed-form models: their common result, and the error of one that is unavailable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.data.patients import Part


class Unavailable(Exception):
    """A model can't be fitted to or applied to these slides; the table shows the message."""


@dataclass(frozen=True)
class FittedModel:
    """A model fitted on a fold's train part and tuned on val.

    Attributes
    ----------
    note : details of the fit, for the table.
    predict : maps S slides of a part (of any cohort with the same genes) to (S, G) float32
        log2(x+1). It raises Unavailable where the part lacks the model's input.
    residuals : (n, G) of the train samples, each left out of the fit: added to a prediction, they
        are its draws. None for a model without draws.
    """

    note: str
    predict: Callable[[Part], NDArray[np.float32]]
    residuals: NDArray[np.float32] | None = None
