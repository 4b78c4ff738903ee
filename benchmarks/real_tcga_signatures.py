"""Immune signatures from predicted genes: points and draws against each patient's measured score.

Per fold and signature a ridge from measured genes to the signature is fitted on train patients;
val patients choose its penalty. It takes points and draws of test patients to the signature. A
draw of genes isn't yet a draw of the signature, so normal noise with the ridge's rms error on val
is added to each. Patients without a value of a signature are left out of it and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from slide2rna.core import seeds
from slide2rna.data import patients
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import folds
from slide2rna.models import registry
from slide2rna.models.ridge import PENALTIES, Ridge

Array = NDArray[np.floating]

SEED, RESAMPLES, LEVEL = 1, 500, 0.9
MIN_TRAIN, MIN_VAL = 20, 2
# Closed forms that predict the genes, in addition to the network.
RIDGES = tuple(name for name in ("ridge", "ridge-lowrank") if name in registry.CLOSED_FORM)
POINTS = ("draw_mean", "point", *RIDGES, "measured")


@dataclass(frozen=True)
class SignatureRidge:
    """Linear maps from a profile to S signatures; NaN where too few patients have a value.

    Attributes
    ----------
    weights : (G, S)
    offsets : (S,)
    residual_sd : (S,) rms error on val patients.
    """

    weights: Array
    offsets: Array
    residual_sd: Array

    def apply(self, profiles: Array) -> Array:
        """Return signatures (..., S) of profiles (..., G)."""
        return np.asarray(profiles, dtype=np.float64) @ self.weights + self.offsets


@dataclass(frozen=True)
class FoldSignatures:
    """Signatures of the n test patients of a fold; NaN for a value that is missing.

    Attributes
    ----------
    truth : (n, S) measured.
    points : by name of POINTS, (n, S).
    crps, crps_train, covered : (n, S) of draws, of the train values, and inside the interval.
    counts : (B + 1, n) weights of the patients; row 0 is all ones.
    residual_sd : (S,)
    """

    truth: Array
    points: dict[str, Array]
    crps: Array
    crps_train: Array
    covered: Array
    counts: Array
    residual_sd: Array


def read_values(path: Path, patient_ids: Sequence[str], names: Sequence[str]) -> Array:
    """Return measured signatures (n, S); NaN where a patient or a value is missing."""
    table = pl.DataFrame({"patient_id": list(patient_ids)}).join(
        pl.read_parquet(path).unique("patient_id", keep="first"),
        on="patient_id",
        how="left",
        maintain_order="left",
    )
    return table.select(pl.col(list(names)).cast(pl.Float64).fill_null(np.nan)).to_numpy()


def signature_names(path: Path) -> list[str]:
    """Return the numeric columns of a table of signatures."""
    return [name for name, kind in pl.read_parquet_schema(path).items() if kind.is_numeric()]


def fit(train_x: Array, train_y: Array, val_x: Array, val_y: Array) -> SignatureRidge:
    """Fit genes (n, G) to signatures (n, S), each with the penalty of least error on val.

    Signatures that the same train patients have share one decomposition.
    """
    genes, count = train_x.shape[1], train_y.shape[1]
    out = SignatureRidge(*(np.full(s, np.nan) for s in ((genes, count), (count,), (count,))))
    enough = np.isfinite(val_y).sum(axis=0) >= MIN_VAL
    for rows, alike in _same_rows(np.isfinite(train_y)):
        columns = alike[enough[alike]]
        if rows.sum() < MIN_TRAIN or not len(columns):
            continue
        model = Ridge.fit(train_x[rows], train_y[np.ix_(rows, columns)])
        penalties = PENALTIES * rows.sum()
        projected = model.project(val_x)
        errors = np.empty((len(penalties), len(columns)))
        for place, penalty in enumerate(penalties):
            shrunk = projected * (model.s / (model.s**2 + penalty))
            difference = model.mean_y + shrunk @ model.uty - val_y[:, columns]
            errors[place] = np.nanmean(np.square(difference), axis=0)
        best = errors.argmin(axis=0)
        for place in np.unique(best):
            chosen = best == place
            weights, offsets = model.affine(penalties[place])
            out.weights[:, columns[chosen]] = weights[:, chosen]
            out.offsets[columns[chosen]] = offsets[chosen]
        out.residual_sd[columns] = np.sqrt(errors.min(axis=0))
    return out


def _same_rows(measured: NDArray[np.bool_]) -> list[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Return the patterns of rows (n,) with the columns that have each."""
    patterns, member = np.unique(measured, axis=1, return_inverse=True)
    member = member.ravel()
    return [(patterns[:, i], np.flatnonzero(member == i)) for i in range(patterns.shape[1])]


def draw_scores(draws: Array, truth: Array) -> tuple[Array, Array]:
    """Return the CRPS, and whether the interval holds the truth (S,), of one patient's draws.

    Parameters
    ----------
    draws : (slides, D, S); slides are pooled in equal shares.
    truth : (S,)
    """
    pooled = np.sort(draws.reshape(-1, draws.shape[-1]), axis=0).T
    strata = np.sort(draws, axis=1).transpose(0, 2, 1) if len(draws) > 1 else None
    low, high = gene_metrics.central_interval(pooled, LEVEL)
    known = np.isfinite(truth) & np.isfinite(pooled[:, 0])
    inside = np.where(known, (low <= truth) & (truth <= high), np.nan)
    return gene_metrics.fair_crps(pooled, truth, strata), inside


def train_crps(train: Array, truth: Array) -> Array:
    """Return the CRPS (n, S) of taking the train values (m, S) that there are as draws."""
    out = np.full(truth.shape, np.nan)
    for column in range(truth.shape[1]):
        values, rows = train[:, column], np.isfinite(truth[:, column])
        values = values[np.isfinite(values)]
        if len(values) >= MIN_TRAIN and rows.any():
            out[rows, column] = gene_metrics.climatology_crps(
                values[:, None], truth[rows, column][:, None]
            )[:, 0]
    return out


def score_fold(fold: folds.Fold, path: Path, names: Sequence[str], cohort: str) -> FoldSignatures:
    """Score the signatures of a fold's test patients."""
    train, val, truth = (
        read_values(path, part.patient_ids, names) for part in (fold.train, fold.val, fold.test)
    )
    model = fit(fold.train.truth, train, fold.val.truth, val)
    rng = seeds.rng_for(SEED, "signatures", cohort, fold.number)
    mean, crps, covered = np.full((3, *truth.shape), np.nan)
    for row, draws in fold.test_draws():
        noise = rng.standard_normal((*draws.shape[:2], len(names))) * model.residual_sd
        mapped = model.apply(draws)
        # Without the noise, whose mean is 0: it would only blur the mean of few draws.
        mean[row] = mapped.mean(axis=(0, 1))
        crps[row], covered[row] = draw_scores(mapped + noise, truth[row])
    points = {"draw_mean": mean, "point": model.apply(fold.read("point", fold.test))}
    for name in RIDGES:
        image = registry.fit(name, fold.train, fold.val, SEED, fold.number)
        points[name] = model.apply(fold.test.average(image.predict(fold.test)))
    points["measured"] = model.apply(fold.test.truth)
    counts = bootstrap.patient_counts(rng, fold.test.patient_ids, RESAMPLES)
    return FoldSignatures(
        truth, points, crps, train_crps(train, truth), covered, counts, model.residual_sd
    )


def score_cohort(results: Path, run: str, path: Path, names: Sequence[str]) -> list[FoldSignatures]:
    """Score the signatures of all folds of results/<cohort>."""
    scored = []
    for store in sorted((results / "draws" / run).glob("fold-*.zarr")):
        tables = (f"bags/{run.split('-')[0]}.safetensors", "expression.parquet", "slides.parquet")
        paths = [results / name for name in (*tables, "splits.tsv", "cohort.json")]
        cohort = patients.load_cohort(folds.read_genes(store), *paths)
        scored.append(score_fold(folds.load_fold(cohort, store), path, names, results.name))
    return scored
