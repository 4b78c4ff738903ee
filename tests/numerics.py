"""How far two networks are apart, slopes by differences, and operations that one dispatches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def difference(one: Tensor, other: Tensor) -> float:
    """Largest |one - other| / max(1, |other|)."""
    one, other = one.detach(), other.detach()
    return float(((one - other).abs() / other.abs().clamp(min=1)).max())


def slope(
    value: Callable[[], Tensor], weight: Tensor, place: tuple[int, ...], step: float = 1e-6
) -> float:
    """Central difference of a value by one number of a weight, which stays as it is."""
    values = []
    for moved in (step, -step):
        with torch.no_grad():
            weight[place] += moved
            values.append(float(value()))
            weight[place] -= moved
    return (values[0] - values[1]) / (2 * step)


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
