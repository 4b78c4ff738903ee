"""Intervals of pathway scores against those of measured profiles, beside the train profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import variant_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.uncertainty.sharpness import NULL
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


def train_pathway_scores(found: Evaluated, fold: int, levels: Sequence[float]) -> PathwayScores:
    """The train profiles taken as draws of every sample: no image, and right on average."""
    given, (mean, sd) = found.inputs[fold], found.train[fold]
    method = activity.scoring_method(found.pathway_score, mean, sd, given.eligible, found.members)
    train = np.asarray(method.score(found.folds[fold].train.truth.T))
    truth = np.asarray(method.score(given.truth.T)).T
    ordered = np.sort(train, axis=1)
    ends = [gene_metrics.central_interval(ordered, level) for level in levels]
    covered = [(low <= truth) & (truth <= high) for low, high in ends]
    unknown = np.where(method.known, 0.0, np.nan)
    crps = gene_metrics.climatology_crps(train.T, truth) + unknown
    inside = np.array(covered, dtype=float).reshape(len(levels), *truth.shape) + unknown
    widths = np.array([high - low for low, high in ends]).reshape(len(levels), len(train))
    return PathwayScores(np.array(levels), crps, inside, widths + unknown)


def _mean(values: Array, axis: int) -> Array:
    """Mean of what isn't NaN, and NaN of nothing."""
    known = np.isfinite(values).sum(axis=axis)
    return np.where(known, np.nansum(values, axis=axis) / np.maximum(known, 1), np.nan)


def _per_pathway(parts: Sequence[Array]) -> Array:
    """Mean (P,) over the samples of all folds of (n, P)."""
    return _mean(np.concatenate(parts), 0)


def pathway_scores(found: Evaluated) -> dict[str, list[PathwayScores]]:
    """By kind, fold by fold; empty without draws."""
    if not found.draws:
        return {}
    ours = [
        PathwayScores(of.score_levels, of.score_crps, of.score_covered, of.score_width)
        for of in found.draws
    ]
    fewest = min(len(fold.train.truth) for fold in found.folds)
    levels = [float(level) for level in ours[0].levels if gene_metrics.attainable(level, fewest)]
    return {
        "draws": ours,
        NULL: [train_pathway_scores(found, fold, levels) for fold in range(len(ours))],
    }


def columns(found: Evaluated) -> dict[str, Array]:
    """Per pathway: CRPS, and share covered and mean width of each interval; null_: of train."""
    unknown = np.full(found.names.height, np.nan)
    out: dict[str, Array] = {"crps": unknown, "covered90": unknown}
    for kind, of in pathway_scores(found).items():
        prefix = "" if kind == "draws" else "null_"
        out[f"{prefix}crps"] = _per_pathway([fold.crps for fold in of])
        for index, level in enumerate(of[0].levels):
            named = f"{100 * level:g}"
            out[f"{prefix}covered{named}"] = _per_pathway([fold.covered[index] for fold in of])
            widths = [np.broadcast_to(fold.width[index], fold.crps.shape) for fold in of]
            out[f"{prefix}width{named}"] = _per_pathway(widths)
    return out


def rows(found: Evaluated) -> list[dict[str, Any]]:
    """Rows of the calibration table: coverage of pathway scores, pooled and within a pathway."""
    counts = [given.counts for given in found.inputs]
    out: list[dict[str, Any]] = []
    both = pathway_scores(found)
    if not all(np.isfinite(fold.crps).any() for of in both.values() for fold in of):
        return out
    if both:
        pairs = zip(both["draws"], both[NULL], strict=True)
        value, low, high = bootstrap.over_patients(
            counts, [_mean(ours.crps - null.crps, 1) for ours, null in pairs]
        )
        less = {"quantity": "pathway_crps_minus", "kind": NULL, "value": value}
        less |= {"low": low, "high": high, "note": "draws less the train profiles, paired"}
        samples = sum(len(given.truth) for given in found.inputs)
        out.append({"gene_set": "pathways", "within": "pooled", "n": samples} | less)
    for kind, of in both.items():
        samples = sum(len(fold.crps) for fold in of)
        base: dict[str, Any] = {"gene_set": "pathways", "kind": kind}
        guided = variant_scores.guided(found.folds) if kind == "draws" else ""
        caution = f"; {guided}" if guided else ""
        value, low, high = bootstrap.over_patients(counts, [_mean(f.crps, 1) for f in of])
        crps = {"quantity": "pathway_crps", "within": "pooled", "n": samples}
        crps |= {"value": value, "low": low, "high": high}
        out.append(base | crps | {"note": f"{found.pathway_score}, mean over pathways"})
        for index, level in enumerate(of[0].levels):
            own = base | {"quantity": "pathway_coverage", "nominal": float(level)}
            own["interval"] = float(level)
            per_sample = [_mean(fold.covered[index], 1) for fold in of]
            value, low, high = bootstrap.over_patients(counts, per_sample)
            ends = {"covered": value, "low": max(low, 0.0), "high": min(high, 1.0)}
            widths = [_mean(fold.width[index], 0) for fold in of]
            width = np.average(widths, weights=[len(fold.crps) for fold in of])
            pooled = {"within": "pooled", "width": float(width), "n": samples}
            out.append(own | pooled | ends | {"note": f"95 % over patients{caution}"})
            share = _per_pathway([fold.covered[index] for fold in of])
            share = share[np.isfinite(share)]
            low, middle, high = np.quantile(share, [0.05, 0.5, 0.95])
            chance = stats.binom.ppf([0.05, 0.95], samples, level) / samples
            note = (
                "median, 5th to 95th percentile of pathways; chance alone gives "
                f"{chance[0]:.2f} to {chance[1]:.2f} with {samples} samples a pathway{caution}"
            )
            ends = {"covered": middle, "low": low, "high": high}
            out.append(own | {"within": "pathway", "n": len(share), "note": note} | ends)
    return out


def example_table(found: Evaluated) -> pl.DataFrame:
    """Scores and intervals of the pathways that val ranks best, a row per sample and level."""
    parts = [pl.DataFrame(schema=EXAMPLES)]
    for index, of in enumerate(found.draws):
        given, (mean, sd) = found.inputs[index], found.train[index]
        method = activity.scoring_method(
            found.pathway_score, mean, sd, given.eligible, found.members
        )
        truth = np.asarray(method.score(given.truth.T))
        for rank, pathway in enumerate(found.pathways):
            if not method.known[pathway]:
                continue
            own = found.names.row(int(pathway), named=True)
            for place, level in enumerate(of.score_levels):
                low, high = of.score_ends[place, :, :, rank]
                values = {"measured": truth[pathway], "score": of.score[:, pathway]}
                values |= {"low": low, "high": high}
                frame = pl.DataFrame(
                    {"sample_id": found.folds[index].test.samples}
                    | {key: np.asarray(value, float) for key, value in values.items()}
                ).with_columns(
                    pathway=pl.lit(own["pathway"]),
                    name=pl.lit(own["name"]),
                    rank=pl.lit(rank + 1),
                    fold=pl.lit(found.folds[index].number),
                    level=pl.lit(float(level)),
                )
                parts.append(frame.select(list(EXAMPLES)).cast(EXAMPLES))  # type: ignore[arg-type]
    return pl.concat(parts).sort("rank", "level", "sample_id")
