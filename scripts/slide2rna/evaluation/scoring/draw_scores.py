"""Draw scores of a fold, with one sample per thread in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slide2rna.core import seeds
from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring.fold_scores import set_weights
from slide2rna.evaluation.scoring.folds import Fold
from slide2rna.evaluation.scoring.sample_scores import (
    SHOWN_LEVEL,
    ScoringPlan,
    by_gene,
    in_order,
    score_sample,
)
from slide2rna.pathways.activity import ScoringMethod, gene_blocks

Raw = tuple[int, NDArray[np.float16]]

PIT_BINS = 20
GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Moments:
    """Mean and variance (n, G) of the draws of a fold's test samples."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


@dataclass(frozen=True)
class DrawMoments:
    """Summary of the draws of a fold's n test samples (S slides), for any model.

    Attributes
    ----------
    slide_mean, slide_first_draw : (S, G) float32 mean of a slide's draws, and its first draw.
    pool : (n, S) shares that average slides to samples.
    crps : (n, G) float32.
    """

    slide_mean: NDArray[np.float32]
    slide_first_draw: NDArray[np.float32]
    pool: NDArray[np.float32]
    crps: NDArray[np.float32]

    @cached_property
    def mean(self) -> NDArray[np.float32]:
        """Mean of a sample's draws (n, G)."""
        return self.pool @ self.slide_mean

    @property
    def first_draw(self) -> NDArray[np.float32]:
        """First draw of a sample's first slide (n, G)."""
        return self.slide_first_draw[self.pool.argmax(axis=1)]


@dataclass(frozen=True)
class DrawScores(DrawMoments):
    """Further scores, for the evaluated model's draws only.

    Attributes
    ----------
    variance : (n, G) float32.
    levels : (L,) nominal levels that this number of draws can attain.
    covered : (L, n, K) share of a gene set inside the interval, per sample.
    covered_gene : (L, G) number of samples inside, per gene.
    covered_patients : (L, G) the same, with samples of a patient sharing a count of one.
    width : (L, G) mean width in log2 units.
    set_width : (L, n, K) mean width over a gene set, per sample.
    pit : (n, K, PIT_BINS) share of a gene set per PIT bin.
    score, score_crps : (n, P) mean of the draws' pathway scores, and their CRPS. CRPS, coverage
        and width are NaN for a pathway that the method can't score.
    score_levels : (M,) levels of the scores' intervals.
    score_covered : (M, n, P) 1 if the interval contains the measured score.
    score_width : (M, P) mean width of these intervals.
    score_ends : (M, 2, n, X) ends of the intervals of the example pathways.
    example_low, example_high : (n, E) ends of the 90 % interval of the example genes.
    """

    variance: NDArray[np.float32]
    levels: Array
    covered: Array
    covered_gene: Array
    covered_patients: Array
    width: Array
    set_width: Array
    pit: Array
    score: Array
    score_crps: Array
    score_levels: Array
    score_covered: Array
    score_width: Array
    score_ends: Array
    example_low: Array
    example_high: Array


def patient_shares(patient_ids: Sequence[str]) -> NDArray[np.float64]:
    """Return weights (n,) of samples that count each patient once.

    Parameters
    ----------
    patient_ids : (n,) patient of each sample.
    """
    _, places, counts = np.unique(patient_ids, return_inverse=True, return_counts=True)
    return 1.0 / np.asarray(counts, dtype=np.float64)[places]


def stored_moments(fold: Fold) -> Moments:
    """Read mean and sd from the file, which has nothing else if draws weren't stored."""
    mean, sd = fold.mixture(fold.test)
    return Moments(mean, np.square(sd))


def draw_moments(fold: Fold, threads: int) -> DrawMoments:
    """Read the draws of the fold's test samples once; compute only their mean and CRPS."""
    truth, pool = fold.test.truth, fold.test.pool
    genes = truth.shape[1]
    mean, first_draws = np.zeros((2, pool.shape[1], genes), np.float32)
    crps = np.zeros_like(truth)

    def score_row(item: Raw) -> None:
        row, raw = item
        slides = np.flatnonzero(pool[row])
        first_draws[slides] = raw[:, 0]
        for block in gene_blocks(genes):
            strata = by_gene(raw, block)
            mean[slides, block] = strata.mean(axis=2)
            ordered, strata = in_order(strata)
            crps[row, block] = gene_metrics.fair_crps(ordered, truth[row, block], strata)

    for _ in ordered_map(score_row, fold.test_draws(), threads):
        pass
    return DrawMoments(mean, first_draws, pool, crps)


def score_draws(
    fold: Fold,
    sets: NDArray[np.bool_],
    levels: list[float],
    method: ScoringMethod,
    examples: tuple[NDArray[np.int64], NDArray[np.int64]],
    seed: int,
    threads: int,
) -> DrawScores:
    """Read the draws of the fold's test samples once and compute all scores.

    Parameters
    ----------
    sets : (G, K) gene sets; each sample's coverage and PIT are averaged per set.
    levels : nominal levels of the intervals; a grid for the reliability curve is added.
    method : scoring method of pathways.
    examples : genes (E,) and pathways (X,) whose intervals the figures need.
    """
    truth, pool = fold.test.truth, fold.test.pool
    n, genes = truth.shape

    def attainable_levels(levels: set[float]) -> Array:
        return np.array([x for x in sorted(levels) if gene_metrics.attainable(x, fold.pool_size)])

    plan = ScoringPlan(
        attainable_levels({*levels, *GRID}),
        attainable_levels({*levels, SHOWN_LEVEL}),
        method,
        *examples,
    )
    members = np.maximum(sets.sum(axis=0), 1)
    weight = set_weights(sets, np.ones(genes, dtype=bool))
    shares = patient_shares(fold.test.patient_ids)
    level_count, score_level_count = len(plan.levels), len(plan.score_levels)
    pathways = method.members.shape[0]
    mean, first_draws = np.zeros((2, pool.shape[1], genes), np.float32)
    variance, crps = np.zeros((2, n, genes), np.float32)
    covered, set_width = np.zeros((2, level_count, n, sets.shape[1]))
    covered_gene, covered_patients, width = np.zeros((3, level_count, genes))
    bins = np.zeros((n, sets.shape[1], PIT_BINS))
    score, score_crps = np.zeros((2, n, pathways))
    score_covered = np.zeros((score_level_count, n, pathways), np.float32)
    score_width = np.zeros((score_level_count, pathways))
    score_ends = np.zeros((score_level_count, 2, n, len(plan.pathways)))
    ends = np.full((2, n, len(plan.genes)), np.nan)

    def score_row(item: Raw) -> tuple[int, dict[str, Array]]:
        row, raw = item
        rng = seeds.rng_for(seed, "pit", fold.test.samples[row])
        scored = score_sample(raw, truth[row], plan, rng)
        slides = np.flatnonzero(pool[row])
        mean[slides], first_draws[slides] = scored["mean"], raw[:, 0]
        variance[row], crps[row] = scored["variance"], scored["crps"]
        score[row], score_crps[row] = scored["score"], scored["score_crps"]
        score_covered[:, row], score_ends[:, :, row] = scored["score_inside"], scored["score_ends"]
        ends[:, row] = scored["ends"]
        covered[:, row], set_width[:, row] = scored["inside"] @ weight, scored["width"] @ weight
        hits = np.minimum((scored["pit"] * PIT_BINS).astype(int), PIT_BINS - 1)
        for index in range(sets.shape[1]):
            bins[row, index] = np.bincount(hits, sets[:, index], PIT_BINS) / members[index]
        return row, {name: scored[name] for name in ("inside", "width", "score_width")}

    for row, scored in ordered_map(score_row, fold.test_draws(), threads):
        covered_gene += scored["inside"]
        covered_patients += shares[row] * scored["inside"]
        width += scored["width"] / n
        score_width += scored["score_width"] / n
    return DrawScores(
        slide_mean=mean,
        slide_first_draw=first_draws,
        pool=pool,
        crps=crps,
        variance=variance,
        levels=plan.levels,
        covered=covered,
        covered_gene=covered_gene,
        covered_patients=covered_patients,
        width=width,
        set_width=set_width,
        pit=bins,
        score=score,
        score_crps=score_crps,
        score_levels=plan.score_levels,
        score_covered=score_covered,
        score_width=score_width,
        score_ends=score_ends,
        example_low=ends[0],
        example_high=ends[1],
    )
