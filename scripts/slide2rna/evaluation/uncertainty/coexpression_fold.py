"""Co-expression scores of one fold's draws, points and nulls on one gene set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import coexpression
from slide2rna.evaluation.metrics.coexpression import CorrelationMatrix

Key = tuple[str, str]  # model, kind

# Maximum number of draws of a null (and of the model, when the jackknife leaves patients out), and
# number of groups of a fold's patients that the jackknife leaves out in turn.
REPLICATES, GROUPS = 20, 10
TRAIN, MEASURED = "constant", "measured"


@dataclass(frozen=True)
class FoldProfiles:
    """Measured and predicted profiles of one fold on one gene set.

    Attributes
    ----------
    model : the evaluated model, which made the draws.
    scale : mean and sd (G,) of the train samples.
    truth, train : (n, G) and (m, G) measured profiles of the test and train samples.
    patient_ids : (n,) patient of each test sample.
    drawn, shuffled : draws (slides, D, G) of each test sample, and the same with genes shuffled
        separately.
    fixed : profiles (n, G) that need no draws, by model and kind.
    """

    model: str
    scale: tuple[Array, Array]
    truth: Array
    train: Array
    patient_ids: Sequence[str]
    drawn: Sequence[Array]
    shuffled: Sequence[Array]
    fixed: dict[Key, Array]


@dataclass(frozen=True)
class FoldCoexpression:
    """Co-expression scores of one fold on one gene set.

    Attributes
    ----------
    genes : number of genes.
    energy : energy score per sample (n,), by model and kind.
    gsc : similarity of correlation matrices, by model and kind.
    without : the same without each group of patients (groups,).
    halves : GSC between halves of the test samples, one per split.
    """

    genes: int
    energy: dict[Key, Array]
    gsc: dict[Key, float]
    without: dict[Key, Array]
    halves: Array


def score(fold: FoldProfiles, rng: np.random.Generator, threads: int) -> FoldCoexpression:
    """Compute all co-expression scores of the fold."""
    genes = fold.truth.shape[1]
    return FoldCoexpression(genes, _score_energy(fold, threads), *_score_gsc(fold, rng, threads))


def _score_gsc(
    fold: FoldProfiles, rng: np.random.Generator, threads: int
) -> tuple[dict[Key, float], dict[Key, Array], Array]:
    """Return gsc, without and halves of `FoldCoexpression`; empty for a fold of three or fewer."""
    truth, train, drawn = fold.truth, fold.train, fold.drawn
    n, genes = truth.shape
    if n <= 3 or genes < 3:
        return {}, {}, np.empty(0)
    picked = rng.integers(len(train), size=(REPLICATES, n))
    halves = [rng.permutation(n) for _ in range(REPLICATES)]
    draw_count = min((draws.shape[1] for draws in drawn), default=0)
    train_matrix = CorrelationMatrix(train)
    everyone = np.arange(n)

    def score_rows(rows: NDArray[np.int64]) -> dict[Key, float]:
        """Return the GSC on these samples; all draws are used only if these are all samples."""
        all_rows = len(rows) == n
        measured = CorrelationMatrix(truth[rows])
        scores = {}
        if drawn:
            drawn_rows, shuffled_rows = (
                [draws[row] for row in rows] for draws in (drawn, fold.shuffled)
            )
            count = draw_count if all_rows else min(REPLICATES, draw_count)
            scores[fold.model, "draws"] = coexpression.mean_similarity(
                truth[rows], drawn_rows, count
            )
            value = coexpression.mean_similarity(
                truth[rows], shuffled_rows, min(REPLICATES, draw_count)
            )
            scores[fold.model, "shuffled-draws"] = value
        for key, values in fold.fixed.items():
            scores[key] = CorrelationMatrix(values[rows]).similarity(measured)
        nulls = [CorrelationMatrix(train[picks[rows]]).similarity(measured) for picks in picked]
        scores[TRAIN, "train-profiles"] = float(np.mean(nulls))
        scores[MEASURED, "train-matrix"] = train_matrix.similarity(measured)
        return scores

    subsets = [everyone, *_leave_out_groups(fold.patient_ids, rng)]
    gsc, *left_out_scores = ordered_map(score_rows, subsets, threads)
    without = {key: np.array([scores[key] for scores in left_out_scores]) for key in gsc}

    def split(order: NDArray[np.int64]) -> float:
        first, second = (
            CorrelationMatrix(truth[order[: n // 2]]),
            CorrelationMatrix(truth[order[n // 2 :]]),
        )
        return first.similarity(second)

    between = np.array(list(ordered_map(split, halves if n >= 8 else [], threads)))
    return gsc, without, between


def _leave_out_groups(
    patient_ids: Sequence[str], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the rows that remain without each group of patients in turn.

    With a single patient, groups of samples are left out.
    """
    names = np.array(
        patient_ids if len(set(patient_ids)) > 1 else range(len(patient_ids)), dtype=object
    )
    unique = np.unique(names.astype(str))
    groups = np.array_split(rng.permutation(unique), min(GROUPS, len(unique)))
    rows = [np.flatnonzero(~np.isin(names.astype(str), group)) for group in groups]
    return [left for left in rows if len(left) > 2]


def _score_energy(fold: FoldProfiles, threads: int) -> dict[Key, Array]:
    """Return energy scores, over genes in units of their train sd."""
    mean, sd = (moment.astype(np.float32) for moment in fold.scale)
    sd = np.where(sd > 0, sd, np.float32(1))

    def z(values: Array) -> Array:
        return (np.asarray(values, dtype=np.float32) - mean) / sd

    truth = z(fold.truth)
    scores: dict[Key, Array] = {}
    for kind, drawn in (("draws", fold.drawn), ("shuffled-draws", fold.shuffled)):
        if drawn and min(draws.shape[1] for draws in drawn) > 1:
            pairs = zip(drawn, truth, strict=True)
            energies = ordered_map(
                lambda pair: coexpression.energy(z(pair[0]), pair[1]), pairs, threads
            )
            scores[fold.model, kind] = np.array(list(energies))
    for key, values in fold.fixed.items():
        scores[key] = np.sqrt(np.square(z(values) - truth).mean(axis=1, dtype=np.float64))
    if len(fold.train) > 1:
        train_energy = coexpression.energy_of_profiles(z(fold.train), truth)
        scores[TRAIN, "train-profiles"] = train_energy
    return scores
