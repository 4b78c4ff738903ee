"""The fold models of one cohort and its nulls, as predictions for another cohort.

A pseudo fold: its train and val are all train and all val patients of the training cohort, its test
is the other cohort, and its model is the ensemble of the fold models.
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
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.types import Array
from slide2rna.data import patients
from slide2rna.data.patients import Cohort, Part
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.metrics.within_site import Sites
from slide2rna.evaluation.scoring import comparison, evaluated, folds, predictions
from slide2rna.evaluation.scoring.fold_scores import FoldPredictions
from slide2rna.evaluation.scoring.score import score_predictions
from slide2rna.models import base, registry
from slide2rna.studies.external import ensemble

# A site's mean says nothing about the sites of another cohort.
NULLS = tuple(name for name in registry.BASELINES if name != "site-mean")


def score(
    of_train: Cohort,
    of_test: Cohort,
    own: Sequence[Path],
    external: Sequence[Path],
    genes: Sequence[str],
    sets: tuple[pl.DataFrame, sparse.csr_matrix],
    settings: Settings,
    seed: int,
    threads: int,
) -> evaluated.Evaluated:
    """Score the fold models as one, on gene sets that the training cohort's val patients rank.

    Parameters
    ----------
    of_train
        With the genes of the models.
    of_test
        With those of them that it has.
    own, external
        Draws files of the fold models for their own cohort and for the other.
    genes
        Of the models.
    sets
        From `scoring.load_members`.

    Raises
    ------
    StageError
        Files of other folds, genes or slides.
    """
    numbers = [sorted(map(folds.fold_of, paths)) for paths in (own, external)]
    if numbers[0] != numbers[1]:
        cause = f"folds {numbers[1]}, the training cohort has {numbers[0]}"
        raise StageError(external[0].parent, cause, "sample every fold model")
    position = {gene: index for index, gene in enumerate(genes)}
    columns = np.array([position[gene] for gene in of_test.genes])
    train, val = (_all_of(of_train, part, columns) for part in ("train", "val"))
    ours = ensemble.load(of_test, external, genes, train, val)
    model = folds.model_of(external[0])
    given = predictions.ModelPredictions()
    fitted = _fit(of_train, own, ours.members[0].test, columns, model, seed, given)
    eligible = ~gene_metrics.is_flat(train.truth)
    sizes = comparison.shown_sizes(settings["top"], len(columns), [ours.test.patients])
    test = {model: ours.read("point", ours.test)} | fitted.test
    ranked = {
        name: comparison.gene_sets(np.concatenate(values), fitted.truth, eligible, sizes)
        for name, values in fitted.val.items()
    }
    ranked["constant"] = ranked[model]
    r, _ = gene_metrics.pcc(np.concatenate(fitted.val[model]), fitted.truth)
    given.val_r.append(np.where(eligible, np.nan_to_num(r), -1.0))
    mean = train.truth.mean(axis=0, dtype=np.float64)
    given.train.append((mean, train.truth.std(axis=0, dtype=np.float64)))
    rng = seeds.rng_for(seed, "bootstrap", "external")
    counts = bootstrap.patient_counts(rng, ours.test.owners, settings["bootstrap"])
    given.folds.append(
        FoldPredictions(
            ours.test.truth,
            test,
            {},
            ranked,
            eligible,
            mean,
            counts,
            Sites.of(ours.members[0].test.sample_sites()),
            ours.test.owners,
        )
    )
    run = predictions.RunFolds(model, {model: [ours]}, mean)
    predictions.pool(
        given.pooled, model, "point", mean, ours.slide_rows("point", ours.test), ours.test
    )
    return score_predictions(of_test, run, given, sizes, sets, settings, seed, threads)


@dataclass
class _Fitted:
    """Points of all models: on val of the training cohort, per fold, and on the test cohort."""

    val: dict[str, list[Array]]
    test: dict[str, Array]
    truth: Array


def _fit(
    cohort: Cohort,
    paths: Sequence[Path],
    target: Part,
    columns: NDArray[np.int64],
    model: str,
    seed: int,
    given: predictions.ModelPredictions,
) -> _Fitted:
    """Fit the closed forms on every fold of the training cohort and average what they predict."""
    out = _Fitted({model: []}, {}, np.empty(0))
    truths = []
    for path in progress(sorted(paths, key=folds.fold_of), "models of the training cohort"):
        fold = folds.load_fold(cohort, path)
        train, val = (_cut(part, columns) for part in (fold.train, fold.val))
        out.val[model].append(fold.read("point", fold.val)[:, columns])
        truths.append(val.truth)
        for name in NULLS:
            if name in given.absent:
                continue
            try:
                fitted = registry.fit(name, train, val, seed, fold.number)
                on_val, on_test = (part.average(fitted.predict(part)) for part in (val, target))
            except base.Unavailable as reason:
                given.absent[name] = str(reason)
                continue
            out.val.setdefault(name, []).append(on_val)
            share = np.asarray(on_test / len(paths), dtype=np.float32)
            out.test[name] = out.test[name] + share if name in out.test else share
            given.notes.setdefault(name, []).append(fitted.note)
    for name in given.absent:
        for values in (out.val, out.test, given.notes):
            values.pop(name, None)
    given.absent["site-mean"] = "sites of another cohort"
    out.truth = np.concatenate(truths)
    return out


def _all_of(cohort: Cohort, part: str, columns: NDArray[np.int64]) -> Part:
    """All slides of a cohort that are in this part of any fold."""
    units = cohort.splits.filter(pl.col("part") == part)["unit"].unique()
    slides = cohort.slides.filter(pl.col("unit").is_in(units.implode()))
    return _cut(patients.part_of(cohort, slides), columns)


def _cut(part: Part, columns: NDArray[np.int64]) -> Part:
    return replace(part, truth=part.truth[:, columns])
