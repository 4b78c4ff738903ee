"""Evaluated run: paths of its inputs, and all data that its tables are computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.types import Array
from slide2rna.data import patients
from slide2rna.evaluation.scoring import fold_scores, folds, published_protocol
from slide2rna.evaluation.scoring.comparison import Comparison
from slide2rna.evaluation.scoring.draw_scores import DrawMoments, DrawScores


@dataclass(frozen=True)
class EvaluationInputs:
    """Paths of an evaluation's inputs.

    Attributes
    ----------
    draws, models : draws files and model folders of the evaluated model, per fold.
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


@dataclass(frozen=True)
class Evaluated:
    """Data behind the tables of an evaluated run; lists run over folds.

    Attributes
    ----------
    cohort : genes, truth, slides.
    pathway_names, pathway_members : pathways (pathway, name, n_genes) and their genes (P, G), from
        `load_members`.
    model : label of the evaluated model.
    folds_by_model : folds by network, the evaluated one first.
    predictions : predictions of all models, per fold.
    draw_scores : scores of the evaluated model's draws, per fold; empty if it gives points only.
    draw_moments : moments of the draws by model with draws, per fold.
    comparison : bootstrapped scores of all predictions.
    p_better : one-sided p values (G,) by pair of models that the first beats the second.
    pooled_moments : moments over the slides of all folds by model and kind, for the published
        protocol.
    set_names : K names of the gene sets: all, then T-k with falling k.
    set_sizes : the k of these T-k.
    configured_sizes : the k of the configuration, shown or not.
    notes : by model, a note on its fit.
    unavailable : by model, the reason why it is unavailable.
    noise_floors : correlations with permuted profiles by model, (permutations, K).
    levels : nominal levels of the intervals, ascending.
    example_genes, example_pathways : columns of the genes and pathways that val ranks best, for
        the figures.
    pathway_score : scoring method of pathways.
    train_moments : mean and sd (G,) of each gene among the train samples, per fold.
    point_spreads : spread of the points and their distance from the mean of draws, per fold.
    """

    cohort: patients.Cohort
    pathway_names: pl.DataFrame
    pathway_members: sparse.csr_matrix
    model: str
    folds_by_model: dict[str, list[folds.Fold]]
    predictions: list[fold_scores.FoldPredictions]
    draw_scores: list[DrawScores]
    draw_moments: dict[str, list[DrawMoments]]
    comparison: Comparison
    p_better: dict[tuple[str, str], Array]
    pooled_moments: dict[tuple[str, str], published_protocol.PooledMoments]
    set_names: list[str]
    set_sizes: list[int]
    configured_sizes: list[int]
    notes: dict[str, str]
    unavailable: dict[str, str]
    noise_floors: dict[str, Array]
    levels: list[float]
    example_genes: NDArray[np.int64]
    example_pathways: NDArray[np.int64]
    pathway_score: Literal["zscore", "ssgsea"]
    train_moments: list[tuple[Array, Array]]
    point_spreads: list[tuple[float, float]]
    seed: int

    @property
    def networks(self) -> list[str]:
        """Models with draws files: the evaluated one, then the others."""
        return list(self.folds_by_model)

    @property
    def folds(self) -> list[folds.Fold]:
        """Folds of the evaluated model."""
        return self.folds_by_model[self.model]
