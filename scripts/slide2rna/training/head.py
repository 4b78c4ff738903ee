"""Training of a pooled head: squared error on components of the targets, stopped by val.

The components are orthonormal, so the squared error of r coordinates is that of all genes up to a
constant. An epoch takes a fraction of a second, and the head needs no checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slide2rna.flow.conditional_mean import PooledHead
from slide2rna.training.early_stopping import Course, train_by_val
from slide2rna.training.linear_fit import BagPart

# Flat on val over a factor of two for each, on two laws and three cohorts.
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.05


@dataclass(frozen=True)
class HeadPart:
    """Slides of a part: bags, and coordinates (N, r) of their targets."""

    bags: BagPart
    scores: Tensor


def fit_head(head: PooledHead, train: HeadPart, val: HeadPart, seed: int) -> Course:
    """Train a head in place; it keeps the epoch of least val loss.

    If that isn't clearly better than no head, it predicts 0 (`selection`).
    """
    torch.manual_seed(seed)  # dropout and the order of slides draw from the global stream
    head.fit_pools(train.bags.features, train.bags.sizes)

    def loss(rows: Tensor) -> Tensor:
        scores = head.scores(*train.bags.draw(rows))
        return (scores - train.scores[rows]).square().mean()

    @torch.no_grad()
    def errors(average: PooledHead) -> Tensor:
        gap = average.scores(val.bags.features, val.bags.sizes) - val.scores
        return gap.double().square().sum(dim=1)

    return train_by_val(
        head, loss, errors, val.bags.units, len(train.scores), (LEARNING_RATE, WEIGHT_DECAY)
    )
