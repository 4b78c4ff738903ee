"""Early stopping: AdamW on a small module, with averaged weights, until val no longer improves.

An epoch takes a fraction of a second, and nothing is stored between epochs.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from slide2rna.training.selection import clearly_better

M = TypeVar("M", bound=nn.Module)

BATCH = 32
EPOCHS, PATIENCE = 300, 40
# Weights are averaged over about ten epochs, after the first five.
AVERAGED, WARM_EPOCHS = 0.1, 5


@dataclass(frozen=True)
class Course:
    """Course of a training; `gain` is the fall of the error on val, summed."""

    epochs: int
    best_epoch: int
    gain: float
    seconds: float


def train_by_val(
    module: M,
    loss: Callable[[Tensor], Tensor],
    errors: Callable[[M], Tensor],
    units: Sequence[str],
    slides: int,
    rates: tuple[float, float],
) -> Course:
    """Train a module in place; it ends in eval mode with the weights of least val error.

    If that isn't clearly better than the start, it keeps the start (`selection`). Dropout and the
    order of slides draw from the global stream.

    Parameters
    ----------
    loss
        Of the module on these rows of the train slides, a Tensor ().
    errors
        Of a copy of the module on each val slide, (n,) in float64.
    units
        Split unit of each val slide.
    slides
        Number of train slides.
    rates
        Learning rate and weight decay.
    """
    began = time.monotonic()
    optimiser = torch.optim.AdamW(module.parameters(), lr=rates[0], weight_decay=rates[1])
    average = copy.deepcopy(module).eval().requires_grad_(False)
    before = least = errors(average)
    start = copy.deepcopy(average.state_dict())
    best_epoch, best = 0, start
    epoch = 0
    while epoch < EPOCHS and epoch - best_epoch < PATIENCE:
        epoch += 1
        module.train()
        for rows in torch.randperm(slides).split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            loss(rows).backward()
            optimiser.step()
        step = AVERAGED if epoch > WARM_EPOCHS else 1.0
        for mean, value in zip(average.parameters(), module.parameters(), strict=True):
            mean.lerp_(value.detach(), step)
        now = errors(average)
        if now.sum() < least.sum():
            least, best_epoch, best = now, epoch, copy.deepcopy(average.state_dict())
    if not clearly_better(least.numpy(), before.numpy(), units):
        least, best_epoch, best = before, 0, start
    module.load_state_dict(best)
    module.eval()
    return Course(epoch, best_epoch, float((before - least).sum()), time.monotonic() - began)
