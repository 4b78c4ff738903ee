"""Scores of a fold's draws, one sample in memory at a time, in threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slide2rna import io, metrics
from slide2rna.folds import Fold
from slide2rna.parallel import ordered_map
from slide2rna.sample_scores import Standardiser, by_gene, gene_blocks, in_order, score_sample

Array = NDArray[np.floating]
Raw = tuple[int, NDArray[np.float16]]

PIT_BINS = 20
GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class DrawMoments:
    """What is kept of the draws of a fold's n test samples (S slides), for any model.

    Attributes
    ----------
    slide_mean, slide_one : (S, G) float32 mean of a slide's draws, and its first draw.
    pool : (n, S) shares that average slides to samples.
    crps : (n, G) float32.
    """

    slide_mean: NDArray[np.float32]
    slide_one: NDArray[np.float32]
    pool: NDArray[np.float32]
    crps: NDArray[np.float32]

    @cached_property
    def mean(self) -> NDArray[np.float32]:
        """Mean of a sample's draws (n, G)."""
        return self.pool @ self.slide_mean

    @property
    def one(self) -> NDArray[np.float32]:
        """First draw of a sample's first slide (n, G)."""
        return self.slide_one[self.pool.argmax(axis=1)]


@dataclass(frozen=True)
class DrawScores(DrawMoments):
    """What is kept beyond that of the evaluated model's draws.

    Attributes
    ----------
    variance : (n, G) float32.
    levels : (L,) nominal levels that so many draws can attain.
    covered : (L, n, K) share of a gene set inside the interval, per sample.
    covered_gene : (L, G) number of samples inside, per gene.
    width : (L, G) mean width in log2 units.
    pit : (n, K, PIT_BINS) share of a gene set per PIT bin.
    score, score_crps : (n, P) mean of the draws' pathway scores, and their CRPS.
    score_covered : (n, P) whether the 90 % interval of the score holds the measured one.
    example_low, example_high : (n, E) ends of the 90 % interval of the example genes.
    """

    variance: NDArray[np.float32]
    levels: Array
    covered: Array
    covered_gene: Array
    width: Array
    pit: Array
    score: Array
    score_crps: Array
    score_covered: NDArray[np.bool_]
    example_low: Array
    example_high: Array


def draw_moments(fold: Fold, threads: int) -> DrawMoments:
    """Go once through the draws of the fold's test samples, for their mean and CRPS alone."""
    truth, pool = fold.test.truth, fold.test.pool
    genes = truth.shape[1]
    mean, one = np.zeros((2, pool.shape[1], genes), np.float32)
    crps = np.zeros_like(truth)

    def work(item: Raw) -> None:
        row, raw = item
        slides = np.flatnonzero(pool[row])
        one[slides] = raw[:, 0]
        for block in gene_blocks(genes):
            strata = by_gene(raw, block)
            mean[slides, block] = strata.mean(axis=2)
            ordered, strata = in_order(strata)
            crps[row, block] = metrics.fair_crps(ordered, truth[row, block], strata)

    for _ in ordered_map(work, fold.test_draws(), threads):
        pass
    return DrawMoments(mean, one, pool, crps)


def score_draws(
    fold: Fold,
    sets: NDArray[np.bool_],
    levels: list[float],
    standardiser: Standardiser,
    examples: NDArray[np.int64],
    seed: int,
    threads: int,
) -> DrawScores:
    """Go once through the draws of the fold's test samples, for all that is scored.

    Parameters
    ----------
    sets : (G, K) gene sets; each sample's coverage and PIT are kept per set.
    levels : nominal levels of the intervals; a grid for the reliability curve is added.
    examples : (E,) genes whose 90 % intervals are kept for the figure.
    """
    truth, pool = fold.test.truth, fold.test.pool
    n, genes = truth.shape
    draws = fold.pool_size
    wanted = sorted({*levels, *GRID})
    usable = np.array([level for level in wanted if metrics.attainable(level, draws)])
    members = np.maximum(sets.sum(axis=0), 1)
    weight = sets.astype(np.float32) / members.astype(np.float32)
    mean, one = np.zeros((2, pool.shape[1], genes), np.float32)
    variance, crps = np.zeros((2, n, genes), np.float32)
    covered = np.zeros((len(usable), n, sets.shape[1]))
    covered_gene, width = np.zeros((2, len(usable), genes))
    bins = np.zeros((n, sets.shape[1], PIT_BINS))
    score, score_crps, inside = np.zeros((3, n, standardiser.members.shape[0]))
    ends = np.full((2, n, len(examples)), np.nan)

    def work(item: Raw) -> tuple[int, dict[str, Array]]:
        row, raw = item
        rng = io.rng_for(seed, "pit", fold.test.samples[row])
        found = score_sample(raw, truth[row], usable, standardiser, examples, rng)
        slides = np.flatnonzero(pool[row])
        mean[slides], one[slides] = found["mean"], raw[:, 0]
        variance[row], crps[row] = found["variance"], found["crps"]
        score[row], score_crps[row] = found["score"], found["score_crps"]
        inside[row], ends[:, row] = found["score_inside"], found["ends"]
        covered[:, row] = found["inside"] @ weight
        hits = np.minimum((found["pit"] * PIT_BINS).astype(int), PIT_BINS - 1)
        for index in range(sets.shape[1]):
            bins[row, index] = np.bincount(hits, sets[:, index], PIT_BINS) / members[index]
        return row, found

    for _, found in ordered_map(work, fold.test_draws(), threads):
        covered_gene += found["inside"]
        width += found["width"] / n
    return DrawScores(
        slide_mean=mean,
        slide_one=one,
        pool=pool,
        crps=crps,
        variance=variance,
        levels=usable,
        covered=covered,
        covered_gene=covered_gene,
        width=width,
        pit=bins,
        score=score,
        score_crps=score_crps,
        score_covered=inside > 0,
        example_low=ends[0],
        example_high=ends[1],
    )
