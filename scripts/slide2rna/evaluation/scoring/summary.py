"""Summary table: a row per model, gene set and metric, with its interval over patients."""

from __future__ import annotations

import numpy as np
import polars as pl

from slide2rna.core.rows import SummaryRow
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


def summary_table(evaluated: Evaluated) -> pl.DataFrame:
    """Return all scores of all models, by both protocols.

    Metrics
    -------
    pcc : of the point prediction; pcc_draw_mean, pcc_one_draw : of the mean of draws, of one.
    pcc_within_site : of profile and prediction minus their site's mean over the test samples of
        the fold; resamples keep these means.
    rmse : in log2 units; rmse_ratio : divided by the RMSE of the train mean, set by set;
    nrmse : as published, divided by the gene's train mean, for genes with a mean of 0.1 or more.
    crps : of the draws; for constant, of the train profiles taken as draws.
    pcc_floor : after permuting the patients' profiles; mean, 5th and 95th percentile.
    For rows that compare models see `model_pairs`, for the published protocol
    `published_protocol`.
    """
    scores = AveragedScores(evaluated)
    genes = _gene_counts(evaluated)
    cautions = caution_note(evaluated)
    rows: list[SummaryRow] = []
    for name in evaluated.predictions[0].test:
        note = "; ".join(filter(None, [evaluated.notes.get(name, ""), cautions]))
        metrics = ["pcc", "rmse", "rmse_ratio", "nrmse"]
        if name in evaluated.draw_moments:
            metrics += ["pcc_draw_mean", "pcc_one_draw"]
        if name in scores.crps:
            metrics.append("crps")
        for metric in metrics:
            rows += interval_rows(evaluated, name, metric, scores(name, metric, name), genes, note)
        rows += _within_site_rows(evaluated, scores, name, genes, note)
        rows += _floor_rows(evaluated, name, genes)
    rows += model_pairs.rows(evaluated, scores, genes, cautions)
    rows += _point_rows(evaluated, genes[0])
    for name, reason in sorted(evaluated.unavailable.items()):
        rows.append({"model": name, "gene_set": "all", "metric": "absent", "note": reason})
    clean = {
        row["gene_set"]: (row["value"], row["n_genes"])
        for row in rows
        if (row["model"], row["metric"]) == (evaluated.model, "pcc")
    }
    published = published_protocol.rows(
        evaluated.pooled_moments,
        evaluated.cohort.truth.mean(axis=0, dtype=np.float64),
        evaluated.configured_sizes,
        evaluated.model,
        clean,
        [fold.sets[evaluated.model] for fold in evaluated.predictions],
        evaluated.set_names,
    )
    units = {unit for fold in evaluated.folds for unit in fold.test.samples}
    slides = evaluated.cohort.slides.filter(pl.col("sample_id").is_in(list(units)))
    counts = {"n_patients": slides["patient_id"].n_unique(), "n_samples": len(units)}
    stamped = [{"protocol": "clean"} | row | counts for row in rows]
    stamped += [{"protocol": "published"} | row | counts for row in published]
    return pl.DataFrame(stamped, schema=SCHEMA).with_columns(
        pl.col("value", "low", "high").fill_nan(None)
    )


def interval_rows(
    evaluated: Evaluated, model: str, metric: str, values: Array, genes: list[int], note: str
) -> list[SummaryRow]:
    """Return a row per gene set from bootstrapped values (B + 1, K)."""
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
        for column, gene_set in enumerate(evaluated.set_names)
    ]


def _within_site_rows(
    evaluated: Evaluated, scores: AveragedScores, name: str, genes: list[int], note: str
) -> list[SummaryRow]:
    compared = [fold.sites for fold in evaluated.predictions if fold.compares_sites]
    base: SummaryRow = {"model": name, "gene_set": "all", "metric": "pcc_within_site"}
    if not compared:
        return [base | {"note": NO_SITES}]
    samples, sites = sum(len(fold.rows) for fold in compared), sum(fold.count for fold in compared)
    text = f"{samples} samples in {sites} groups of one site and fold; {note}".rstrip("; ")
    values = scores(name, "pcc_within_site", name)
    return interval_rows(evaluated, name, "pcc_within_site", values, genes, text)


def _floor_rows(evaluated: Evaluated, name: str, genes: list[int]) -> list[SummaryRow]:
    if name == "constant":
        return []
    floor = evaluated.noise_floors[name]
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
        for column, gene_set in enumerate(evaluated.set_names)
    ]


def _point_rows(evaluated: Evaluated, genes: int) -> list[SummaryRow]:
    if not evaluated.point_spreads:
        return []
    noise, distance = np.mean(evaluated.point_spreads, axis=0)
    notes = {
        "point_spread": (noise, "standard error of the one-step posterior mean, log2 units"),
        "point_minus_draws": (distance, "rms of point - mean of draws, in units of the draws' sd"),
    }
    base: SummaryRow = {"model": evaluated.model, "gene_set": "all", "n_genes": genes}
    return [
        base | {"metric": metric, "value": float(value), "note": note}
        for metric, (value, note) in notes.items()
    ]


def _gene_counts(evaluated: Evaluated) -> list[int]:
    per_fold = [fold.sets[evaluated.model].sum(axis=0) for fold in evaluated.predictions]
    return [round(float(count)) for count in np.mean(per_fold, axis=0)]


def caution_note(evaluated: Evaluated) -> str:
    """Return the cautions that hold for all rows: few patients, repeated samples, guidance."""
    parts = []
    patients = [fold.patients for fold in evaluated.predictions]
    if min(patients) < comparison.MIN_PATIENTS:
        parts.append(f"too few for per-gene claims ({min(patients)} in the smallest test fold)")
    if min(len(fold.truth) for fold in evaluated.predictions) <= 3:
        parts.append("folds of three or fewer are left out of correlations")
    if correlation_tests.has_repeated_samples(evaluated.predictions):
        alone = " (of a fold's only patient, samples)" if min(patients) == 1 else ""
        parts.append(f"{SEVERAL} resample patients{alone}, no per-gene test")
    guided = {fold.guidance for fold in evaluated.folds} - {1.0}
    if guided:
        parts.append(f"drawn with guidance {max(guided):g}, not from p(x given y): {UNCLAIMED}")
    val = min((fold.val for fold in evaluated.folds), key=lambda part: part.n_patients)
    if val.n_patients < comparison.MIN_PATIENTS and len(evaluated.set_names) > 1:
        patient_note = f" of {val.n_patients} patients" if val.n_patients < len(val.samples) else ""
        parts.append(f"genes ranked by as few as {len(val.samples)} val samples{patient_note}")
    return "; ".join(parts)
