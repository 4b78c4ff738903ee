"""Scores of a fold's draws, one sample in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna import io, metrics
from slide2rna.patients import Fold

Array = NDArray[np.floating]

PIT_BINS = 20
GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SHOWN_LEVEL = 0.9


@dataclass(frozen=True)
class DrawScores:
    """What is kept of the draws of a fold's n test samples.

    Attributes
    ----------
    mean, variance, one, crps : (n, G) float32; `one` is the first draw of the first slide.
    levels : (L,) nominal levels that so many draws can attain.
    covered : (L, n, K) share of a gene set inside the interval, per sample.
    covered_gene : (L, G) number of samples inside, per gene.
    width : (L, G) mean width in log2 units.
    pit : (n, K, PIT_BINS) share of a gene set per PIT bin.
    score : (n, P) mean of the draws' pathway scores.
    score_covered : (n, P) whether the 90 % interval of the score holds the measured one.
    example_low, example_high : (n, E) ends of the 90 % interval of the example genes.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    one: NDArray[np.float32]
    crps: NDArray[np.float32]
    levels: Array
    covered: Array
    covered_gene: Array
    width: Array
    pit: Array
    score: Array
    score_covered: NDArray[np.bool_]
    example_low: Array
    example_high: Array


@dataclass(frozen=True)
class Standardiser:
    """Pathway scores: the mean of the members' z values.

    Attributes
    ----------
    mean, scale : (G,) z = (x - mean) * scale; scale is 0 for a gene without variance in train.
    members : (P, G) sparse; rows sum to 1 over the genes that vary.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    members: sparse.csr_matrix

    def score(self, expression: Array) -> Array:
        """Scores (P, ...) of expression (G, ...)."""
        shape = (-1,) + (1,) * (expression.ndim - 1)
        z = (expression - self.mean.reshape(shape)) * self.scale.reshape(shape)
        return self.members @ z


def score_draws(
    fold: Fold,
    sets: NDArray[np.bool_],
    levels: list[float],
    standardiser: Standardiser,
    examples: NDArray[np.int64],
    seed: int,
    threads: int,
) -> DrawScores:
    """Go once through the draws of the fold's test samples.

    Parameters
    ----------
    sets : (G, K) gene sets; each sample's coverage and PIT are kept per set.
    levels : nominal levels of the intervals; a grid for the reliability curve is added.
    examples : (E,) genes whose 90 % intervals are kept for the figure.
    """
    truth = fold.test.truth
    n, genes = truth.shape
    draws = fold.array("draws").shape[1]
    wanted = sorted({*levels, *GRID})
    usable = np.array([level for level in wanted if metrics.attainable(level, draws)])
    members = sets.sum(axis=0)
    weight = sets.astype(np.float32) / np.maximum(members, 1).astype(np.float32)
    fields = {
        name: np.zeros((n, genes), np.float32) for name in ("mean", "variance", "one", "crps")
    }
    covered = np.zeros((len(usable), n, sets.shape[1]))
    covered_gene, width = np.zeros((2, len(usable), genes))
    bins = np.zeros((n, sets.shape[1], PIT_BINS))
    pathways = standardiser.members.shape[0]
    score, inside = np.zeros((n, pathways)), np.zeros((n, pathways), dtype=bool)
    ends = np.full((2, n, len(examples)), np.nan)

    def work(item: tuple[int, NDArray[np.float16]]) -> tuple[int, dict[str, Array]]:
        row, raw = item
        rng = io.rng_for(seed, "pit", fold.test.samples[row])
        return row, _score_sample(raw, truth[row], usable, standardiser, examples, rng)

    with ThreadPoolExecutor(threads) as pool:
        for row, found in _bounded(pool, work, fold.test_draws(), threads):
            for name, values in fields.items():
                values[row] = found[name]
            covered[:, row] = found["inside"] @ weight
            covered_gene += found["inside"]
            width += found["width"] / n
            hits = np.minimum((found["pit"] * PIT_BINS).astype(int), PIT_BINS - 1)
            for index in range(sets.shape[1]):
                bins[row, index] = np.bincount(hits, sets[:, index], PIT_BINS) / max(
                    members[index], 1
                )
            score[row], inside[row] = found["score"], found["score_inside"] > 0
            ends[:, row] = found["ends"]
    return DrawScores(
        **fields,
        levels=usable,
        covered=covered,
        covered_gene=covered_gene,
        width=width,
        pit=bins,
        score=score,
        score_covered=inside,
        example_low=ends[0],
        example_high=ends[1],
    )


def _score_sample(
    raw: NDArray[np.float16],
    truth: Array,
    levels: Array,
    standardiser: Standardiser,
    examples: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Scores of one sample from its draws (slides, D, G)."""
    slides, draws, genes = raw.shape
    strata = np.ascontiguousarray(raw.transpose(0, 2, 1)).astype(np.float32)
    pooled = strata.transpose(1, 0, 2).reshape(genes, slides * draws)
    found: dict[str, Array] = {
        "one": strata[0, :, 0].copy(),
        "mean": pooled.mean(axis=1),
        "variance": pooled.var(axis=1, ddof=1),
    }
    scores = np.sort(standardiser.score(pooled), axis=1)
    found["score"] = scores.mean(axis=1)
    found["score_inside"] = np.zeros(scores.shape[0])
    shown = metrics.attainable(SHOWN_LEVEL, scores.shape[1])
    if shown:
        low, high = metrics.central_interval(scores, SHOWN_LEVEL)
        target = standardiser.score(truth)
        found["score_inside"] = ((low <= target) & (target <= high)).astype(float)
    strata.sort(axis=2)
    ordered = strata[0] if slides == 1 else np.sort(pooled, axis=1)
    found["ends"] = np.full((2, len(examples)), np.nan)
    if shown:
        found["ends"] = np.stack(metrics.central_interval(ordered[examples], SHOWN_LEVEL))
    found["crps"] = metrics.fair_crps(ordered, truth, strata)
    found["pit"] = metrics.pit(ordered, truth, np.asarray(rng.random(genes)))
    inside = np.zeros((len(levels), genes), dtype=np.float32)
    width = np.zeros((len(levels), genes), dtype=np.float32)
    for index, level in enumerate(levels):
        low, high = metrics.central_interval(ordered, float(level))
        inside[index] = (low <= truth) & (truth <= high)
        width[index] = high - low
    return found | {"inside": inside, "width": width}


def _bounded(pool: ThreadPoolExecutor, work, items, ahead: int) -> Iterator:  # type: ignore[no-untyped-def]
    """Like pool.map, in order, but reads only a few items ahead of the work."""
    items = iter(items)
    waiting = [pool.submit(work, item) for item in islice(items, ahead + 1)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(work, item) for item in islice(items, 1)]
