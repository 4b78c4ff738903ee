"""Mean, sd and quantiles of a slide's draws, which come in chunks and needn't stay."""

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
# Of all that a gene's knots, counts and their copies take, once knots are full (measured).
BYTES_PER_GENE = 14_000
# Bounds the float64 copies; nothing but memory depends on it.
GENES_AT_ONCE = 2048


class DrawStats:
    """What is known of the draws seen so far.

    Quantiles are order statistics at p (n + 1): numpy's default of 100 draws would make the 90 %
    interval of a perfect model cover 88.2 %. Up to 512 draws they are exact.

    Beyond that, the first 512 draws of a gene become knots, and of every later draw only the cell
    between two knots that it falls into is counted. So the exact rank of each knot among all n
    draws is known, and a quantile is interpolated between the two knots whose ranks enclose
    p (n + 1): it lies in the same cell as the exact order statistic, whatever the law. A cell has
    c = n / 512 draws on average, and 2 c around a given quantile, which long cells meet more often;
    in a cell of c a rank is off by sqrt(c / 6) on average (a bridge between two known ranks). So
    the error is 1 / sqrt(3 * 512 p (1 - p)) of the Monte Carlo error sqrt(n p (1 - p)) of a rank,
    however many draws there are: a ninth at p = 0.05, a twentieth at the median.

    Knots are the first draws by index and counts are whole numbers, so quantiles don't depend on
    how the draws were cut into chunks; mean and sd are merged in float64 (Chan et al. 1983,
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
        """Take in the next draws (m, G), in the order of their index."""
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
        """Cell i holds what is above knot i - 1 and not above knot i."""
        knots, rest = (
            torch.from_numpy(np.ascontiguousarray(array.T))
            for array in (self.knots[:, genes], values)
        )
        cells = torch.searchsorted(knots, rest)
        found = torch.zeros(len(knots), KNOTS + 1, dtype=torch.int32)
        found.scatter_add_(1, cells, torch.ones((), dtype=torch.int32).expand_as(cells))
        self.counts[:, genes] += found.numpy().T

    def result(self) -> dict[str, NDArray[np.float32]]:
        """mean (G,), sd (G,) with n - 1 (NaN for one draw), and quantiles (Q, G) of `QUANTILES`."""
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
        """Linear between (rank, value) of the smallest draw, the knots and the largest draw."""
        knots = np.sort(self.knots[:, genes], axis=0).astype(np.float64)
        ranks = np.broadcast_to(np.arange(1, len(knots) + 1)[:, None], knots.shape)
        if len(self.counts):
            ranks = ranks + np.cumsum(self.counts[:-1, genes], axis=0)
        ends = np.full((1, knots.shape[1]), self.n)
        values = np.concatenate([self.low[None, genes], knots, self.high[None, genes]])
        ranks = np.concatenate([np.ones_like(ends), ranks, ends])
        wanted = np.clip(np.array([*QUANTILES.values()]) * (self.n + 1), 1, self.n)
        # The first whose rank reaches it; never row 0, so that there is one before.
        above = np.stack([(ranks[1:] < rank).sum(axis=0) + 1 for rank in wanted])
        r1, r2 = (np.take_along_axis(ranks, rows, axis=0) for rows in (above - 1, above))
        v1, v2 = (np.take_along_axis(values, rows, axis=0) for rows in (above - 1, above))
        share = (wanted[:, None] - r1) / np.maximum(r2 - r1, 1)
        found: NDArray[np.float64] = v1 + share * (v2 - v1)
        return found

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that a later run needs to go on, as arrays."""
        names = ("mean", "squares", "knots", "counts", "low", "high")
        return {"n": np.array(self.n)} | {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, state: Mapping[str, NDArray[np.generic]]) -> DrawStats:
        """Go on from a `state`."""
        found = cls(len(state["mean"]))
        for name, value in state.items():
            setattr(found, name, int(value) if name == "n" else value)
        return found
