"""Pathway intervals: coverage and width for scores of measured profiles; train profiles as null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import variant_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.uncertainty.sharpness import TRAIN_PROFILES
from slide2rna.pathways import activity

EXAMPLES = {
    "pathway": pl.String,
    "name": pl.String,
    "rank": pl.Int64,
    "sample_id": pl.String,
    "fold": pl.Int64,
    "measured": pl.Float64,
    "score": pl.Float64,
    "level": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


@dataclass(frozen=True)
class PathwayScores:
    """Pathway scores of one fold's test samples, from draws or from the train profiles.

    A pathway without a gene that varies in train has no score: NaN.

    Attributes
    ----------
    levels : (M,)
    crps : (n, P)
    covered : (M, n, P)
    width : (M, P)
    """

    levels: Array
    crps: Array
    covered: Array
    width: Array


def train_pathway_scores(evaluated: Evaluated, fold: int, levels: Sequence[float]) -> PathwayScores:
    """Score the train profiles as draws of every sample: a calibrated null without image."""
    predictions, (mean, sd) = evaluated.predictions[fold], evaluated.train_moments[fold]
    method = activity.scoring_method(
        evaluated.pathway_score, mean, sd, predictions.eligible, evaluated.pathway_members
    )
    train = np.asarray(method.score(evaluated.folds[fold].train.truth.T))
    truth = np.asarray(method.score(predictions.truth.T)).T
    ordered = np.sort(train, axis=1)
    ends = [gene_metrics.central_interval(ordered, level) for level in levels]
    covered = [(low <= truth) & (truth <= high) for low, high in ends]
    unknown = np.where(method.scorable, 0.0, np.nan)
    crps = gene_metrics.climatology_crps(train.T, truth) + unknown
    inside = np.array(covered, dtype=float).reshape(len(levels), *truth.shape) + unknown
    widths = np.array([high - low for low, high in ends]).reshape(len(levels), len(train))
    return PathwayScores(np.array(levels), crps, inside, widths + unknown)


def _finite_mean(values: Array, axis: int) -> Array:
    """Return the mean of finite values; NaN without any."""
    finite = np.isfinite(values).sum(axis=axis)
    return np.where(finite, np.nansum(values, axis=axis) / np.maximum(finite, 1), np.nan)


def _mean_per_pathway(parts: Sequence[Array]) -> Array:
    """Return the mean (P,) of values (n, P) over the samples of all folds."""
    return _finite_mean(np.concatenate(parts), 0)


def pathway_scores(evaluated: Evaluated) -> dict[str, list[PathwayScores]]:
    """Return pathway scores by kind, per fold; empty without draws."""
    if not evaluated.draw_scores:
        return {}
    draw_scores = [
        PathwayScores(draws.score_levels, draws.score_crps, draws.score_covered, draws.score_width)
        for draws in evaluated.draw_scores
    ]
    fewest = min(len(fold.train.truth) for fold in evaluated.folds)
    levels = [
        float(level) for level in draw_scores[0].levels if gene_metrics.attainable(level, fewest)
    ]
    return {
        "draws": draw_scores,
        TRAIN_PROFILES: [
            train_pathway_scores(evaluated, fold, levels) for fold in range(len(draw_scores))
        ],
    }


def columns(evaluated: Evaluated) -> dict[str, Array]:
    """Return per pathway CRPS, coverage and mean width of intervals; null_ for train profiles."""
    unknown = np.full(evaluated.pathway_names.height, np.nan)
    out: dict[str, Array] = {"crps": unknown, "covered90": unknown}
    for kind, by_fold in pathway_scores(evaluated).items():
        prefix = "" if kind == "draws" else "null_"
        out[f"{prefix}crps"] = _mean_per_pathway([fold.crps for fold in by_fold])
        for index, level in enumerate(by_fold[0].levels):
            percent = f"{100 * level:g}"
            out[f"{prefix}covered{percent}"] = _mean_per_pathway(
                [fold.covered[index] for fold in by_fold]
            )
            widths = [np.broadcast_to(fold.width[index], fold.crps.shape) for fold in by_fold]
            out[f"{prefix}width{percent}"] = _mean_per_pathway(widths)
    return out


def rows(evaluated: Evaluated) -> list[Row]:
    """Return calibration rows: coverage of pathway scores, pooled and within a pathway."""
    counts = [predictions.counts for predictions in evaluated.predictions]
    out: list[Row] = []
    by_kind = pathway_scores(evaluated)
    if not all(np.isfinite(fold.crps).any() for by_fold in by_kind.values() for fold in by_fold):
        return out
    if by_kind:
        pairs = zip(by_kind["draws"], by_kind[TRAIN_PROFILES], strict=True)
        value, low, high = bootstrap.over_patients(
            counts, [_finite_mean(draws.crps - null.crps, 1) for draws, null in pairs]
        )
        difference = {"quantity": "pathway_crps_minus", "kind": TRAIN_PROFILES, "value": value}
        difference |= {"low": low, "high": high, "note": "draws less the train profiles, paired"}
        samples = sum(len(predictions.truth) for predictions in evaluated.predictions)
        out.append({"gene_set": "pathways", "within": "pooled", "n": samples} | difference)
    for kind, by_fold in by_kind.items():
        samples = sum(len(fold.crps) for fold in by_fold)
        base: Row = {"gene_set": "pathways", "kind": kind}
        guided = variant_scores.guidance_note(evaluated.folds) if kind == "draws" else ""
        caution = f"; {guided}" if guided else ""
        value, low, high = bootstrap.over_patients(
            counts, [_finite_mean(f.crps, 1) for f in by_fold]
        )
        crps = {"quantity": "pathway_crps", "within": "pooled", "n": samples}
        crps |= {"value": value, "low": low, "high": high}
        out.append(base | crps | {"note": f"{evaluated.pathway_score}, mean over pathways"})
        for index, level in enumerate(by_fold[0].levels):
            level_base = base | {"quantity": "pathway_coverage", "nominal": float(level)}
            level_base["interval"] = float(level)
            per_sample = [_finite_mean(fold.covered[index], 1) for fold in by_fold]
            value, low, high = bootstrap.over_patients(counts, per_sample)
            ends = {"covered": value, "low": max(low, 0.0), "high": min(high, 1.0)}
            widths = [_finite_mean(fold.width[index], 0) for fold in by_fold]
            width = np.average(widths, weights=[len(fold.crps) for fold in by_fold])
            pooled = {"within": "pooled", "width": float(width), "n": samples}
            out.append(level_base | pooled | ends | {"note": f"95 % over patients{caution}"})
            share = _mean_per_pathway([fold.covered[index] for fold in by_fold])
            share = share[np.isfinite(share)]
            low, middle, high = np.quantile(share, [0.05, 0.5, 0.95])
            chance = stats.binom.ppf([0.05, 0.95], samples, level) / samples
            note = (
                "median, 5th to 95th percentile of pathways; chance alone gives "
                f"{chance[0]:.2f} to {chance[1]:.2f} with {samples} samples a pathway{caution}"
            )
            ends = {"covered": middle, "low": low, "high": high}
            out.append(level_base | {"within": "pathway", "n": len(share), "note": note} | ends)
    return out


def example_table(evaluated: Evaluated) -> pl.DataFrame:
    """Return scores and intervals of the pathways that val ranks best, by sample and level."""
    parts = [pl.DataFrame(schema=EXAMPLES)]
    for index, draws in enumerate(evaluated.draw_scores):
        predictions, (mean, sd) = evaluated.predictions[index], evaluated.train_moments[index]
        method = activity.scoring_method(
            evaluated.pathway_score, mean, sd, predictions.eligible, evaluated.pathway_members
        )
        truth = np.asarray(method.score(predictions.truth.T))
        for rank, pathway in enumerate(evaluated.example_pathways):
            if not method.scorable[pathway]:
                continue
            pathway_row = evaluated.pathway_names.row(int(pathway), named=True)
            for level_index, level in enumerate(draws.score_levels):
                low, high = draws.score_ends[level_index, :, :, rank]
                values = {"measured": truth[pathway], "score": draws.score[:, pathway]}
                values |= {"low": low, "high": high}
                frame = pl.DataFrame(
                    {"sample_id": evaluated.folds[index].test.samples}
                    | {key: np.asarray(value, float) for key, value in values.items()}
                ).with_columns(
                    pathway=pl.lit(pathway_row["pathway"]),
                    name=pl.lit(pathway_row["name"]),
                    rank=pl.lit(rank + 1),
                    fold=pl.lit(evaluated.folds[index].number),
                    level=pl.lit(float(level)),
                )
                parts.append(frame.select(list(EXAMPLES)).cast(EXAMPLES))  # type: ignore[arg-type]
    return pl.concat(parts).sort("rank", "level", "sample_id")
