"""Predictions for another cohort by the fold models and nulls of a training cohort.

They form a pseudo fold. Its train and val parts are all train and all val patients of the training
cohort, its test part is the other cohort, and its model is the ensemble of the fold models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core import seeds
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.settings import EvaluateSettings
from slide2rna.core.types import Array
from slide2rna.data import patients
from slide2rna.data.patients import Cohort, Part
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.metrics.within_site import Sites
from slide2rna.evaluation.scoring import comparison, folds, predictions
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.scoring.fold_scores import FoldPredictions
from slide2rna.evaluation.scoring.score import score_predictions
from slide2rna.models import base, registry
from slide2rna.studies.external import ensemble

# A site mean doesn't transfer to the sites of another cohort.
NULLS = tuple(name for name in registry.BASELINES if name != "site-mean")


def score(
    train_cohort: Cohort,
    test_cohort: Cohort,
    train_draws: Sequence[Path],
    test_draws: Sequence[Path],
    genes: Sequence[str],
    sets: tuple[pl.DataFrame, sparse.csr_matrix],
    settings: EvaluateSettings,
    seed: int,
    threads: int,
) -> Evaluated:
    """Score the fold models as an ensemble, on gene sets ranked by the training cohort's val part.

    Parameters
    ----------
    train_cohort
        With the genes of the models.
    test_cohort
        With those of these genes that it has.
    train_draws, test_draws
        Draws files of the fold models for the training cohort and for the test cohort.
    genes
        Of the models.
    sets
        From `score.load_members`.

    Raises
    ------
    StageError
        Files of other folds, genes or slides.
    """
    numbers = [sorted(map(folds.fold_of, paths)) for paths in (train_draws, test_draws)]
    if numbers[0] != numbers[1]:
        cause = f"folds {numbers[1]}, the training cohort has {numbers[0]}"
        raise StageError(test_draws[0].parent, cause, "sample every fold model")
    gene_index = {gene: index for index, gene in enumerate(genes)}
    columns = np.array([gene_index[gene] for gene in test_cohort.genes])
    train, val = (_all_folds_part(train_cohort, part, columns) for part in ("train", "val"))
    pseudo_fold = ensemble.load(test_cohort, test_draws, genes, train, val)
    model = folds.model_of(test_draws[0])
    scored = predictions.ModelPredictions()
    target = pseudo_fold.members[0].test
    fitted = _fit_models(train_cohort, train_draws, target, columns, model, seed, scored)
    eligible = ~gene_metrics.is_flat(train.truth)
    sizes = comparison.shown_sizes(settings["top"], len(columns), [pseudo_fold.test.n_patients])
    test = {model: pseudo_fold.read("point", pseudo_fold.test)} | fitted.test
    ranked = {
        name: comparison.gene_sets(np.concatenate(values), fitted.truth, eligible, sizes)
        for name, values in fitted.val.items()
    }
    ranked["constant"] = ranked[model]
    r, _ = gene_metrics.pcc(np.concatenate(fitted.val[model]), fitted.truth)
    scored.val_r.append(np.where(eligible, np.nan_to_num(r), -1.0))
    mean = train.truth.mean(axis=0, dtype=np.float64)
    scored.train_moments.append((mean, train.truth.std(axis=0, dtype=np.float64)))
    rng = seeds.rng_for(seed, "bootstrap", "external")
    counts = bootstrap.patient_counts(rng, pseudo_fold.test.patient_ids, settings["bootstrap"])
    scored.fold_predictions.append(
        FoldPredictions(
            pseudo_fold.test.truth,
            test,
            {},
            ranked,
            eligible,
            mean,
            counts,
            Sites.of(target.sample_sites()),
            pseudo_fold.test.patient_ids,
        )
    )
    run = predictions.RunFolds(model, {model: [pseudo_fold]}, mean)
    predictions.add_to_pooled(
        scored.pooled,
        model,
        "point",
        mean,
        pseudo_fold.slide_rows("point", pseudo_fold.test),
        pseudo_fold.test,
    )
    return score_predictions(test_cohort, run, scored, sizes, sets, settings, seed, threads)


@dataclass
class _FittedPoints:
    """Points of all models: on val of the training cohort, per fold, and on the test cohort."""

    val: dict[str, list[Array]]
    test: dict[str, Array]
    truth: Array


def _fit_models(
    cohort: Cohort,
    paths: Sequence[Path],
    target: Part,
    columns: NDArray[np.int64],
    model: str,
    seed: int,
    scored: predictions.ModelPredictions,
) -> _FittedPoints:
    """Fit the closed forms on every fold of the training cohort and average their predictions."""
    out = _FittedPoints({model: []}, {}, np.empty(0))
    truths = []
    for path in progress(sorted(paths, key=folds.fold_of), "models of the training cohort"):
        fold = folds.load_fold(cohort, path)
        train, val = (_select_genes(part, columns) for part in (fold.train, fold.val))
        out.val[model].append(fold.read("point", fold.val)[:, columns])
        truths.append(val.truth)
        for name in NULLS:
            if name in scored.unavailable:
                continue
            try:
                fitted = registry.fit(name, train, val, seed, fold.number)
                on_val, on_test = (part.average(fitted.predict(part)) for part in (val, target))
            except base.Unavailable as reason:
                scored.unavailable[name] = str(reason)
                continue
            out.val.setdefault(name, []).append(on_val)
            share = np.asarray(on_test / len(paths), dtype=np.float32)
            out.test[name] = out.test[name] + share if name in out.test else share
            scored.notes.setdefault(name, []).append(fitted.note)
    for name in scored.unavailable:
        for values in (out.val, out.test, scored.notes):
            values.pop(name, None)
    scored.unavailable["site-mean"] = "sites of another cohort"
    out.truth = np.concatenate(truths)
    return out


def _all_folds_part(cohort: Cohort, part: str, columns: NDArray[np.int64]) -> Part:
    """Return all slides of a cohort that are in this part of any fold."""
    units = cohort.splits.filter(pl.col("part") == part)["unit"].unique()
    slides = cohort.slides.filter(pl.col("unit").is_in(units.implode()))
    return _select_genes(patients.make_part(cohort, slides), columns)


def _select_genes(part: Part, columns: NDArray[np.int64]) -> Part:
    return replace(part, truth=part.truth[:, columns])
