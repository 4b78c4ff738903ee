"""The table of ablations: variants of a run on its folds, each against the run itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna.core import files
from slide2rna.core.config import Settings
from slide2rna.core.log import progress
from slide2rna.evaluation import tables
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.evaluation.scoring import evaluated, score, summary, variant_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated

BASE, LEVEL = "base", 0.9
SCORES = ("pcc", "pcc_draw_mean", "pcc_one_draw", "rmse_ratio", "crps")
DIFFERENCES = ("pcc", "pcc_draw_mean", "crps")
SCHEMA: dict[str, type[pl.DataType]] = {"group": pl.String, "variant": pl.String}
SCHEMA |= {name: summary.SCHEMA[name] for name in variant_scores.SHARED}


@dataclass(frozen=True)
class Ablation:
    """A run beside the base; `label` is its name in the draws files."""

    label: str
    name: str
    group: str


def write_ablations(
    inputs: evaluated.EvaluationInputs,
    variants: list[Ablation],
    out: Path,
    settings: Settings,
    seed: int,
    threads: int,
) -> pl.DataFrame:
    """Score the variants (`inputs.others`) beside the base and write two tables.

    Leaves ablations.parquet, which it returns, and pathways.parquet.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    found = score.score_run(inputs, settings, seed, threads)
    every = [Ablation(found.model, BASE, BASE), *variants]
    scores = summary.summary_table(found).filter(pl.col("protocol") == "clean")
    rows: list[dict[str, Any]] = []
    for variant in progress(every, "ablations"):
        own = variant_scores.scores(scores, variant.label, SCORES)
        own += variant_scores.differences(scores, found.model, variant.label, DIFFERENCES, BASE)
        if variant.label in found.moments:
            of = found.of[variant.label]
            note = variant_scores.guided(of)
            for covered, _ in variant_scores.intervals(found, of, [LEVEL]).values():
                own += variant_scores.rows(found, "covered90", covered, (0, 1), note)
        rows += [{"group": variant.group, "variant": variant.name} | row for row in own]
    table = pl.DataFrame(rows, schema=SCHEMA)
    files.write_parquet(table, out / "ablations.parquet")
    files.write_parquet(pathways(found, every), out / "pathways.parquet")
    return table


def pathways(found: Evaluated, every: list[Ablation]) -> pl.DataFrame:
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
