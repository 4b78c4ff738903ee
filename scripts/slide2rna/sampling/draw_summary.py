"""Draw statistics: mean, sd and quantiles of a slide's draws, streamed in chunks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

QUANTILES = {
    **{"q05": 0.05, "q10": 0.1, "q25": 0.25, "q50": 0.5},
    **{"q75": 0.75, "q90": 0.9, "q95": 0.95},
}
KNOTS = 512
# Memory of a gene's knots, counts and their copies once the knots are full (measured).
BYTES_PER_GENE = 14_000
# Limits the memory of float64 copies; results don't depend on it.
GENES_AT_ONCE = 2048


class DrawStats:
    """Running mean, sd and quantiles of draws.

    Quantiles are order statistics at p (n + 1): with numpy's default for 100 draws, the 90 %
    interval of a perfect model would cover 88.2 %. Up to 512 draws they are exact.

    Beyond that, the first 512 draws of a gene become knots. Every later draw is only counted in its
    cell between two knots. This gives the exact rank of each knot among all n draws. A quantile is
    interpolated between the two knots whose ranks enclose p (n + 1), so it lies in the same cell as
    the exact order statistic, for any distribution. A cell has c = n / 512 draws on average, and
    2 c around a specific quantile, which is more often in a long cell. In a cell of c a rank is off
    by sqrt(c / 6) on average (a bridge between two exact ranks). So the error is
    1 / sqrt(3 * 512 p (1 - p)) of the Monte Carlo error sqrt(n p (1 - p)) of a rank, for any number
    of draws: a ninth at p = 0.05, a twentieth at the median.

    Knots are the first draws by index and counts are integers, so quantiles don't depend on the
    division into chunks. Mean and sd are merged in float64 (Chan et al. 1983,
    doi:10.1080/00031305.1983.10483115).

    Parameters
    ----------
    genes
        G.
    """

    def __init__(self, genes: int) -> None:
        self.n = 0
        self.mean = np.zeros(genes)
        self.squares = np.zeros(genes)
        self.knots = np.empty((0, genes), dtype=np.float32)
        self.counts = np.zeros((0, genes), dtype=np.int32)
        self.low = np.full(genes, np.inf, dtype=np.float32)
        self.high = np.full(genes, -np.inf, dtype=np.float32)

    def add(self, values: NDArray[np.float32]) -> None:
        """Add the next draws (m, G), in the order of their index."""
        first = values[: max(0, KNOTS - len(self.knots))]
        if len(first):
            self.knots = np.concatenate([self.knots, first]) if self.n else first.copy()
            if len(self.knots) == KNOTS:
                self.knots.sort(axis=0)
                self.counts = np.zeros((KNOTS + 1, values.shape[1]), dtype=np.int32)
        for genes in self._blocks():
            self._merge(values[:, genes], genes)
            if len(values) > len(first):
                self._count(values[len(first) :, genes], genes)
        self.n += len(values)

    def _blocks(self) -> list[slice]:
        starts = range(0, len(self.mean), GENES_AT_ONCE)
        return [slice(start, start + GENES_AT_ONCE) for start in starts]

    def _merge(self, values: NDArray[np.float32], genes: slice) -> None:
        m = len(values)
        exact = values.astype(np.float64)
        mean = exact.mean(axis=0)
        exact -= mean
        delta = mean - self.mean[genes]
        self.squares[genes] += (exact**2).sum(axis=0) + delta**2 * (self.n * m / (self.n + m))
        self.mean[genes] += delta * (m / (self.n + m))
        self.low[genes] = np.minimum(self.low[genes], values.min(axis=0))
        self.high[genes] = np.maximum(self.high[genes], values.max(axis=0))

    def _count(self, values: NDArray[np.float32], genes: slice) -> None:
        """Count values by cell; cell i is above knot i - 1 and not above knot i."""
        knots, rest = (
            torch.from_numpy(np.ascontiguousarray(array.T))
            for array in (self.knots[:, genes], values)
        )
        cells = torch.searchsorted(knots, rest)
        counts = torch.zeros(len(knots), KNOTS + 1, dtype=torch.int32)
        counts.scatter_add_(1, cells, torch.ones((), dtype=torch.int32).expand_as(cells))
        self.counts[:, genes] += counts.numpy().T

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Return mean (G,), sd (G,) with n - 1 (NaN for one draw) and quantiles (Q, G)."""
        with np.errstate(invalid="ignore"):
            sd = np.sqrt(self.squares / np.float64(self.n - 1))
        quantiles = np.empty((len(QUANTILES), len(self.mean)), dtype=np.float32)
        for genes in self._blocks():
            quantiles[:, genes] = self._quantiles(genes)
        return {
            "mean": self.mean.astype(np.float32),
            "sd": sd.astype(np.float32),
            "quantiles": quantiles,
        }

    def _quantiles(self, genes: slice) -> NDArray[np.float64]:
        """Interpolate linearly in (rank, value) of the smallest draw, the knots and the largest."""
        knots = np.sort(self.knots[:, genes], axis=0).astype(np.float64)
        ranks = np.broadcast_to(np.arange(1, len(knots) + 1)[:, None], knots.shape)
        if len(self.counts):
            ranks = ranks + np.cumsum(self.counts[:-1, genes], axis=0)
        ends = np.full((1, knots.shape[1]), self.n)
        values = np.concatenate([self.low[None, genes], knots, self.high[None, genes]])
        ranks = np.concatenate([np.ones_like(ends), ranks, ends])
        targets = np.clip(np.array([*QUANTILES.values()]) * (self.n + 1), 1, self.n)
        # The first row whose rank reaches the target; never row 0, so a row precedes it.
        above = np.stack([(ranks[1:] < rank).sum(axis=0) + 1 for rank in targets])
        r1, r2 = (np.take_along_axis(ranks, rows, axis=0) for rows in (above - 1, above))
        v1, v2 = (np.take_along_axis(values, rows, axis=0) for rows in (above - 1, above))
        share = (targets[:, None] - r1) / np.maximum(r2 - r1, 1)
        interpolated: NDArray[np.float64] = v1 + share * (v2 - v1)
        return interpolated

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state from which a later run resumes, as arrays."""
        names = ("mean", "squares", "knots", "counts", "low", "high")
        return {"n": np.array(self.n)} | {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]]) -> DrawStats:
        """Resume from a `state`."""
        stats = cls(len(state["mean"]))
        for name, value in state.items():
            setattr(stats, name, int(value) if name == "n" else value)
        return stats
