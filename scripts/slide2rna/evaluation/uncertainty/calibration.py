"""Calibration of draws: coverage, PIT, likelihood, and variance against error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.metrics.bootstrap import Counts
from slide2rna.evaluation.scoring import draw_scores, variant_scores
from slide2rna.evaluation.scoring.draw_scores import PIT_BINS, DrawScores, Moments
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.uncertainty import pathway_intervals, sharpness

# Smallest sd of a normal, in train sd: clipped draws of a silent gene have no variance.
SD_FLOOR = 0.01

SCHEMA = {
    "gene_set": pl.String,
    "quantity": pl.String,
    "kind": pl.String,
    "within": pl.String,
    "interval": pl.Float64,
    "nominal": pl.Float64,
    "covered": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "width": pl.Float64,
    "value": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
}


def table(evaluated: Evaluated) -> pl.DataFrame:
    """Compute the calibration of the evaluated model's draws on its gene sets.

    Returns
    -------
    A row per gene set, quantity and interval. `quantity` is coverage (within: pooled, gene,
    sample), pit (interval is the bin's upper edge, covered its share), nll, spearman or
    sharpness (value: mean width of the interval, or mean sd without one); for pathway scores
    pathway_coverage (within: pooled, pathway) and pathway_crps, with gene_set pathways. `kind` is
    draws, or the null to compare them with. If only mean and sd of the draws were stored, the
    table has the quantities that these suffice for; for a model with points only it is empty.
    """
    rows: list[Row] = []
    scores = evaluated.draw_scores
    moments: Sequence[Moments | DrawScores] = scores or [
        draw_scores.stored_moments(fold)
        for fold in evaluated.folds
        if fold.has("mean") and fold.has("sd")
    ]
    truths = [fold.truth for fold in evaluated.predictions]
    sets = [fold.sets[evaluated.model] for fold in evaluated.predictions]
    counts = [fold.counts for fold in evaluated.predictions]
    for column, name in enumerate(evaluated.set_names if moments else []):
        if scores:
            rows += _coverage_rows(
                scores, sets, counts, column, name, variant_scores.guidance_note(evaluated.folds)
            )
            rows += _pit_rows(scores, counts, column, name)
        rows += _nll_rows(moments, truths, sets, evaluated.train_moments, counts, column, name)
        rows += _spearman_rows(moments, truths, sets, evaluated.train_moments, column, name)
    if moments:
        rows += sharpness.rows(evaluated, moments, evaluated.levels) + pathway_intervals.rows(
            evaluated
        )
    return pl.DataFrame(rows, schema=SCHEMA)


def _coverage_rows(
    scores: Sequence[DrawScores],
    sets: Sequence[NDArray[np.bool_]],
    counts: Sequence[Counts],
    column: int,
    name: str,
    caution: str,
) -> list[Row]:
    rows = []
    sizes = [len(score.mean) for score in scores]
    samples = sum(sizes)
    members = [mask[:, column] for mask in sets]
    for index, level in enumerate(scores[0].levels):
        base: Row = {"gene_set": name, "quantity": "coverage", "kind": "draws"}
        base |= {"interval": float(level), "nominal": float(level)}
        per_sample = [score.covered[index, :, column] for score in scores]
        value, low, high = bootstrap.over_patients(counts, per_sample)
        low, high = np.clip([low, high], 0, 1)
        width = np.average(
            [score.width[index, mask].mean() for score, mask in zip(scores, members, strict=True)],
            weights=sizes,
        )
        pooled = {"within": "pooled", "covered": value, "low": low, "high": high}
        pooled |= {"width": width, "n": samples, "note": "95 % over patients"}

        low, middle, high = np.quantile(np.concatenate(per_sample), [0.05, 0.5, 0.95])
        by_sample = {"within": "sample", "covered": middle, "low": low, "high": high}
        by_sample |= {"n": samples, "note": "median, 5th to 95th percentile"}

        def chance(typical: int, level: float = level) -> Array:
            return np.asarray(stats.binom.ppf([0.05, 0.95], typical, level) / typical)

        hits = [score.covered_gene[index] for score in scores]
        by_gene = within_gene(hits, members, sizes, "samples", chance)
        for row in (pooled, by_sample, by_gene):
            row["note"] = "; ".join(filter(None, [str(row["note"]), caution]))
            rows.append(base | row)
    return rows


def within_gene(
    hits: Sequence[Array],
    members: Sequence[NDArray[np.bool_]],
    tried: Sequence[float],
    unit: str,
    chance: Callable[[int], Array],
) -> Row:
    """Return coverage within a gene, as median and percentiles over a set's genes.

    Parameters
    ----------
    hits : per fold, (G,) number of samples or patients inside the interval.
    members : per fold, (G,) genes of the set; a gene counts in the folds whose set contains it.
    tried : per fold, number of samples or patients.
    unit : samples or patients, for the note.
    chance : maps a typical gene's number of samples to the 5th and 95th percentile of coverage at
        the nominal level.
    """
    inside = np.sum([h * m for h, m in zip(hits, members, strict=True)], axis=0)
    total = np.sum([t * m for t, m in zip(tried, members, strict=True)], axis=0)
    seen = total > 0
    low, middle, high = np.quantile(inside[seen] / total[seen], [0.05, 0.5, 0.95])
    typical = int(np.median(total[seen]) + 1e-6)
    ends = chance(typical)
    note = (
        "median, 5th to 95th percentile of genes; chance alone gives "
        f"{ends[0]:.2f} to {ends[1]:.2f} with {typical} {unit} a gene"
    )
    spread = {"covered": middle, "low": low, "high": high, "n": int(seen.sum())}
    return {"within": "gene", "note": note} | spread


def _pit_rows(
    scores: Sequence[DrawScores], counts: Sequence[Counts], column: int, name: str
) -> list[Row]:
    value, low, high = bootstrap.over_patients(counts, [score.pit[:, column] for score in scores])
    low, high = np.clip([low, high], 0, 1)
    samples = sum(score.mean.shape[0] for score in scores)
    base = {"gene_set": name, "quantity": "pit", "kind": "draws", "within": "pooled", "n": samples}
    return [
        base
        | {"interval": (edge + 1) / PIT_BINS, "nominal": 1 / PIT_BINS, "covered": value[edge]}
        | {"low": low[edge], "high": high[edge], "note": "share per bin, ties randomised"}
        for edge in range(PIT_BINS)
    ]


def _nll_rows(
    scores: Sequence[Moments | DrawScores],
    truths: Sequence[Array],
    sets: Sequence[NDArray[np.bool_]],
    train: Sequence[tuple[Array, Array]],
    counts: Sequence[Counts],
    column: int,
    name: str,
) -> list[Row]:
    draws, null, floored = [], [], []
    for score, truth, mask, (mean, sd) in zip(scores, truths, sets, train, strict=True):
        used = mask[:, column]
        y, m, s = truth[:, used], mean[used], sd[used]
        floor = SD_FLOOR * s
        variance = score.variance[:, used]
        draws.append(
            gene_metrics.gaussian_nll(score.mean[:, used], variance, y, floor).mean(axis=1)
        )
        null.append(gene_metrics.gaussian_nll(m, s**2, y, floor).mean(axis=1))
        floored.append((variance < floor**2).mean())
    rows = []
    notes = {
        "draws": f"sd raised to {SD_FLOOR:g} train sd in {np.mean(floored):.1%} of values",
        "train-normal": "normal law with the train mean and sd, no image",
    }
    for kind, values in (("draws", draws), ("train-normal", null)):
        value, low, high = bootstrap.over_patients(counts, values)
        base: Row = {
            "gene_set": name,
            "quantity": "nll",
            "kind": kind,
            "within": "pooled",
        }
        base |= {"value": value, "low": low, "high": high, "note": notes[kind]}
        rows.append(base | {"n": sum(map(len, values))})
    return rows


def _spearman_rows(
    scores: Sequence[Moments | DrawScores],
    truths: Sequence[Array],
    sets: Sequence[NDArray[np.bool_]],
    train: Sequence[tuple[Array, Array]],
    column: int,
    name: str,
) -> list[Row]:
    """Return Spearman(variance, absolute error), also for a variance that is constant per gene.

    Pooled over genes, noisy genes alone make both correlations high; within a gene, that of a
    constant variance is 0.
    """
    error, variance, constant, within = [], [], [], []
    for score, truth, mask, (_, sd) in zip(scores, truths, sets, train, strict=True):
        used = mask[:, column]
        error.append(np.abs(score.mean[:, used] - truth[:, used]))
        variance.append(score.variance[:, used])
        constant.append(np.broadcast_to(sd[used] ** 2, variance[-1].shape))
        if len(truth) > 3:
            within.append(gene_metrics.spearman_columns(variance[-1], error[-1]))
    error_ranks = gene_metrics.ranks(np.concatenate([e.ravel() for e in error]))
    base = {"gene_set": name, "quantity": "spearman", "n": sum(len(e) for e in error)}
    rows = []
    for kind, values in (("draws", variance), ("constant-variance", constant)):
        variance_ranks = gene_metrics.ranks(np.concatenate([v.ravel() for v in values]))
        r = gene_metrics.correlate_ranks(variance_ranks, error_ranks)
        rows.append(base | {"kind": kind, "within": "pooled", "value": r})
    if within:
        low, middle, high = np.quantile(np.concatenate(within), [0.05, 0.5, 0.95])
        by_gene = {"kind": "draws", "within": "gene", "value": middle, "low": low, "high": high}
        rows.append(base | by_gene | {"note": "median, 5th to 95th percentile of genes and folds"})
        by_constant = {"kind": "constant-variance", "within": "gene", "value": 0.0}
        rows.append(base | by_constant | {"note": "0 by definition"})
    return rows
