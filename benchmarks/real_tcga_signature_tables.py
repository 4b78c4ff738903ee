"""Tables of the immune signatures: a row per signature, and means over them with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from real_tcga_signatures import POINTS, RIDGES, Array, FoldSignatures
from slide2rna.evaluation.metrics import bootstrap, gene_metrics


def resampled_pcc(counts: Array, predicted: Array, truth: Array) -> Array:
    """Return correlations (B + 1, S) over the patients that have a value; NaN without variance."""
    inside = np.isfinite(predicted) & np.isfinite(truth)
    total = np.maximum(inside.sum(axis=0), 1)
    x, y = (np.where(inside, values, 0.0) for values in (predicted, truth))
    x, y = (np.where(inside, values - values.sum(axis=0) / total, 0.0) for values in (x, y))
    n = np.maximum(counts @ inside, 1e-12)
    sx, sy = counts @ x, counts @ y
    covariance = counts @ (x * y) - sx * sy / n
    variance = (counts @ x**2 - sx**2 / n) * (counts @ y**2 - sy**2 / n)
    flat = variance <= 1e-12 * ((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.where(flat, np.nan, covariance / np.sqrt(np.where(flat, 1.0, variance)))


def combined_pcc(scored: Sequence[FoldSignatures], name: str) -> Array:
    """Return correlations (B + 1, S), folds combined by Fisher's z."""
    n = np.array([np.isfinite(fold.truth).any(axis=1).sum() for fold in scored])
    r = [resampled_pcc(fold.counts, fold.points[name], fold.truth) for fold in scored]
    return np.asarray(gene_metrics.fisher_combine(np.stack(r), n)[0])


def resampled_mean(scored: Sequence[FoldSignatures], name: str) -> Array:
    """Return the mean (B + 1, S) of a score over the patients of all folds that have a value."""
    values = [getattr(fold, name) for fold in scored]
    inside = [np.isfinite(value) for value in values]
    counts = [fold.counts for fold in scored]
    total = sum(c @ i for c, i in zip(counts, inside, strict=True))
    sums = sum(c @ np.nan_to_num(v) for c, v in zip(counts, values, strict=True))
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)


def signature_table(scored: Sequence[FoldSignatures], names: Sequence[str]) -> pl.DataFrame:
    """Return a row per signature: correlations, CRPS, coverage, and patients without a value."""
    truth = np.concatenate([fold.truth for fold in scored])
    columns: dict[str, object] = {"signature": list(names)}
    for name in POINTS:
        columns[f"pcc_{name}"] = combined_pcc(scored, name)[0]
    low, high = bootstrap.interval_r(combined_pcc(scored, "draw_mean"))
    columns |= {"pcc_draw_mean_low": low, "pcc_draw_mean_high": high}
    columns |= {name: resampled_mean(scored, name)[0] for name in ("crps", "crps_train")}
    columns["covered90"] = resampled_mean(scored, "covered")[0]
    columns["residual_sd"] = np.mean([fold.residual_sd for fold in scored], axis=0)
    columns["n_patients"] = np.isfinite(truth).sum(axis=0)
    columns["n_missing"] = (~np.isfinite(truth)).sum(axis=0)
    return pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None))


def summary_table(scored: Sequence[FoldSignatures]) -> pl.DataFrame:
    """Return means over the signatures, with 95 % intervals over patients.

    Signatures differ in unit: crps_ratio is each one's CRPS divided by that of the train values.
    """
    pcc = {name: combined_pcc(scored, name) for name in POINTS}
    null = resampled_mean(scored, "crps_train")
    values = {f"pcc_{name}": r for name, r in pcc.items()}
    for name in RIDGES:
        values[f"pcc_draw_mean_minus:{name}"] = pcc["draw_mean"] - pcc[name]
    # Resampled is the difference: a ratio explodes where resamples lose a signature's one outlier.
    gain = resampled_mean(scored, "crps") - null
    values["crps_ratio"] = 1 + gain / np.where(null[0] > 0, null[0], np.nan)
    values["covered90"] = resampled_mean(scored, "covered")
    rows = []
    for quantity, resamples in values.items():
        counted = np.isfinite(resamples[0])
        if counted.any():
            means = np.nanmean(resamples[:, counted], axis=1)
            low, high = bootstrap.interval(means)
            row = {"quantity": quantity, "value": float(means[0])}
            row |= {"low": float(low), "high": float(high), "n_signatures": int(counted.sum())}
            rows.append(row)
    return pl.DataFrame(rows)
