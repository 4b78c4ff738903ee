"""Ablation study: variants of a run on its folds, each compared with the run itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core.log import progress
from slide2rna.core.settings import EvaluateSettings
from slide2rna.core.types import Row
from slide2rna.evaluation import tables
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.evaluation.scoring import score, summary, variant_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated, EvaluationInputs
from slide2rna.storage import parquet

BASE, LEVEL = "base", 0.9
SCORES = ("pcc", "pcc_draw_mean", "pcc_one_draw", "rmse_ratio", "crps")
DIFFERENCES = ("pcc", "pcc_draw_mean", "crps")
SCHEMA: dict[str, type[pl.DataType]] = {"group": pl.String, "variant": pl.String}
SCHEMA |= {name: summary.SCHEMA[name] for name in variant_scores.SHARED}


@dataclass(frozen=True)
class Ablation:
    """A variant of the base run; `label` is its name in the draws files."""

    label: str
    name: str
    group: str


def write_ablations(
    inputs: EvaluationInputs,
    variants: list[Ablation],
    out: Path,
    settings: EvaluateSettings,
    seed: int,
    threads: int,
) -> pl.DataFrame:
    """Score the variants (`inputs.others`) and the base, and write two tables.

    Writes ablations.parquet, which it returns, and pathways.parquet.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    evaluated = score.score_run(inputs, settings, seed, threads)
    base_and_variants = [Ablation(evaluated.model, BASE, BASE), *variants]
    scores = summary.summary_table(evaluated).filter(pl.col("protocol") == "clean")
    rows: list[Row] = []
    for variant in progress(base_and_variants, "ablations"):
        variant_rows = variant_scores.variant_rows(scores, variant.label, SCORES)
        variant_rows += variant_scores.difference_rows(
            scores, evaluated.model, variant.label, DIFFERENCES, BASE
        )
        if variant.label in evaluated.draw_moments:
            variant_folds = evaluated.folds_by_model[variant.label]
            note = variant_scores.guidance_note(variant_folds)
            coverage = variant_scores.interval_means(evaluated, variant_folds, [LEVEL])
            for covered, _ in coverage.values():
                variant_rows += variant_scores.interval_rows(
                    evaluated, "covered90", covered, (0, 1), note
                )
        rows += [{"group": variant.group, "variant": variant.name} | row for row in variant_rows]
    table = pl.DataFrame(rows, schema=SCHEMA)
    parquet.write(table, out / "ablations.parquet")
    parquet.write(pathway_scores(evaluated, base_and_variants), out / "pathways.parquet")
    return table


def pathway_scores(evaluated: Evaluated, variants: list[Ablation]) -> pl.DataFrame:
    """Return each variant's pathway scores on the base's gene sets, even if its tokens differ."""
    r, rmse = tables.pathway_scores(evaluated, {variant.label for variant in variants})
    parts = []
    for variant in variants:
        low, high = bootstrap.interval_r(r[variant.label])
        values = {"r": r[variant.label][0], "r_low": low, "r_high": high}
        values["rmse"] = rmse[variant.label]
        parts.append(
            evaluated.pathway_names.select("pathway", "name").with_columns(
                pl.lit(variant.name).alias("variant"),
                *(pl.Series(key, np.asarray(value, float)) for key, value in values.items()),
                pl.lit(sum(len(fold.truth) for fold in evaluated.predictions)).alias("n_samples"),
            )
        )
    return pl.concat(parts).with_columns(pl.selectors.float().fill_nan(None))
