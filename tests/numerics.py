"""How far two networks are apart, and how many operations one dispatches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def difference(one: Tensor, other: Tensor) -> float:
    """Largest |one - other| / max(1, |other|)."""
    one, other = one.detach(), other.detach()
    return float(((one - other).abs() / other.abs().clamp(min=1)).max())


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(work: Callable[[], object]) -> int:
    """Operations that `work` dispatches, without gradients."""
    with _Counter() as counter, torch.no_grad():
        work()
    return counter.count
