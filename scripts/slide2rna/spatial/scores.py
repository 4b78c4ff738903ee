"""Scores of predicted maps: slide by slide, then patients, beside the published pooled way.

Correlations are over the spots of a slide. A structure number is never computed without the
correlation of the same prediction, so that tables show both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.metrics.spatial import morans_i
from slide2rna.spatial import structure
from slide2rna.spatial.slides import SpotSlide
from slide2rna.spatial.targets import Target

LEVELS = (0.5, 0.8, 0.9)
STRUCTURE_DRAWS = 20  # draws whose structure is averaged
SCHEMA = {
    "model": pl.String,
    "target": pl.String,
    "slide": pl.String,
    "patient": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "n": pl.Int64,
}


def point_scores(predicted: Array, slide: SpotSlide, kind: Target, train_mean: Array) -> list[Row]:
    """Score one map (n, G) of a slide.

    Parameters
    ----------
    predicted
        The point prediction in the unit of the target.
    slide
        The slide, with its measured counts.
    kind
        The target.
    train_mean
        (G,) mean of the training spots, the yardstick of the squared error.

    Returns
    -------
    Rows with metric, value, and n, the number of genes (of spots for `ssc_spot`) behind the value:
    pcc, mse, mse_ratio, gsc, ssc_spot, ssc_moran, moran, moran_truth.
    """
    measured, weights = slide.target(kind), slide.graph.weights
    r, _ = gene_metrics.pcc(predicted, measured)
    known = np.isfinite(r)
    error = np.square(predicted - measured)
    floor = np.square(train_mean - measured)
    rows = [
        _row("pcc", float(r[known].mean()) if known.any() else float("nan"), int(known.sum())),
        _row("mse", float(error.mean()), measured.shape[1]),
        _row("mse_ratio", float(error.mean() / floor.mean()), measured.shape[1]),
    ]
    return rows + structure_scores(predicted, measured, weights)


def structure_scores(predicted: Array, measured: Array, weights: sparse.csr_array) -> list[Row]:
    """Return the structure of a map (n, G) against the measured one."""
    similar = {
        "gsc": structure.gsc(predicted, measured),
        "ssc_spot": structure.ssc_spot(predicted, measured),
        "ssc_moran": structure.ssc_moran(predicted, measured, weights),
    }
    rows = [_row(name, found.value, found.columns) for name, found in similar.items()]
    for name, values in (("moran", predicted), ("moran_truth", measured)):
        moran = morans_i(values, weights)
        known = np.isfinite(moran)
        mean = float(moran[known].mean()) if known.any() else float("nan")
        rows.append(_row(name, mean, int(known.sum())))
    return rows


def draw_scores(
    drawn: Array, slide: SpotSlide, kind: Target, rng: np.random.Generator
) -> list[Row]:
    """Score joint draws (D, n, G) of a slide.

    Returns
    -------
    Rows: crps, coverage at each level (`coverage50` ...), the mean PIT and its variance, and the
    structure and correlation of single draws, each averaged over up to 20 draws (`draw_gsc` ...).
    """
    measured = slide.target(kind)
    genes = measured.shape[1]
    ordered = np.sort(drawn, axis=0).transpose(1, 2, 0)
    rows = [_row("crps", float(gene_metrics.fair_crps(ordered, measured).mean()), genes)]
    for level in LEVELS:
        if gene_metrics.attainable(level, len(drawn)):
            low, high = gene_metrics.central_interval(ordered, level)
            inside = (low <= measured) & (measured <= high)
            rows.append(_row(f"coverage{level * 100:.0f}", float(inside.mean()), genes))
    pit = gene_metrics.pit(ordered, measured, rng.random(measured.shape))
    rows += [_row("pit_mean", float(pit.mean()), genes), _row("pit_var", float(pit.var()), genes)]
    singles: dict[str, list[float]] = {}
    for values in drawn[:STRUCTURE_DRAWS].astype(np.float64):
        r = gene_metrics.pcc(values, measured)[0]
        found = [_row("pcc", float(np.nanmean(r)), genes)]
        for row in found + structure_scores(values, measured, slide.graph.weights):
            singles.setdefault(row["metric"], []).append(row["value"])
    single_rows = [_row(f"draw_{name}", float(np.mean(v)), genes) for name, v in singles.items()]
    return rows + [row for row in single_rows if row["metric"] != "draw_moran_truth"]


def pooled_pcc(predicted: Sequence[Array], slides: Sequence[SpotSlide], kind: Target) -> float:
    """Return the published correlation: over the spots of all test slides, averaged over genes.

    It mixes differences between slides with those between spots, and is shown for comparison only.
    """
    measured = np.concatenate([slide.target(kind) for slide in slides])
    r, _ = gene_metrics.pcc(np.concatenate(list(predicted)), measured)
    return float(np.nanmean(r))


def by_patient(table: pl.DataFrame) -> pl.DataFrame:
    """Average the rows of SCHEMA over the slides of each patient, then over patients.

    Returns
    -------
    model, target, metric, patient (null for the mean over patients), value, slides, patients.
    """
    keys = ["model", "target", "metric"]
    usable = table.filter(pl.col("value").is_finite())
    patients = usable.group_by(*keys, "patient").agg(
        pl.col("value").mean(), pl.len().cast(pl.Int64).alias("slides")
    )
    patients = patients.with_columns(pl.lit(1, pl.Int64).alias("patients"))
    means = patients.group_by(keys).agg(
        pl.lit(None, pl.String).alias("patient"),
        pl.col("value").mean(),
        pl.col("slides").sum(),
        pl.len().cast(pl.Int64).alias("patients"),
    )
    order = [*keys, "patient"]
    return pl.concat([patients.select(means.columns), means]).sort(order, nulls_last=True)


def _row(metric: str, value: float, n: int) -> Row:
    return {"metric": metric, "value": value, "n": n}
