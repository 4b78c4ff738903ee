"""The summary table: a row per model, gene set and metric, with its interval over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.evaluation.scoring import (
    comparison,
    correlation_tests,
    model_pairs,
    published_protocol,
)
from slide2rna.evaluation.scoring.averaged_scores import AveragedScores
from slide2rna.evaluation.scoring.evaluated import Evaluated

SCHEMA = {
    "protocol": pl.String,
    "model": pl.String,
    "gene_set": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_patients": pl.Int64,
    "n_samples": pl.Int64,
    "n_genes": pl.Int64,
    "note": pl.String,
}
SEVERAL = "several samples of a patient: intervals"
UNCLAIMED = "no coverage is claimed"
NO_SITES = "no fold has more than three samples that share their site with another"


def summary_table(found: Evaluated) -> pl.DataFrame:
    """All scores of all models, by both protocols.

    Metrics
    -------
    pcc : of the point prediction; pcc_draw_mean, pcc_one_draw : of the mean of draws, of one.
    pcc_within_site : of profile and prediction less their site's mean over the test samples of
        the fold; resamples keep these means.
    rmse : in log2 units; rmse_ratio : divided by the RMSE of the train mean, set by set;
    nrmse : as published, divided by the gene's train mean, for genes with a mean of 0.1 or more.
    crps : of the draws; for constant, of the train profiles taken as draws.
    pcc_floor : after permuting the patients' profiles; mean, 5th and 95th percentile.
    The rows that compare models are described in `pairs`, those of the published protocol in
    `published_protocol`.
    """
    scores = AveragedScores(found)
    genes = _gene_counts(found)
    few = caution(found)
    rows: list[dict[str, Any]] = []
    for name in found.inputs[0].test:
        note = "; ".join(filter(None, [found.notes.get(name, ""), few]))
        measured = ["pcc", "rmse", "rmse_ratio", "nrmse"]
        if name in found.moments:
            measured += ["pcc_draw_mean", "pcc_one_draw"]
        if name in scores.crps:
            measured.append("crps")
        for metric in measured:
            rows += interval_rows(found, name, metric, scores(name, metric, name), genes, note)
        rows += _within_site(found, scores, name, genes, note)
        rows += _floor(found, name, genes)
    rows += model_pairs.rows(found, scores, genes, few)
    rows += _point_rows(found, genes[0])
    for name, reason in sorted(found.absent.items()):
        rows.append({"model": name, "gene_set": "all", "metric": "absent", "note": reason})
    clean = {
        row["gene_set"]: (row["value"], row["n_genes"])
        for row in rows
        if (row["model"], row["metric"]) == (found.model, "pcc")
    }
    published = published_protocol.rows(
        found.pooled,
        found.cohort.truth.mean(axis=0, dtype=np.float64),
        found.top,
        found.model,
        clean,
        [fold.sets[found.model] for fold in found.inputs],
        found.set_names,
    )
    units = {unit for fold in found.folds for unit in fold.test.samples}
    slides = found.cohort.slides.filter(pl.col("sample_id").is_in(list(units)))
    counts = {"n_patients": slides["patient_id"].n_unique(), "n_samples": len(units)}
    stamped = [{"protocol": "clean"} | row | counts for row in rows]
    stamped += [{"protocol": "published"} | row | counts for row in published]
    return pl.DataFrame(stamped, schema=SCHEMA).with_columns(
        pl.col("value", "low", "high").fill_nan(None)
    )


def interval_rows(
    found: Evaluated, model: str, metric: str, values: Array, genes: list[int], note: str
) -> list[dict[str, Any]]:
    """A row per gene set from bootstrapped values (B + 1, K)."""
    low, high = bootstrap.interval(values)
    return [
        {
            "model": model,
            "gene_set": gene_set,
            "metric": metric,
            "value": float(values[0, column]),
            "low": float(low[column]),
            "high": float(high[column]),
            "n_genes": genes[column],
            "note": note,
        }
        for column, gene_set in enumerate(found.set_names)
    ]


def _within_site(
    found: Evaluated, scores: AveragedScores, name: str, genes: list[int], note: str
) -> list[dict[str, Any]]:
    kept = [fold.sites for fold in found.inputs if fold.compares_sites]
    base = {"model": name, "gene_set": "all", "metric": "pcc_within_site"}
    if not kept:
        return [base | {"note": NO_SITES}]
    samples, sites = sum(len(fold.rows) for fold in kept), sum(fold.count for fold in kept)
    text = f"{samples} samples in {sites} groups of one site and fold; {note}".rstrip("; ")
    values = scores(name, "pcc_within_site", name)
    return interval_rows(found, name, "pcc_within_site", values, genes, text)


def _floor(found: Evaluated, name: str, genes: list[int]) -> list[dict[str, Any]]:
    if name == "constant":
        return []
    floor = found.floors[name]
    low, high = np.quantile(floor, [0.05, 0.95], axis=0)
    return [
        {
            "model": name,
            "gene_set": gene_set,
            "metric": "pcc_floor",
            "value": float(floor[:, column].mean()),
            "low": float(low[column]),
            "high": float(high[column]),
            "n_genes": genes[column],
            "note": f"mean, 5th and 95th percentile of {len(floor)} permutations of profiles",
        }
        for column, gene_set in enumerate(found.set_names)
    ]


def _point_rows(found: Evaluated, genes: int) -> list[dict[str, Any]]:
    if not found.spread:
        return []
    noise, off = np.mean(found.spread, axis=0)
    notes = {
        "point_spread": (noise, "standard error of the one-step posterior mean, log2 units"),
        "point_minus_draws": (off, "rms of point - mean of draws, in units of the draws' sd"),
    }
    base = {"model": found.model, "gene_set": "all", "n_genes": genes}
    return [
        base | {"metric": metric, "value": float(value), "note": note}
        for metric, (value, note) in notes.items()
    ]


def _gene_counts(found: Evaluated) -> list[int]:
    per_fold = [fold.sets[found.model].sum(axis=0) for fold in found.inputs]
    return [round(float(count)) for count in np.mean(per_fold, axis=0)]


def caution(found: Evaluated) -> str:
    parts = []
    patients = [fold.patients for fold in found.inputs]
    if min(patients) < comparison.MIN_PATIENTS:
        parts.append(f"too few for per-gene claims ({min(patients)} in the smallest test fold)")
    if min(len(fold.truth) for fold in found.inputs) <= 3:
        parts.append("folds of three or fewer are left out of correlations")
    if correlation_tests.repeated(found.inputs):
        alone = " (of a fold's only patient, samples)" if min(patients) == 1 else ""
        parts.append(f"{SEVERAL} resample patients{alone}, no per-gene test")
    guided = {fold.guidance for fold in found.folds} - {1.0}
    if guided:
        parts.append(f"drawn with guidance {max(guided):g}, not from p(x given y): {UNCLAIMED}")
    val = min((fold.val for fold in found.folds), key=lambda part: part.patients)
    if val.patients < comparison.MIN_PATIENTS and len(found.set_names) > 1:
        of = f" of {val.patients} patients" if val.patients < len(val.samples) else ""
        parts.append(f"genes ranked by as few as {len(val.samples)} val samples{of}")
    return "; ".join(parts)
