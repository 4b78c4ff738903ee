"""Agreement of expression maps with measured spots: correlation, Moran's I, and two nulls.

Neighbouring spots are correlated, so intervals resample whole blocks of spots, and one null
preserves the maps' smoothness: it shifts the predicted map against the measured one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.types import Array, Indices
from slide2rna.evaluation.metrics import gene_metrics

PERMUTATIONS = 200
OVERLAP = 0.5  # least fraction of the spots after a shift
NEAR = 2  # array steps: shorter shifts still compare much of the same tissue


def normalised(counts: NDArray[np.int64]) -> Array:
    """Return log1p of counts (n, genes) per 10,000 counts of each spot."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts / total * 1e4)


def neighbours(grid: Indices) -> sparse.csr_array:
    """Return 0/1 (n, n): spots one array step apart along x or y; `grid` is (n, 2) whole steps."""
    row_at = {(int(x), int(y)): row for row, (x, y) in enumerate(grid)}
    pairs = [
        (row, row_at[x + dx, y + dy])
        for (x, y), row in row_at.items()
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
        if (x + dx, y + dy) in row_at
    ]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(grid), len(grid)))


def morans_i(values: Array, adjacency: sparse.csr_array) -> Array:
    """Return Moran's I (G,) of values (n, G); without spatial structure expect -1 / (n - 1).

    Moran 1950, doi:10.1093/biomet/37.1-2.17. NaN for a column without variance.
    """
    z = values - values.mean(axis=0)
    square = np.einsum("ng,ng->g", z, z)
    with np.errstate(invalid="ignore", divide="ignore"):
        moran = len(z) / adjacency.sum() * np.einsum("ng,ng->g", z, adjacency @ z) / square
    return np.where(gene_metrics.is_flat(values), np.nan, moran)


def correlation(predicted: Array, measured: Array) -> Array:
    """Return Pearson r (G,) over spots; 0 if either has no variance."""
    return np.einsum(
        "ng,ng->g", gene_metrics.standardise(predicted), gene_metrics.standardise(measured)
    )


def permuted(
    predicted: Array, measured: Array, seed: int, times: int = PERMUTATIONS
) -> NDArray[np.float64]:
    """Return the mean r over genes after permuting the measured profiles over spots, (times,)."""
    p, m = gene_metrics.standardise(predicted), gene_metrics.standardise(measured)
    rng = np.random.default_rng(seed)
    count = p.shape[1]
    return np.array([(p * m[rng.permutation(len(m))]).sum() / count for _ in range(times)])


def shifts(grid: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of rows (from, to) for every shift of the array that retains half its spots."""
    row_at = {(int(x), int(y)): row for row, (x, y) in enumerate(grid)}
    span = np.ptp(grid, axis=0)
    for dx in range(-int(span[0]), int(span[0]) + 1):
        for dy in range(-int(span[1]), int(span[1]) + 1):
            if max(abs(dx), abs(dy)) < NEAR:
                continue
            overlap = [
                (row, row_at[x + dx, y + dy])
                for (x, y), row in row_at.items()
                if (x + dx, y + dy) in row_at
            ]
            if len(overlap) >= OVERLAP * len(grid):
                rows, moved = np.array(overlap, np.int64).T
                yield rows, moved


def shifted(predicted: Array, measured: Array, grid: Indices) -> NDArray[np.float64]:
    """Return the mean r over genes of the shifted prediction with the measured map, per shift."""
    return np.array(
        [correlation(predicted[a], measured[b]).mean() for a, b in shifts(grid)], np.float64
    )


def block_bootstrap(
    predicted: list[Array], measured: Array, blocks: Indices, seed: int, times: int = 500
) -> NDArray[np.float64]:
    """Return the mean r over genes of several maps on the same resampled blocks, (times, maps).

    Parameters
    ----------
    predicted
        Maps (n, G).
    blocks
        (n,) block of each spot.
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    out = np.empty((times, len(predicted)))
    for time in range(times):
        picked = rng.integers(len(groups), size=len(groups))
        rows = np.concatenate([groups[group] for group in picked])
        for column, values in enumerate(predicted):
            out[time, column] = correlation(values[rows], measured[rows]).mean()
    return out


def varying(measured: list[Array], count: int) -> Indices:
    """Return the genes with the largest mean variance over sections, ascending by column."""
    variance = np.mean([values.var(axis=0) for values in measured], axis=0)
    return np.sort(np.argsort(-variance, kind="stable")[:count])


def structured(measured: list[Array], adjacencies: list[sparse.csr_array], count: int) -> Indices:
    """Return the genes with the largest mean Moran's I over sections, ascending by column."""
    by_section = [
        morans_i(values, adjacency) for values, adjacency in zip(measured, adjacencies, strict=True)
    ]
    mean = np.mean([np.where(np.isnan(moran), -1, moran) for moran in by_section], axis=0)
    return np.sort(np.argsort(-mean, kind="stable")[:count])
