"""The table of ablations: variants of a run on its folds, each against the run itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna import (
    bootstrap,
    compare,
    figures,
    figures_compare,
    folds,
    io,
    metrics,
    report_extras,
    scoring,
    summary,
    tables,
)
from slide2rna.cli import progress
from slide2rna.config import Settings
from slide2rna.scoring import Evaluated

Array = NDArray[np.floating]

BASE, LEVEL = "base", 0.9
SCORES = ("pcc", "pcc_draw_mean", "pcc_one_draw", "rmse_ratio", "crps")
DIFFERENCES = ("pcc", "pcc_draw_mean", "crps")
SHARED = ("gene_set", "metric", "value", "low", "high", "n_patients", "n_genes", "note")
SCHEMA: dict[str, type[pl.DataType]] = {"group": pl.String, "variant": pl.String}
SCHEMA |= {name: summary.SCHEMA[name] for name in SHARED}


@dataclass(frozen=True)
class Variant:
    """A run beside the base; `label` is its name in the draws files."""

    label: str
    name: str
    group: str


def write(
    inputs: scoring.Inputs,
    variants: list[Variant],
    out: Path,
    settings: Settings,
    seed: int,
    threads: int,
) -> None:
    """Score the variants (`inputs.others`) beside the base and write tables and a figure.

    Leaves ablations.parquet, pathways.parquet, ablations.png and ablations.svg.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    found = scoring.score(inputs, settings, seed, threads)
    every = [Variant(found.model, BASE, BASE), *variants]
    scores = summary.summary_table(found).filter(pl.col("protocol") == "clean")
    rows: list[dict[str, Any]] = []
    for variant in progress(every, "ablations"):
        rows += _scores(scores, variant) + _differences(scores, found.model, variant)
        if variant.label in found.moments:
            rows += _coverage(found, found.of[variant.label], variant)
    table = pl.DataFrame(rows, schema=SCHEMA)
    io.write_parquet(table, out / "ablations.parquet")
    io.write_parquet(pathways(found, every), out / "pathways.parquet")
    shown = report_extras.ablations(table)
    assert shown is not None
    figures.save(figures_compare.ablations(shown), out, "ablations")


def _scores(scores: pl.DataFrame, variant: Variant) -> list[dict[str, Any]]:
    """A variant's own scores, each on the genes that its own val ranks."""
    own = scores.filter((pl.col("model") == variant.label) & pl.col("metric").is_in(SCORES))
    return [_row(variant, row) for row in own.iter_rows(named=True)]


def _differences(scores: pl.DataFrame, base: str, variant: Variant) -> list[dict[str, Any]]:
    """Variant minus base on the base's genes, from the base's paired differences."""
    rows = []
    for metric in DIFFERENCES:
        paired = scores.filter(
            (pl.col("model") == base) & (pl.col("metric") == f"{metric}_minus:{variant.label}")
        )
        for row in paired.iter_rows(named=True):
            turned = {"value": _minus(row["value"]), "metric": f"{metric}_minus:{BASE}"}
            turned |= {"low": _minus(row["high"]), "high": _minus(row["low"])}
            rows.append(_row(variant, row | turned))
    return rows


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _row(variant: Variant, row: dict[str, Any]) -> dict[str, Any]:
    return {"group": variant.group, "variant": variant.name} | {key: row[key] for key in SHARED}


def _coverage(found: Evaluated, of: list[folds.Fold], variant: Variant) -> list[dict[str, Any]]:
    """Share of the measured values inside the draws' 90 % intervals, on the base's gene sets."""
    per_fold = []
    for fold, given in zip(of, found.inputs, strict=True):
        weights = compare.set_weights(given.sets[found.model], np.ones_like(given.eligible))
        inside = np.empty((len(given.truth), weights.shape[1]))
        for row, raw in fold.test_draws():
            ordered = np.sort(raw.reshape(-1, raw.shape[-1]).astype(np.float32), axis=0).T
            if not metrics.attainable(LEVEL, ordered.shape[1]):
                return []
            low, high = metrics.central_interval(ordered, LEVEL)
            truth = given.truth[row]
            inside[row] = ((low <= truth) & (truth <= high)).astype(np.float32) @ weights
        per_fold.append(given.counts @ inside / len(inside))
    share = np.average(per_fold, axis=0, weights=[len(given.truth) for given in found.inputs])
    low, high = bootstrap.interval(share)
    guided = {float(str(fold.store.attrs["guidance"])) for fold in of} - {1.0}
    note = f"guided: {summary.UNCLAIMED}" if guided else ""
    patients = sum(given.patients for given in found.inputs)
    counts = [given.sets[found.model].sum(axis=0) for given in found.inputs]
    return [
        {
            "group": variant.group,
            "variant": variant.name,
            "gene_set": gene_set,
            "metric": "covered90",
            "value": float(share[0, column]),
            "low": float(max(low[column], 0)),
            "high": float(min(high[column], 1)),
            "n_patients": patients,
            "n_genes": round(float(np.mean([count[column] for count in counts]))),
            "note": note,
        }
        for column, gene_set in enumerate(found.set_names)
    ]


def pathways(found: Evaluated, every: list[Variant]) -> pl.DataFrame:
    """Every variant's pathway scores on the base's gene sets, whatever sets its tokens are."""
    r, rmse = tables.pathway_scores(found, {variant.label for variant in every})
    parts = []
    for variant in every:
        low, high = bootstrap.interval_r(r[variant.label])
        values = {"r": r[variant.label][0], "r_low": low, "r_high": high}
        values["rmse"] = rmse[variant.label]
        parts.append(
            found.names.select("pathway", "name").with_columns(
                pl.lit(variant.name).alias("variant"),
                *(pl.Series(key, np.asarray(value, float)) for key, value in values.items()),
                pl.lit(sum(len(fold.truth) for fold in found.inputs)).alias("n_samples"),
            )
        )
    return pl.concat(parts).with_columns(pl.selectors.float().fill_nan(None))
