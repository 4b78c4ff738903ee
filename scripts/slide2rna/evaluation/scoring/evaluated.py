"""An evaluated run: its inputs, and everything that its tables are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.types import Array
from slide2rna.data import patients
from slide2rna.evaluation.scoring import (
    fold_scores,
    folds,
    published_protocol,
)
from slide2rna.evaluation.scoring.comparison import (
    Comparison,
)
from slide2rna.evaluation.scoring.draw_scores import DrawMoments, DrawScores


@dataclass(frozen=True)
class EvaluationInputs:
    """Paths of an evaluation's inputs.

    Attributes
    ----------
    draws, models : of the evaluated model, per fold.
    others : draws files of other models on the same folds, in any order.
    """

    draws: list[Path]
    models: list[Path]
    bags: Path
    expression: Path
    slides: Path
    splits: Path
    cohort: Path
    pathways: Path
    others: list[Path] = field(default_factory=list)


@dataclass
class Evaluated:
    """All that the tables are made from; lists run over folds.

    Attributes
    ----------
    cohort : genes, truth, slides.
    names, members : pathways and their genes, from `load_members`.
    model : label of the evaluated model.
    of : per network (the evaluated one first), its folds.
    draws : per fold; empty if the model gives points alone.
    moments : per model with draws, per fold.
    better : one-sided p values (G,) that the first of a pair beats the second.
    pooled : by model and kind, for the published protocol.
    notes, absent : by model, how it was fitted, or why it can't be had.
    floors : by model, (permutations, K).
    levels : nominal levels of the intervals.
    examples, pathways : genes and pathways that val ranks best, for the figures.
    pathway_score : zscore or ssgsea.
    train : per fold, mean and sd of each gene among the train samples.
    spread : per fold, spread of the points and their distance from the mean of draws.
    """

    cohort: patients.Cohort
    names: pl.DataFrame
    members: sparse.csr_matrix
    model: str
    of: dict[str, list[folds.Fold]]
    inputs: list[fold_scores.FoldPredictions]
    draws: list[DrawScores]
    moments: dict[str, list[DrawMoments]]
    comparison: Comparison
    better: dict[tuple[str, str], Array]
    pooled: dict[tuple[str, str], published_protocol.PooledMoments]
    set_names: list[str]
    sizes: list[int]
    top: list[int]
    notes: dict[str, str]
    absent: dict[str, str]
    floors: dict[str, Array]
    levels: list[float]
    examples: NDArray[np.int64]
    pathways: NDArray[np.int64]
    pathway_score: str
    train: list[tuple[Array, Array]]
    spread: list[tuple[float, float]]
    seed: int

    @property
    def networks(self) -> list[str]:
        """The evaluated model and the others that come with files."""
        return list(self.of)

    @property
    def folds(self) -> list[folds.Fold]:
        """Those of the evaluated model."""
        return self.of[self.model]
