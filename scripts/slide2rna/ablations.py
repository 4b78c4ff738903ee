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
    figures,
    figures_compare,
    io,
    report_extras,
    scoring,
    summary,
    tables,
)
from slide2rna import variants as variants_of
from slide2rna.cli import progress
from slide2rna.config import Settings
from slide2rna.scoring import Evaluated

Array = NDArray[np.floating]

BASE, LEVEL = "base", 0.9
SCORES = ("pcc", "pcc_draw_mean", "pcc_one_draw", "rmse_ratio", "crps")
DIFFERENCES = ("pcc", "pcc_draw_mean", "crps")
SCHEMA: dict[str, type[pl.DataType]] = {"group": pl.String, "variant": pl.String}
SCHEMA |= {name: summary.SCHEMA[name] for name in variants_of.SHARED}


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
        own = variants_of.scores(scores, variant.label, SCORES)
        own += variants_of.differences(scores, found.model, variant.label, DIFFERENCES, BASE)
        if variant.label in found.moments:
            of = found.of[variant.label]
            note = variants_of.guided(of)
            for covered, _ in variants_of.intervals(found, of, [LEVEL]).values():
                own += variants_of.rows(found, "covered90", covered, (0, 1), note)
        rows += [{"group": variant.group, "variant": variant.name} | row for row in own]
    table = pl.DataFrame(rows, schema=SCHEMA)
    io.write_parquet(table, out / "ablations.parquet")
    io.write_parquet(pathways(found, every), out / "pathways.parquet")
    shown = report_extras.ablations(table)
    assert shown is not None
    figures.save(figures_compare.ablations(shown), out, "ablations")


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
