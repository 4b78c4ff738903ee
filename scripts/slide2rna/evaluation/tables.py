"""Evaluation tables per pathway, per sample and per example gene."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring.draw_scores import DrawScores
from slide2rna.evaluation.scoring.evaluated import Evaluated
from slide2rna.evaluation.uncertainty import pathway_intervals
from slide2rna.pathways import activity

DRAW_MEAN = "mean of draws"


def pathway_table(evaluated: Evaluated) -> pl.DataFrame:
    """Return a row per pathway: scores of its activity, and its genes' mean correlation."""
    resampled = {*evaluated.networks, "ridge", DRAW_MEAN}
    combined, rmse = pathway_scores(evaluated, resampled)
    difference = combined[evaluated.model] - combined["ridge"]
    unknown = np.full(evaluated.pathway_names.height, np.nan)

    def r_columns(column: str, name: str) -> dict[str, Array]:
        values = combined.get(name)
        if values is None:
            return {column: unknown, f"{column}_low": unknown, f"{column}_high": unknown}
        if name not in resampled:
            return {column: values[0]}
        return _interval_columns(column, values[0], bootstrap.interval_r(values))

    columns = r_columns("r", evaluated.model) | r_columns("r_draw_mean", DRAW_MEAN)
    for name in _other_models(evaluated):
        columns |= r_columns(f"r_{name}", name)
    columns |= _interval_columns("r_minus_ridge", difference[0], bootstrap.interval(difference))
    columns |= {"rmse": rmse[evaluated.model]} | {
        f"rmse_{name}": rmse[name] for name in _other_models(evaluated)
    }
    columns |= pathway_intervals.columns(evaluated)
    mean_gene_r = evaluated.comparison.pathway
    columns |= _interval_columns("r_genes", mean_gene_r[0], bootstrap.interval(mean_gene_r))
    frame = evaluated.pathway_names.with_columns(
        *(pl.Series(name, np.asarray(values, dtype=float)) for name, values in columns.items()),
        pl.lit(sum(len(fold.truth) for fold in evaluated.predictions)).alias("n_samples"),
        pl.lit(evaluated.pathway_score).alias("score"),
    )
    return frame.with_columns(pl.selectors.float().fill_nan(None)).sort(
        "r", "pathway", descending=[True, False], nulls_last=True
    )


def pathway_scores(
    evaluated: Evaluated, resampled: Collection[str]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return correlations and errors of every model's pathway scores.

    Parameters
    ----------
    resampled : models to bootstrap; for the others only the value is computed.

    Returns
    -------
    r : by model, (B + 1, P) or (1, P), folds combined by Fisher z; also for the mean of draws.
    rmse : by model, (P,).
    """
    samples_per_fold = np.array([len(fold.truth) for fold in evaluated.predictions])
    boot: dict[str, list[Array]] = {}
    squared: dict[str, list[Array]] = {}
    for index, (predictions, (mean, sd)) in enumerate(
        zip(evaluated.predictions, evaluated.train_moments, strict=True)
    ):
        method = activity.scoring_method(
            evaluated.pathway_score, mean, sd, predictions.eligible, evaluated.pathway_members
        )
        truth = method.score(predictions.truth.T).T
        correlate = bootstrap.PccBootstrap(predictions.counts, truth)
        value = bootstrap.PccBootstrap(predictions.counts[:1], truth)
        for name, prediction in predictions.test.items():
            score = method.score(prediction.T).T
            boot.setdefault(name, []).append((correlate if name in resampled else value)(score))
            squared.setdefault(name, []).append((score - truth) ** 2)
        if evaluated.draw_scores:
            resample = correlate if DRAW_MEAN in resampled else value
            boot.setdefault(DRAW_MEAN, []).append(resample(evaluated.draw_scores[index].score))
    combined = {
        name: gene_metrics.fisher_combine(np.stack(values), samples_per_fold)[0]
        for name, values in boot.items()
    }
    return combined, {name: _root_mean(values) for name, values in squared.items()}


def _interval_columns(column: str, value: Array, ends: tuple[Array, Array]) -> dict[str, Array]:
    return {column: value, f"{column}_low": ends[0], f"{column}_high": ends[1]}


def _other_models(evaluated: Evaluated) -> list[str]:
    return [name for name in evaluated.predictions[0].test if name != evaluated.model]


def _root_mean(squared: list[Array]) -> Array:
    return np.sqrt(np.concatenate(squared).mean(axis=0))


def sample_table(evaluated: Evaluated) -> pl.DataFrame:
    """Return a row per scored sample: its fold, slides, tiles, errors and coverage."""
    cohort, rows = evaluated.cohort, []
    patient = dict(cohort.slides.select("sample_id", "patient_id").iter_rows())
    for index, (fold, predictions) in enumerate(
        zip(evaluated.folds, evaluated.predictions, strict=True)
    ):
        scored = evaluated.draw_scores[index] if evaluated.draw_scores else None
        error = (predictions.test[evaluated.model] - predictions.truth)[:, predictions.eligible]
        for row, sample in enumerate(fold.test.samples):
            slides = np.flatnonzero(fold.test.pool[row])
            rows.append(
                {
                    "sample_id": sample,
                    "patient_id": patient[sample],
                    "fold": fold.number,
                    "site": fold.test.sites[slides[0]],
                    "n_slides": len(slides),
                    "n_tiles": int(cohort.bags.n_tiles[fold.test.bag_rows[slides]].sum()),
                    "rmse": float(np.sqrt((error[row] ** 2).mean())),
                    "crps": scored and float(scored.crps[row, predictions.eligible].mean()),
                    "covered90": scored and _covered90(scored, row),
                }
            )
    return pl.DataFrame(
        rows,
        infer_schema_length=None,
        schema_overrides={"site": pl.String, "crps": pl.Float64, "covered90": pl.Float64},
    ).sort("sample_id", "fold")


def _covered90(scored: DrawScores, row: int) -> float:
    level = int(np.argmin(np.abs(scored.levels - 0.9)))
    return float(scored.covered[level, row, 0])


def example_table(evaluated: Evaluated) -> pl.DataFrame:
    """Return measured and predicted values of the genes that val ranks best, for the figure."""
    rows = []
    for number, (fold, predictions) in enumerate(
        zip(evaluated.folds, evaluated.predictions, strict=True)
    ):
        scored = evaluated.draw_scores[number] if evaluated.draw_scores else None
        for index, gene in enumerate(evaluated.example_genes):
            rows.append(
                pl.DataFrame(
                    {
                        "gene": evaluated.cohort.genes[gene],
                        "rank": index + 1,
                        "sample_id": fold.test.samples,
                        "fold": fold.number,
                        "measured": predictions.truth[:, gene],
                        "point": predictions.test[evaluated.model][:, gene],
                        "low90": scored.example_low[:, index] if scored else None,
                        "high90": scored.example_high[:, index] if scored else None,
                    },
                    schema_overrides={"low90": pl.Float64, "high90": pl.Float64},
                )
            )
    return pl.concat(rows).sort("rank", "sample_id")
