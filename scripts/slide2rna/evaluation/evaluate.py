"""The tables of an evaluation: val ranks the genes, test is scored once, patients are the unit.

The published protocol stands beside it in the summary, marked as such.

Every table says how many patients stand behind a number, carries an interval over patients
where there is one, and the caveat of the cohort where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slide2rna.core import files
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.evaluation import tables
from slide2rna.evaluation.gene_table import gene_table
from slide2rna.evaluation.scoring import score
from slide2rna.evaluation.scoring.evaluated import EvaluationInputs
from slide2rna.evaluation.scoring.summary import summary_table
from slide2rna.evaluation.uncertainty import (
    calibration,
    coexpression_table,
    conformal,
    conformal_table,
    pathway_intervals,
)

PROTOCOL = "clean"
SEARCH_SCHEMA = pl.Schema(
    {
        "model": pl.String,
        "fold": pl.Int64,
        "configuration": pl.Int64,
        "settings": pl.String,
        "epochs": pl.Int64,
        "best_epoch": pl.Int64,
        "val_loss": pl.Float64,
        "seconds": pl.Float64,
        "chosen": pl.Boolean,
    }
)


def evaluate(
    inputs: EvaluationInputs,
    run: str,
    out: str | Path,
    settings: Settings,
    seed: int,
    threads: int,
    searches: Sequence[Path] = (),
) -> None:
    """Write summary, genes, calibration, pathways, samples, examples and search as Parquet.

    Raises
    ------
    StageError
        The inputs don't belong together.
    """
    found = score.score_run(inputs, settings, seed, threads)
    cohort = found.cohort
    by = settings["conformal"]["by"]
    calibrated = list(conformal.calibrate_all(found, by))
    made = {
        "summary": summary_table(found),
        "genes": gene_table(found),
        "calibration": calibration.table(found),
        "conformal": conformal_table.table(found, calibrated, by),
        "conformal_factors": conformal.factor_table(found, calibrated),
        "coexpression": coexpression_table.table(found, threads),
        "pathways": tables.pathway_table(found),
        "pathway_intervals": pathway_intervals.example_table(found),
        "samples": tables.sample_table(found),
        "examples": tables.example_table(found),
        "search": search_table(searches, cohort.bags.encoder, inputs.pathways.stem),
    }
    for name, table in made.items():
        stamp = {"cohort": cohort.info["name"], "run": run, "protocol": PROTOCOL}
        files.write_stamped(table, Path(out) / f"{name}.parquet", stamp, cohort.info.get("caveat"))


def search_table(paths: Sequence[Path], encoder: str, pathways: str) -> pl.DataFrame:
    """What each model's search tried: the tables that training left, a model and fold each.

    Parameters
    ----------
    paths : models/<run>/fold-<k>/search.parquet.
    encoder, pathways : what the names of the runs begin and end with.
    """
    found = [pl.DataFrame(schema=SEARCH_SCHEMA)]
    for path in paths:
        fold, run = path.parent, path.parent.parent.name
        label = run.removeprefix(f"{encoder}-").removesuffix(f"-{pathways}")
        keys = {"model": label, "fold": int(fold.name.removeprefix("fold-"))}
        table = pl.read_parquet(path).with_columns(
            pl.lit(value, dtype=SEARCH_SCHEMA[key]).alias(key) for key, value in keys.items()
        )
        missing = [name for name in SEARCH_SCHEMA if name not in table.columns]
        if missing:
            raise StageError(path, f"no column {missing[0]}", "train this model anew")
        found.append(table.select(list(SEARCH_SCHEMA)).cast(SEARCH_SCHEMA))
    return pl.concat(found).sort("model", "fold", "configuration")
