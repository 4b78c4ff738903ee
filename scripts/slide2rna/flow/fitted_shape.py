"""Fitted shape: sizes of a flow's layers that the fit of its mean determines (model.json)."""

from __future__ import annotations

from typing import TypedDict


class FittedShape(TypedDict):
    """Sizes of a flow that depend on its fit.

    Attributes
    ----------
    head_rank, own_head_rank : components of the mean's head, and of that in the genes' own scale; 0
        without a head.
    gene_knots : quantiles per gene of normal scores; 0 for z-scores.
    mixture_rank : states of the mixture head; 0 without one.
    mixture_is_mean : whether it is the mean in the genes' own scale.
    """

    head_rank: int
    own_head_rank: int
    gene_knots: int
    mixture_rank: int
    mixture_is_mean: bool


NO_FIT: FittedShape = {
    "head_rank": 0,
    "own_head_rank": 0,
    "gene_knots": 0,
    "mixture_rank": 0,
    "mixture_is_mean": False,
}
