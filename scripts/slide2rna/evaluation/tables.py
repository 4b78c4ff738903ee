"""Tables per pathway and sample."""

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


def pathway_table(found: Evaluated) -> pl.DataFrame:
    """A row per pathway: its score and its genes' mean correlation."""
    resampled = {*found.networks, "ridge", DRAW_MEAN}
    combined, rmse = pathway_scores(found, resampled)
    difference = combined[found.model] - combined["ridge"]
    unknown = np.full(found.names.height, np.nan)

    def r(column: str, name: str) -> dict[str, Array]:
        values = combined.get(name)
        if values is None:
            return {column: unknown, f"{column}_low": unknown, f"{column}_high": unknown}
        if name not in resampled:
            return {column: values[0]}
        return _spread(column, values[0], bootstrap.interval_r(values))

    columns = r("r", found.model) | r("r_draw_mean", DRAW_MEAN)
    for name in _others(found):
        columns |= r(f"r_{name}", name)
    columns |= _spread("r_minus_ridge", difference[0], bootstrap.interval(difference))
    columns |= {"rmse": rmse[found.model]} | {f"rmse_{name}": rmse[name] for name in _others(found)}
    columns |= pathway_intervals.columns(found)
    of_genes = found.comparison.pathway
    columns |= _spread("r_genes", of_genes[0], bootstrap.interval(of_genes))
    frame = found.names.with_columns(
        *(pl.Series(name, np.asarray(values, dtype=float)) for name, values in columns.items()),
        pl.lit(sum(len(fold.truth) for fold in found.inputs)).alias("n_samples"),
        pl.lit(found.pathway_score).alias("score"),
    )
    return frame.with_columns(pl.selectors.float().fill_nan(None)).sort(
        "r", "pathway", descending=[True, False], nulls_last=True
    )


def pathway_scores(
    found: Evaluated, resampled: Collection[str]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Correlations and errors of every model's pathway scores.

    Parameters
    ----------
    resampled : models to bootstrap; of the others the value alone is computed.

    Returns
    -------
    r : by model, (B + 1, P) or (1, P), folds combined by Fisher z; also of the mean of draws.
    rmse : by model, (P,).
    """
    patients_of = np.array([len(fold.truth) for fold in found.inputs])
    boot: dict[str, list[Array]] = {}
    squared: dict[str, list[Array]] = {}
    for index, (given, (mean, sd)) in enumerate(zip(found.inputs, found.train, strict=True)):
        method = activity.scoring_method(
            found.pathway_score, mean, sd, given.eligible, found.members
        )
        truth = method.score(given.truth.T).T
        correlate = bootstrap.PccBootstrap(given.counts, truth)
        value = bootstrap.PccBootstrap(given.counts[:1], truth)
        for name, prediction in given.test.items():
            score = method.score(prediction.T).T
            boot.setdefault(name, []).append((correlate if name in resampled else value)(score))
            squared.setdefault(name, []).append((score - truth) ** 2)
        if found.draws:
            resample = correlate if DRAW_MEAN in resampled else value
            boot.setdefault(DRAW_MEAN, []).append(resample(found.draws[index].score))
    combined = {
        name: gene_metrics.fisher_combine(np.stack(values), patients_of)[0]
        for name, values in boot.items()
    }
    return combined, {name: _root(values) for name, values in squared.items()}


def _spread(column: str, value: Array, ends: tuple[Array, Array]) -> dict[str, Array]:
    return {column: value, f"{column}_low": ends[0], f"{column}_high": ends[1]}


def _others(found: Evaluated) -> list[str]:
    return [name for name in found.inputs[0].test if name != found.model]


def _root(squared: list[Array]) -> Array:
    return np.sqrt(np.concatenate(squared).mean(axis=0))


def sample_table(found: Evaluated) -> pl.DataFrame:
    """A row per scored sample: its fold, slides, tiles, and its own errors and coverage."""
    cohort, rows = found.cohort, []
    patient = dict(cohort.slides.select("sample_id", "patient_id").iter_rows())
    for index, (fold, given) in enumerate(zip(found.folds, found.inputs, strict=True)):
        scored = found.draws[index] if found.draws else None
        error = (given.test[found.model] - given.truth)[:, given.eligible]
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
                    "crps": scored and float(scored.crps[row, given.eligible].mean()),
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


def example_table(found: Evaluated) -> pl.DataFrame:
    """Measured and predicted values of the genes that val ranks best, for the figure."""
    rows = []
    for number, (fold, given) in enumerate(zip(found.folds, found.inputs, strict=True)):
        scored = found.draws[number] if found.draws else None
        for index, gene in enumerate(found.examples):
            rows.append(
                pl.DataFrame(
                    {
                        "gene": found.cohort.genes[gene],
                        "rank": index + 1,
                        "sample_id": fold.test.samples,
                        "fold": fold.number,
                        "measured": given.truth[:, gene],
                        "point": given.test[found.model][:, gene],
                        "low90": scored.example_low[:, index] if scored else None,
                        "high90": scored.example_high[:, index] if scored else None,
                    },
                    schema_overrides={"low90": pl.Float64, "high90": pl.Float64},
                )
            )
    return pl.concat(rows).sort("rank", "sample_id")
