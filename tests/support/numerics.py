"""Numbers for tests of networks: largest differences, slopes, counted operations, point clouds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
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


def blobs(n: int, d: int, centres: int, seed: int = 0) -> np.ndarray:
    """Points around so many centres, (n, d), as float32."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, d)) * 2
    return (middle[rng.integers(centres, size=n)] + rng.standard_normal((n, d))).astype(np.float32)
