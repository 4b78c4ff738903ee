"""Padded gene sets: ragged sets as a few rectangles, and the mean from sets to genes.

A loop over P pathways dispatches several operations per pathway. Here sets of similar size share
one batched product, so the number of operations doesn't depend on P.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_BUCKETS = 16
MAX_PADDING = 0.1
_FORBIDDEN = np.iinfo(np.int64).max // 4


def partition(sizes: np.ndarray, buckets: int = MAX_BUCKETS) -> list[int]:
    """Partition sizes in descending order into buckets with little padding.

    Use the fewest buckets whose best partition has at most 10 % padding, or the best partition
    into at most `buckets` if none qualifies.

    Parameters
    ----------
    sizes
        (P,) in descending order.
    buckets
        Maximum number of buckets.

    Returns
    -------
    list of int
        End position of each bucket; the last is P. Every set is padded to its bucket's largest.
    """
    widths, first = np.unique(-sizes, return_index=True)
    widths = -widths
    ends = np.append(first[1:], len(sizes))
    n = len(widths)
    cells = widths[:, None] * (ends[None, :] - first[:, None])
    allowed = np.arange(n)[None, :] >= np.arange(n)[:, None]
    cells = np.where(allowed, cells, _FORBIDDEN)
    best = [cells[0]]
    back: list[np.ndarray] = [np.zeros(n, dtype=np.int64)]
    for _ in range(1, min(buckets, n)):
        previous = np.concatenate([[_FORBIDDEN], best[-1][:-1]])
        total = previous[:, None] + cells
        best.append(total.min(axis=0))
        back.append(total.argmin(axis=0))
    padded = [int(row[-1]) for row in best]
    acceptable = [
        level for level, total in enumerate(padded) if sizes.sum() >= (1 - MAX_PADDING) * total
    ]
    level = acceptable[0] if acceptable else int(np.argmin(padded))
    cuts, last = [], n - 1
    while True:
        cuts.append(int(ends[last]))
        start = int(back[level][last])
        if level == 0 or start == 0:
            return cuts[::-1]
        last, level = start - 1, level - 1


class PaddedSets:
    """Layout of the gene sets in padded rectangles.

    Attributes
    ----------
    order
        (P,) set at each position; positions run from the largest set to the smallest.
    shapes
        (sets, width) per bucket.
    gather
        (T,) gene of every padded cell; padding points to G, one past the last gene.
    """

    def __init__(self, index: list[np.ndarray], n_genes: int) -> None:
        sizes = np.array([len(genes) for genes in index], dtype=np.int64)
        self.order = np.argsort(-sizes, kind="stable")
        sorted_sizes = sizes[self.order]
        self.sizes = sorted_sizes
        self.n_genes = n_genes
        self.shapes: list[tuple[int, int]] = []
        cells, start = [], 0
        for end in partition(sorted_sizes):
            width = int(sorted_sizes[start])
            block = np.full((end - start, width), n_genes, dtype=np.int64)
            for row, position in enumerate(range(start, end)):
                genes = index[self.order[position]]
                block[row, : len(genes)] = genes
            self.shapes.append(block.shape)
            cells.append(block.ravel())
            start = end
        self.gather = np.concatenate(cells)

    @property
    def waste(self) -> float:
        """Return the share of cells that are padding."""
        return float((self.gather == self.n_genes).mean())

    def split(self, cells: Tensor) -> list[Tensor]:
        """Split cells (T, ...) into one (sets, width, ...) view per bucket."""
        parts = cells.split([n * m for n, m in self.shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes, strict=True)]


class SegmentMean(torch.autograd.Function):
    """Mean over the cells of each gene (Eq. 8): (T, B) -> (G, B).

    `embedding_bag` sums sorted segments without atomics: three times as fast as `index_add` on a
    CPU, and in a fixed order on a GPU. Its backward isn't used.
    """

    @staticmethod
    def forward(
        ctx: Any, cells: Tensor, order: Tensor, starts: Tensor, gene: Tensor, divisor: Tensor
    ) -> Tensor:
        """Average cells by gene.

        order: cells sorted by gene, starts: (G,) first of each gene, gene: (T,) of each cell.
        """
        ctx.save_for_backward(gene, divisor)
        sums = torch.nn.functional.embedding_bag(order, cells, starts, mode="sum")
        return sums / divisor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gene, divisor = ctx.saved_tensors
        share = torch.nn.functional.pad(grads[0] / divisor, (0, 0, 0, 1))
        return share.index_select(0, gene), None, None, None, None
