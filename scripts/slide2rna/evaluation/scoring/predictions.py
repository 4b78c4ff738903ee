"""Predictions of all models on the folds of a run: networks from files, closed forms fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slide2rna.core import seeds
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.parallel import ordered_map
from slide2rna.core.types import Array
from slide2rna.data.patients import Cohort, Part
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.metrics.within_site import Sites
from slide2rna.evaluation.scoring import comparison, draw_scores
from slide2rna.evaluation.scoring.fold_scores import FoldPredictions
from slide2rna.evaluation.scoring.folds import Fold, attach, fold_of, load_fold, model_of
from slide2rna.evaluation.scoring.published_protocol import PooledMoments
from slide2rna.models import base, registry


@dataclass(frozen=True)
class RunFolds:
    """Folds of a run, with every network's draws file on each.

    Attributes
    ----------
    model : label of the evaluated model.
    folds_by_model : by network (the evaluated one first), folds in the order of their numbers.
    cohort_mean : (G,) mean over all measured samples.
    """

    model: str
    folds_by_model: dict[str, list[Fold]]
    cohort_mean: Array

    @property
    def folds(self) -> list[Fold]:
        """Folds of the evaluated model."""
        return self.folds_by_model[self.model]

    @property
    def networks(self) -> list[str]:
        """Labels of the networks, the evaluated one first."""
        return list(self.folds_by_model)

    def has_draws(self, name: str) -> bool:
        """Return True if this model's files hold draws, not only points."""
        return all(fold.has("draws") for fold in self.folds_by_model[name])


@dataclass
class ModelPredictions:
    """Predictions of all models; lists run over folds.

    Attributes
    ----------
    fold_predictions : predictions to score.
    val_r : the evaluated model's correlation on val (G,), -1 for genes that don't count.
    train_moments : mean and sd of each gene among the train samples.
    pooled : moments over the test slides of all folds, by model and kind.
    notes : by model, a note on its fit per fold.
    unavailable : by model, the reason why it is unavailable.
    """

    fold_predictions: list[FoldPredictions] = field(default_factory=list)
    val_r: list[Array] = field(default_factory=list)
    train_moments: list[tuple[Array, Array]] = field(default_factory=list)
    pooled: dict[tuple[str, str], PooledMoments] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def open_folds(
    cohort: Cohort, paths: Sequence[Path], others: Sequence[Path], model: str
) -> RunFolds:
    """Open the files of the evaluated model and of the others.

    Raises
    ------
    StageError
        Another model's files have other folds, slides or genes.
    """
    evaluated_folds = sorted(
        (load_fold(cohort, path) for path in paths), key=lambda fold: fold.number
    )
    folds_by_model = {model: evaluated_folds}
    by_label: dict[str, dict[int, Path]] = {}
    for path in others:
        label, number = model_of(path), fold_of(path)
        if label == model or number in by_label.get(label, {}):
            raise StageError(
                path, f"second file of model {label}, fold {number}", "give each file once"
            )
        by_label.setdefault(label, {})[number] = path
    numbers = [fold.number for fold in evaluated_folds]
    for label, files in by_label.items():
        if sorted(files) != numbers:
            raise StageError(
                next(iter(files.values())),
                f"model {label} has folds {sorted(files)}, {model} has {numbers}",
                "sample every model on the same folds",
            )
        folds_by_model[label] = [
            attach(fold, files[fold.number], cohort.genes) for fold in evaluated_folds
        ]
    return RunFolds(model, folds_by_model, cohort.truth.mean(axis=0, dtype=np.float64))


def predict_folds(
    run: RunFolds, sizes: Sequence[int], resamples: int, seed: int, threads: int
) -> ModelPredictions:
    """Fit the closed forms and rank every model's genes on val, fold by fold."""
    out = ModelPredictions()
    for index, fold in enumerate(progress(run.folds, "models")):
        eligible = ~gene_metrics.is_flat(fold.train.truth)
        test: dict[str, Array] = {}
        sets: dict[str, NDArray[np.bool_]] = {}
        residuals: dict[str, Array] = {}
        for name, val_slides, test_slides, left_out in _model_points(
            run, index, seed, threads, out
        ):
            if left_out is not None:
                residuals[name] = left_out
            val = fold.val.average(val_slides)
            test[name] = np.asarray(fold.test.average(test_slides), dtype=np.float32)
            add_to_pooled(out.pooled, name, "point", run.cohort_mean, test_slides, fold.test)
            if name == run.model:
                r, _ = gene_metrics.pcc(val, fold.val.truth)
                out.val_r.append(np.where(eligible, np.nan_to_num(r), -1.0))
            # The constant ranks nothing: it is scored on the model's genes.
            sets[name] = (
                sets[run.model]
                if name == "constant"
                else comparison.gene_sets(val, fold.val.truth, eligible, sizes)
            )
        mean = fold.train.truth.mean(axis=0, dtype=np.float64)
        out.train_moments.append((mean, fold.train.truth.std(axis=0, dtype=np.float64)))
        rng = seeds.rng_for(seed, "bootstrap", fold.number)
        patient_ids = fold.test.patient_ids
        counts = bootstrap.patient_counts(rng, patient_ids, resamples)
        sites = Sites.of(fold.test.sample_sites())
        out.fold_predictions.append(
            FoldPredictions(
                fold.test.truth,
                test,
                {},
                sets,
                eligible,
                mean,
                counts,
                sites,
                patient_ids,
                residuals,
            )
        )
    # A model that is unavailable in one fold is dropped from all: its mean would cover fewer folds.
    for name in out.unavailable:
        out.pooled.pop((name, "point"), None)
        for fold_predictions in out.fold_predictions:
            fold_predictions.test.pop(name, None)
            fold_predictions.sets.pop(name, None)
            fold_predictions.residuals.pop(name, None)
    return out


def _model_points(
    run: RunFolds, index: int, seed: int, threads: int, out: ModelPredictions
) -> Iterator[tuple[str, Array, Array, Array | None]]:
    """Yield every model in one fold: name, val slides (S, G), test slides, train residuals."""
    for name in run.networks:
        fold = run.folds_by_model[name][index]
        yield name, fold.slide_rows("point", fold.val), fold.slide_rows("point", fold.test), None
    fold = run.folds[index]

    def fit(name: str) -> tuple[str, tuple[Array, Array, Array | None] | None]:
        try:
            fitted = registry.fit(name, fold.train, fold.val, seed, fold.number)
            rows = fitted.predict(fold.val), fitted.predict(fold.test), fitted.residuals
        except base.Unavailable as reason:
            out.unavailable[name] = str(reason)
            return name, None
        out.notes.setdefault(name, []).append(fitted.note)
        return name, rows

    for name, rows in ordered_map(fit, registry.BASELINES, threads):
        if rows is not None:
            yield name, *rows


def add_to_pooled(
    pooled: dict[tuple[str, str], PooledMoments],
    name: str,
    kind: str,
    mean: Array,
    slides: Array,
    part: Part,
) -> None:
    """Add a fold's test slides (S, G) to the moments of one model and kind."""
    pooled.setdefault((name, kind), PooledMoments(mean)).add(slides, part.slide_truth())


def add_draws(
    model_predictions: ModelPredictions,
    run: RunFolds,
    moments: dict[str, list[draw_scores.DrawMoments]],
) -> None:
    """Add the mean of draws and one draw of each model with draws."""
    for name, fold_moments in moments.items():
        for fold, fold_predictions, scored in zip(
            run.folds, model_predictions.fold_predictions, fold_moments, strict=True
        ):
            fold_predictions.variants[name, "pcc_draw_mean"] = scored.mean
            fold_predictions.variants[name, "pcc_one_draw"] = scored.first_draw
            for kind, slides in (
                ("draw_mean", scored.slide_mean),
                ("one_draw", scored.slide_first_draw),
            ):
                add_to_pooled(
                    model_predictions.pooled, name, kind, run.cohort_mean, slides, fold.test
                )


def tested_pairs(run: RunFolds, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs to test: networks and ridges against nulls, networks against ridges."""
    image_models = [*run.networks, *(name for name in names if name in registry.RIDGES)]
    baselines = [name for name in names if name in registry.BASELINES and name != "constant"]
    return [(a, b) for a in image_models for b in baselines if a != b]
