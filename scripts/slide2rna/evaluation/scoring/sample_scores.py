"""Sample scores: scores of one sample's draws, one cached block of genes at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.pathways.activity import ScoringMethod, ZScore, gene_blocks

SHOWN_LEVEL = 0.9


@dataclass(frozen=True)
class ScoringPlan:
    """Plan of the scores of every sample's draws.

    Attributes
    ----------
    levels : (L,) nominal levels of the genes' intervals.
    score_levels : (M,) nominal levels of the pathway scores' intervals.
    method : scoring method of pathways.
    genes, pathways : (E,), (X,) columns of examples whose intervals are returned.
    """

    levels: Array
    score_levels: Array
    method: ScoringMethod
    genes: NDArray[np.int64]
    pathways: NDArray[np.int64]


def score_sample(
    raw: NDArray[np.float16], truth: Array, plan: ScoringPlan, rng: np.random.Generator
) -> dict[str, Array]:
    """Score one sample from its draws (slides, D, G)."""
    slides, draws, genes = raw.shape
    levels, examples, method = plan.levels, plan.genes, plan.method
    out: dict[str, Array] = {
        "mean": np.empty((slides, genes), np.float32),
        "inside": np.zeros((len(levels), genes), np.float32),
        "width": np.zeros((len(levels), genes), np.float32),
        "ends": np.full((2, len(examples)), np.nan),
        "pit": np.asarray(rng.random(genes)),
    }
    out |= {name: np.empty(genes, np.float32) for name in ("variance", "crps")}
    has_ends = gene_metrics.attainable(SHOWN_LEVEL, slides * draws)
    scores = np.zeros((method.members.shape[0], slides * draws), np.float32)
    if not isinstance(method, ZScore):
        scores = method.score(raw.reshape(slides * draws, genes).astype(np.float32).T)
    for number, block in enumerate(gene_blocks(genes)):
        y, strata = truth[block], by_gene(raw, block)
        pooled = strata.transpose(1, 0, 2).reshape(len(y), slides * draws)
        out["mean"][:, block] = strata.mean(axis=2)
        out["variance"][block] = pooled.var(axis=1, ddof=1)
        if isinstance(method, ZScore):
            z = pooled - method.mean[block, None]
            z *= method.scale[block, None]
            scores += method.blocks[number] @ z
        ordered, strata = in_order(strata)
        out["crps"][block] = gene_metrics.fair_crps(ordered, y, strata)
        out["pit"][block] = gene_metrics.pit(ordered, y, out["pit"][block])
        for index, level in enumerate(levels):
            low, high = gene_metrics.central_interval(ordered, float(level))
            out["inside"][index, block] = (low <= y) & (y <= high)
            out["width"][index, block] = high - low
        in_block = np.flatnonzero((examples >= block.start) & (examples < block.stop))
        if has_ends and len(in_block):
            rows = ordered[examples[in_block] - block.start]
            out["ends"][:, in_block] = gene_metrics.central_interval(rows, SHOWN_LEVEL)
    return out | _score_pathways(scores, method.score(truth), slides, plan)


def _score_pathways(
    scores: Array, target: Array, slides: int, plan: ScoringPlan
) -> dict[str, Array]:
    """Score the draws' pathway scores (P, slides * D) against the measured ones (P,).

    CRPS, coverage and width are NaN for a pathway that can't be scored.
    """
    unknown = np.where(plan.method.scorable, np.float32(0), np.float32(np.nan))
    ordered, strata = in_order(scores.reshape(len(scores), slides, -1).transpose(1, 0, 2).copy())
    ends = [gene_metrics.central_interval(ordered, float(level)) for level in plan.score_levels]
    bounds = np.array(ends, dtype=np.float32).reshape(-1, 2, len(scores))
    return {
        "score": scores.mean(axis=1),
        "score_crps": gene_metrics.fair_crps(ordered, target, strata) + unknown,
        "score_inside": ((bounds[:, 0] <= target) & (target <= bounds[:, 1])) + unknown,
        "score_width": bounds[:, 1] - bounds[:, 0] + unknown,
        "score_ends": bounds[:, :, plan.pathways],
    }


def by_gene(raw: NDArray[np.float16], block: slice) -> NDArray[np.float32]:
    """Return draws (slides, D, G) of a block of genes as (slides, genes, D)."""
    return np.ascontiguousarray(raw[:, :, block].transpose(0, 2, 1)).astype(np.float32)


def in_order(strata: Array) -> tuple[Array, Array]:
    """Return draws (slides, N, D) sorted: pooled (N, slides * D), and within each slide.

    The strata are sorted in place.
    """
    slides, rows, draws = strata.shape
    if slides == 1:
        strata.sort(axis=2)
        return strata[0], strata
    pooled = strata.transpose(1, 0, 2).reshape(rows, slides * draws)
    strata.sort(axis=2)
    return np.sort(pooled, axis=1), strata
