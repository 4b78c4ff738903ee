"""The summary table: a row per model, gene set and metric, with its interval over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna import bootstrap, compare, metrics
from slide2rna.scoring import Evaluated

Array = NDArray[np.floating]

SCHEMA = {
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
UNCLAIMED = "no coverage is claimed"
CORRELATIONS = ("pcc", "pcc_draw_mean", "pcc_one_draw")


def summary_table(found: Evaluated) -> pl.DataFrame:
    """All scores of all models.

    Metrics
    -------
    pcc : of the point prediction; pcc_draw_mean, pcc_one_draw : of the mean of draws, of one.
    rmse : in log2 units; rmse_ratio : divided by the RMSE of the train mean, set by set;
    nrmse : as published, divided by the gene's train mean, for genes with a mean of 0.1 or more.
    crps : of the draws; for constant, of the train profiles taken as draws.
    pcc_floor : after permuting the patients' profiles; mean, 5th and 95th percentile.
    pcc_minus:NULL, rmse_minus:NULL, crps_minus:NULL : paired differences on the model's genes.
    """
    patients = [len(fold.truth) for fold in found.inputs]
    columns = len(found.set_names)
    scores = found.comparison.scores
    rows: list[dict[str, Any]] = []
    genes = _gene_counts(found)
    few = caution(found, patients)

    def add(model: str, metric: str, values: Array, note: str) -> None:
        low, high = bootstrap.interval(values)
        for column in range(columns):
            rows.append(
                {
                    "model": model,
                    "gene_set": found.set_names[column],
                    "metric": metric,
                    "value": float(values[0, column]),
                    "low": float(low[column]),
                    "high": float(high[column]),
                    "n_genes": genes[column],
                    "note": note,
                }
            )

    def averaged(name: str, metric: str, owner: str) -> Array:
        if metric == "rmse_ratio":
            own, base = scores[name, "rmse", owner], _constant_rmse(found, owner)
            return compare.over_folds(own / np.maximum(base, 1e-12), patients, False)
        of_correlation = metric in CORRELATIONS
        return compare.over_folds(scores[name, metric, owner], patients, of_correlation)

    crps = _crps(found)
    for name in found.inputs[0].test:
        note = "; ".join(filter(None, [found.notes.get(name, ""), few]))
        for metric in ("pcc", "rmse", "rmse_ratio", "nrmse"):
            add(name, metric, averaged(name, metric, name), note)
        if name == found.model:
            for metric in ("pcc_draw_mean", "pcc_one_draw"):
                add(name, metric, averaged(name, metric, name), note)
        if name in crps:
            add(name, "crps", crps[name], note)
        rows += _floor(found, name, genes)
    for name in found.inputs[0].test:
        if name == found.model:
            continue
        note = "; ".join(filter(None, ["paired, on the model's own gene sets", few]))
        for metric in ("pcc", "rmse"):
            ours = averaged(found.model, metric, found.model)
            add(
                found.model,
                f"{metric}_minus:{name}",
                ours - averaged(name, metric, found.model),
                note,
            )
        if name in crps:
            add(found.model, f"crps_minus:{name}", crps[found.model] - crps[name], note)
    rows += _point_rows(found, genes[0])
    for name, reason in sorted(found.absent.items()):
        rows.append({"model": name, "gene_set": "all", "metric": "absent", "note": reason})
    units = {unit for fold in found.folds for unit in fold.test.samples}
    slides = found.cohort.slides.filter(pl.col("sample_id").is_in(list(units)))
    counts = {"n_patients": slides["patient_id"].n_unique(), "n_samples": len(units)}
    return pl.DataFrame([row | counts for row in rows], schema=SCHEMA).with_columns(
        pl.col("value", "low", "high").fill_nan(None)
    )


def _constant_rmse(found: Evaluated, owner: str) -> Array:
    """RMSE of the train mean on the owner's gene sets, under the same resamples."""
    known = found.comparison.scores.get(("constant", "rmse", owner))
    if known is not None:
        return known
    per_fold = []
    for fold in found.inputs:
        error = bootstrap.bootstrap_rmse(fold.counts, fold.test["constant"], fold.truth)
        weights = compare.set_weights(fold.sets[owner], np.ones_like(fold.eligible))
        per_fold.append(error @ weights)
    return np.array(per_fold)


def _crps(found: Evaluated) -> dict[str, Array]:
    """CRPS (B + 1, K) of the draws and of the train profiles, both on the model's gene sets."""
    patients = [len(fold.truth) for fold in found.inputs]
    both: dict[str, list[Array]] = {found.model: [], "constant": []}
    for fold, given, scored in zip(found.folds, found.inputs, found.draws, strict=True):
        weights = compare.set_weights(given.sets[found.model], np.ones_like(given.eligible))
        climatology = metrics.climatology_crps(fold.train.truth, given.truth)
        for name, values in ((found.model, scored.crps), ("constant", climatology)):
            both[name].append(bootstrap.bootstrap_mean(given.counts, values @ weights))
    return {
        name: compare.over_folds(np.array(values), patients, False) for name, values in both.items()
    }


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


def caution(found: Evaluated, patients: list[int]) -> str:
    parts = []
    if min(patients) < compare.MIN_PATIENTS:
        parts.append(f"too few for per-gene claims ({min(patients)} in the smallest test fold)")
    if min(patients) <= 3:
        parts.append("folds of three or fewer are left out of correlations")
    guided = {float(str(fold.store.attrs["guidance"])) for fold in found.folds} - {1.0}
    if guided:
        parts.append(f"drawn with guidance {max(guided):g}, not from p(x given y): {UNCLAIMED}")
    fewest_val = min(len(fold.val.samples) for fold in found.folds)
    if fewest_val < compare.MIN_PATIENTS and len(found.set_names) > 1:
        parts.append(f"genes ranked by as few as {fewest_val} val samples")
    return "; ".join(parts)
