"""Training of a pooled head: squared error on the components of the targets, stopped by val.

The components are orthonormal, so the squared error of r coordinates is that of all genes up to a
constant. An epoch takes a fraction of a second, and the head needs no checkpoint.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from slide2rna.flow.conditional_mean import PooledHead
from slide2rna.training.resampled_bags import ResampledBags
from slide2rna.training.selection import clearly_better

# Flat on val over a factor of two for each, on two laws and three cohorts.
LEARNING_RATE, WEIGHT_DECAY, BATCH = 2e-3, 0.05, 32
EPOCHS, PATIENCE = 300, 40
# The weights that count are averages over about ten epochs, after the first five.
AVERAGED, WARM_EPOCHS = 0.1, 5


@dataclass(frozen=True)
class HeadPart:
    """Slides of a part: standardised features (N, K, d), sizes (N, K), coordinates (N, r).

    The train part may have further bags of each slide, standardised, too.
    """

    features: Tensor
    sizes: Tensor
    scores: Tensor
    resamples: ResampledBags | None = None

    def bags(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and sizes of the slides `rows` (B,), one bag drawn of each."""
        bags = self.features[rows], self.sizes[rows]
        return bags if self.resamples is None else self.resamples.draw(rows, *bags)


@dataclass(frozen=True)
class HeadFit:
    """Course of a head's training; `gain` is the fall of the squared error on val, summed."""

    epochs: int
    best_epoch: int
    gain: float
    seconds: float


def fit_head(head: PooledHead, train: HeadPart, val: HeadPart, seed: int) -> HeadFit:
    """Train a head in place; it keeps the epoch of least val loss.

    If that isn't clearly better than no head, it predicts 0 (`selection`).
    """
    began = time.monotonic()
    torch.manual_seed(seed)  # dropout and the order of slides draw from the global stream
    head.fit_pools(train.features, train.sizes)
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    average = copy.deepcopy(head).eval().requires_grad_(False)
    before = least = _val_errors(average, val)
    start = copy.deepcopy(average.state_dict())
    best_epoch, best = 0, start
    epoch = 0
    while epoch < EPOCHS and epoch - best_epoch < PATIENCE:
        epoch += 1
        head.train()
        for rows in torch.randperm(len(train.scores)).split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            scores = head.scores(*train.bags(rows))
            (scores - train.scores[rows]).square().mean().backward()
            optimiser.step()
        step = AVERAGED if epoch > WARM_EPOCHS else 1.0
        for mean, value in zip(average.parameters(), head.parameters(), strict=True):
            mean.lerp_(value.detach(), step)
        errors = _val_errors(average, val)
        if errors.sum() < least.sum():
            least, best_epoch, best = errors, epoch, copy.deepcopy(average.state_dict())
    if not clearly_better(least.numpy(), before.numpy()):
        least, best_epoch, best = before, 0, start
    head.load_state_dict(best)
    head.eval()
    gain = float((before - least).sum())
    return HeadFit(epoch, best_epoch, gain, time.monotonic() - began)


@torch.no_grad()
def _val_errors(head: PooledHead, val: HeadPart) -> Tensor:
    """Return the squared error (N,) of each val slide."""
    return (head.scores(val.features, val.sizes) - val.scores).double().square().sum(dim=1)
