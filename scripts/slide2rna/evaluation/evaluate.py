"""Tables of an evaluation: val ranks genes, test is scored once, intervals are over patients.

The summary also holds the scores of the published protocol, marked as such.

Every table gives the number of patients behind a value, an interval over patients where one
exists, and the caveat of the cohort if it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slide2rna.core.errors import StageError
from slide2rna.core.rows import SEARCH_STEPS
from slide2rna.core.settings import EvaluateSettings
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
from slide2rna.storage import parquet

PROTOCOL = "clean"
SEARCH_SCHEMA = pl.Schema({"model": pl.String, "fold": pl.Int64} | SEARCH_STEPS)


def evaluate(
    inputs: EvaluationInputs,
    run: str,
    out: str | Path,
    settings: EvaluateSettings,
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
    evaluated = score.score_run(inputs, settings, seed, threads)
    cohort = evaluated.cohort
    by = settings["conformal"]["by"]
    calibrated_folds = list(conformal.calibrate_all(evaluated, by))
    outputs = {
        "summary": summary_table(evaluated),
        "genes": gene_table(evaluated),
        "calibration": calibration.table(evaluated),
        "conformal": conformal_table.table(evaluated, calibrated_folds, by),
        "conformal_factors": conformal.factor_table(evaluated, calibrated_folds),
        "coexpression": coexpression_table.table(evaluated, threads),
        "pathways": tables.pathway_table(evaluated),
        "pathway_intervals": pathway_intervals.example_table(evaluated),
        "samples": tables.sample_table(evaluated),
        "examples": tables.example_table(evaluated),
        "search": search_table(searches, cohort.bags.encoder, inputs.pathways.stem),
    }
    for name, table in outputs.items():
        stamp = {"cohort": cohort.info["name"], "run": run, "protocol": PROTOCOL}
        parquet.write_stamped(
            table, Path(out) / f"{name}.parquet", stamp, cohort.info.get("caveat")
        )


def search_table(paths: Sequence[Path], encoder: str, pathways: str) -> pl.DataFrame:
    """Combine the searches of all models; training wrote one per model and fold.

    `step` is the part that was searched: start, head and target (fitted before a flow), or network.

    Parameters
    ----------
    paths : models/<run>/fold-<k>/search.parquet.
    encoder, pathways : prefix and suffix of the names of the runs.
    """
    frames = [pl.DataFrame(schema=SEARCH_SCHEMA)]
    for path in paths:
        fold, run = path.parent, path.parent.parent.name
        label = run.removeprefix(f"{encoder}-").removesuffix(f"-{pathways}")
        keys = {"model": label, "fold": int(fold.name.removeprefix("fold-"))}
        table = parquet.read(path).with_columns(
            pl.lit(value, dtype=SEARCH_SCHEMA[key]).alias(key) for key, value in keys.items()
        )
        missing = [name for name in SEARCH_SCHEMA if name not in table.columns]
        if missing:
            raise StageError(path, f"no column {missing[0]}", "retrain this model")
        frames.append(table.select(list(SEARCH_SCHEMA)).cast(SEARCH_SCHEMA))
    return pl.concat(frames).sort("model", "fold", "configuration", maintain_order=True)
