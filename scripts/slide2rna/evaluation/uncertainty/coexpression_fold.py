"""Co-expression of one fold's draws, points and nulls on one gene set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import coexpression
from slide2rna.evaluation.metrics.coexpression import Matrix

Key = tuple[str, str]  # model, kind

# At most so many draws of a null (and of the model, where the jackknife leaves patients out), and
# groups of a fold's patients that it leaves out in turn.
REPLICATES, GROUPS = 20, 10
TRAIN, MEASURED = "constant", "measured"


@dataclass(frozen=True)
class FoldProfiles:
    """What one fold's scores on one gene set are made from.

    Attributes
    ----------
    model : the evaluated one, whose the draws are.
    scale : mean and sd (G,) of the train samples.
    truth, train : (n, G) and (m, G) measured profiles of the test and train samples.
    owners : (n,)
    drawn, apart : draws (slides, D, G) of each test sample, and the same with genes shuffled apart.
    fixed : profiles (n, G) that need no draws, by model and kind.
    """

    model: str
    scale: tuple[Array, Array]
    truth: Array
    train: Array
    owners: Sequence[str]
    drawn: Sequence[Array]
    apart: Sequence[Array]
    fixed: dict[Key, Array]


@dataclass(frozen=True)
class FoldCoexpression:
    """Scores of one fold on one gene set.

    Attributes
    ----------
    energy : by model and kind (n,) per sample.
    gsc : by model and kind; without : the same without each group of patients (groups,).
    halves : GSC between halves of the test samples, one per split.
    """

    genes: int
    energy: dict[Key, Array]
    gsc: dict[Key, float]
    without: dict[Key, Array]
    halves: Array


def score(given: FoldProfiles, rng: np.random.Generator, threads: int) -> FoldCoexpression:
    """All scores of the fold."""
    genes = given.truth.shape[1]
    return FoldCoexpression(genes, _energy(given, threads), *_gsc(given, rng, threads))


def _gsc(
    given: FoldProfiles, rng: np.random.Generator, threads: int
) -> tuple[dict[Key, float], dict[Key, Array], Array]:
    """Similarity of correlation matrices, as in `OfFold`; nothing for a fold of three or fewer."""
    truth, train, drawn = given.truth, given.train, given.drawn
    n, genes = truth.shape
    if n <= 3 or genes < 3:
        return {}, {}, np.empty(0)
    picked = rng.integers(len(train), size=(REPLICATES, n))
    halves = [rng.permutation(n) for _ in range(REPLICATES)]
    every = min((of.shape[1] for of in drawn), default=0)
    of_train = Matrix(train)
    everyone = np.arange(n)

    def work(rows: NDArray[np.int64]) -> dict[Key, float]:
        """Of these samples: with all draws if that is everyone."""
        whole = len(rows) == n
        measured = Matrix(truth[rows])
        here = {}
        if drawn:
            own, independent = ([of[row] for row in rows] for of in (drawn, given.apart))
            count = every if whole else min(REPLICATES, every)
            here[given.model, "draws"] = coexpression.of_draws(truth[rows], own, count)
            value = coexpression.of_draws(truth[rows], independent, min(REPLICATES, every))
            here[given.model, "shuffled-draws"] = value
        for key, values in given.fixed.items():
            here[key] = Matrix(values[rows]).similarity(measured)
        profiles = [Matrix(train[of[rows]]).similarity(measured) for of in picked]
        here[TRAIN, "train-profiles"] = float(np.mean(profiles))
        here[MEASURED, "train-matrix"] = of_train.similarity(measured)
        return here

    left = [everyone, *_without(given.owners, rng)]
    gsc, *rest = ordered_map(work, left, threads)
    without = {key: np.array([of[key] for of in rest]) for key in gsc}

    def split(of: NDArray[np.int64]) -> float:
        first, second = Matrix(truth[of[: n // 2]]), Matrix(truth[of[n // 2 :]])
        return first.similarity(second)

    between = np.array(list(ordered_map(split, halves if n >= 8 else [], threads)))
    return gsc, without, between


def _without(owners: Sequence[str], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows left when each group of patients in turn is taken out; samples, of a lone patient."""
    names = np.array(owners if len(set(owners)) > 1 else range(len(owners)), dtype=object)
    known = np.unique(names.astype(str))
    groups = np.array_split(rng.permutation(known), min(GROUPS, len(known)))
    rows = [np.flatnonzero(~np.isin(names.astype(str), group)) for group in groups]
    return [of for of in rows if len(of) > 2]


def _energy(given: FoldProfiles, threads: int) -> dict[Key, Array]:
    """Energy scores, over genes in units of their train sd."""
    mean, sd = (of.astype(np.float32) for of in given.scale)
    sd = np.where(sd > 0, sd, np.float32(1))

    def z(values: Array) -> Array:
        return (np.asarray(values, dtype=np.float32) - mean) / sd

    truth = z(given.truth)
    found: dict[Key, Array] = {}
    for kind, of in (("draws", given.drawn), ("shuffled-draws", given.apart)):
        if of and min(one.shape[1] for one in of) > 1:
            pairs = zip(of, truth, strict=True)
            scores = ordered_map(
                lambda pair: coexpression.energy(z(pair[0]), pair[1]), pairs, threads
            )
            found[given.model, kind] = np.array(list(scores))
    for key, values in given.fixed.items():
        found[key] = np.sqrt(np.square(z(values) - truth).mean(axis=1, dtype=np.float64))
    if len(given.train) > 1:
        of_train = coexpression.energy_of_profiles(z(given.train), truth)
        found[TRAIN, "train-profiles"] = of_train
    return found
