"""Scores of one sample's draws, a block of genes in the cache at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna import metrics

Array = NDArray[np.floating]

SHOWN_LEVEL = 0.9
# 100 draws of so many genes take 0.8 MB, which stays in a core's cache.
BLOCK = 2048


@dataclass(frozen=True)
class Standardiser:
    """Pathway scores: the mean of the members' z values.

    Attributes
    ----------
    mean, scale : (G,) z = (x - mean) * scale; scale is 0 for a gene without variance in train.
    members : (P, G) sparse; rows sum to 1 over the genes that vary.
    """

    mean: Array
    scale: Array
    members: sparse.csr_matrix

    @classmethod
    def of(
        cls,
        mean: Array,
        sd: Array,
        eligible: NDArray[np.bool_],
        members: sparse.csr_matrix,
        dtype: type[np.floating] = np.float64,
    ) -> Standardiser:
        """From a train part's mean and sd; genes that aren't eligible weigh nothing."""
        scale = np.where(eligible, 1.0 / np.where(eligible, sd, 1.0), 0.0)
        return cls(mean.astype(dtype), scale.astype(dtype), members)

    @cached_property
    def blocks(self) -> list[sparse.csr_matrix]:
        """The members of each block of genes."""
        columns = self.members.tocsc()
        return [columns[:, block].tocsr() for block in gene_blocks(len(self.mean))]

    def score(self, expression: Array) -> Array:
        """Scores (P, ...) of expression (G, ...)."""
        shape = (-1,) + (1,) * (expression.ndim - 1)
        z = (expression - self.mean.reshape(shape)) * self.scale.reshape(shape)
        return self.members @ z


def gene_blocks(genes: int) -> list[slice]:
    """Slices of at most BLOCK genes."""
    return [slice(start, min(start + BLOCK, genes)) for start in range(0, genes, BLOCK)]


def score_sample(
    raw: NDArray[np.float16],
    truth: Array,
    levels: Array,
    standardiser: Standardiser,
    examples: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Scores of one sample from its draws (slides, D, G)."""
    slides, draws, genes = raw.shape
    pathways = standardiser.members.shape[0]
    found: dict[str, Array] = {
        "mean": np.empty((slides, genes), np.float32),
        "inside": np.zeros((len(levels), genes), np.float32),
        "width": np.zeros((len(levels), genes), np.float32),
        "ends": np.full((2, len(examples)), np.nan),
        "pit": np.asarray(rng.random(genes)),
    }
    found |= {name: np.empty(genes, np.float32) for name in ("variance", "crps")}
    shown = metrics.attainable(SHOWN_LEVEL, slides * draws)
    scores = np.zeros((pathways, slides * draws), np.float32)
    for block, members in zip(gene_blocks(genes), standardiser.blocks, strict=True):
        y, strata = truth[block], by_gene(raw, block)
        pooled = strata.transpose(1, 0, 2).reshape(len(y), slides * draws)
        found["mean"][:, block] = strata.mean(axis=2)
        found["variance"][block] = pooled.var(axis=1, ddof=1)
        z = pooled - standardiser.mean[block, None]
        z *= standardiser.scale[block, None]
        scores += members @ z
        ordered, strata = in_order(strata)
        found["crps"][block] = metrics.fair_crps(ordered, y, strata)
        found["pit"][block] = metrics.pit(ordered, y, found["pit"][block])
        for index, level in enumerate(levels):
            low, high = metrics.central_interval(ordered, float(level))
            found["inside"][index, block] = (low <= y) & (y <= high)
            found["width"][index, block] = high - low
        here = np.flatnonzero((examples >= block.start) & (examples < block.stop))
        if shown and len(here):
            rows = ordered[examples[here] - block.start]
            found["ends"][:, here] = metrics.central_interval(rows, SHOWN_LEVEL)
    return found | _score_pathways(scores, standardiser.score(truth), slides, shown)


def _score_pathways(scores: Array, target: Array, slides: int, shown: bool) -> dict[str, Array]:
    """Of pathway scores (P, slides * D) against the measured ones (P,)."""
    ordered, strata = in_order(scores.reshape(len(scores), slides, -1).transpose(1, 0, 2).copy())
    inside = np.zeros(len(scores))
    if shown:
        low, high = metrics.central_interval(ordered, SHOWN_LEVEL)
        inside = ((low <= target) & (target <= high)).astype(float)
    crps = metrics.fair_crps(ordered, target, strata)
    return {"score": scores.mean(axis=1), "score_crps": crps, "score_inside": inside}


def by_gene(raw: NDArray[np.float16], block: slice) -> NDArray[np.float32]:
    """Draws (slides, D, G) of a block of genes as (slides, genes, D)."""
    return np.ascontiguousarray(raw[:, :, block].transpose(0, 2, 1)).astype(np.float32)


def in_order(strata: Array) -> tuple[Array, Array]:
    """Draws (slides, N, D) sorted: all of them (N, slides * D), and within each slide.

    The strata are sorted in place.
    """
    slides, rows, draws = strata.shape
    if slides == 1:
        strata.sort(axis=2)
        return strata[0], strata
    pooled = strata.transpose(1, 0, 2).reshape(rows, slides * draws)
    strata.sort(axis=2)
    return np.sort(pooled, axis=1), strata
