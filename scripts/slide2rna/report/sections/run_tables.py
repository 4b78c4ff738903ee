"""Run tables: the inputs of a report, read from the folder of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.core.rows import FailedSlide
from slide2rna.evaluation.scoring import labels
from slide2rna.features import bag_file
from slide2rna.slides import failures
from slide2rna.storage import parquet, split_file

NEEDED = (
    *("summary", "genes", "calibration", "pathways", "samples", "examples"),
    *("conformal", "coexpression", "pathway_intervals"),
)


@dataclass(frozen=True)
class RunTables:
    """Tables and facts that a report shows.

    Attributes
    ----------
    tables : tables of the evaluation, by name.
    extra : tables of optional stages (search, ablations, shift ...); None if missing.
    leak_picture : figure of the leak audit; None if missing.
    settings : the cohort's settings from the configuration; None if missing.
    failed : slides that failed, with stage and reason.
    """

    folder: Path
    name: str
    encoder: str
    pathway_set: str
    cohort: dict[str, Any]
    slides: pl.DataFrame
    splits: pl.DataFrame
    tables: dict[str, pl.DataFrame]
    extra: dict[str, pl.DataFrame | None]
    leak_picture: Path | None
    models: dict[int, dict[str, Any]]
    logs: dict[int, pl.DataFrame]
    pathways: dict[str, Any]
    bags: bag_file.Bags
    settings: dict[str, Any] | None = None
    failed: Sequence[FailedSlide] = ()

    @property
    def summary(self) -> pl.DataFrame:
        """Rows of the clean protocol."""
        return labels.clean_rows(self.tables["summary"])

    @property
    def model(self) -> str:
        return str(self.summary["model"][0])

    @property
    def gene_sets(self) -> list[str]:
        return labels.gene_sets(self.summary)


def load(
    folder: str | Path,
    run: str,
    encoder: str,
    pathway_set: str,
    extras: Sequence[str] = (),
    folds: int | None = None,
    settings: dict[str, Any] | None = None,
    shards: int | None = None,
    truth: Path | None = None,
) -> RunTables:
    """Read a finished run.

    The folder may hold files of an earlier configuration, so extra tables, folds and shards are
    read only if they are named.

    Parameters
    ----------
    extras
        Keys of `STAGES`: stages whose tables the report shows too.
    folds
        Number of folds; None for all in the folder.
    settings
        Settings of the cohort, shown as they were run.
    shards
        Number of shards; None for all in the folder.
    truth
        Table of a simulated cohort's genes with their attainable correlation, if it has one.

    Raises
    ------
    StageError
        A table of the evaluation or of the extras is missing, or more slides failed than
        `settings` allow.
    """
    folder = Path(folder)
    failed = failures.failed_slides(folder, encoder, shards)
    if settings is not None and "max_failed_slides" in settings:
        slides, reasons = ([row[key] for row in failed] for key in ("slide", "reason"))
        failures.check_failures(folder, slides, reasons, settings["max_failed_slides"])
    evaluated = folder / "evaluation" / run
    tables = {name: read_needed(evaluated / f"{name}.parquet", "evaluate") for name in NEEDED}
    extra = load_extras(folder, run, extras) | load_shift(folder, run, folds)
    extra["truth"] = None if truth is None else read_needed(truth, "generate")
    models, logs = {}, {}
    for path in sorted((folder / "models" / run).glob("fold-*/model.json")):
        fold = int(path.parent.name.removeprefix("fold-"))
        if folds is not None and fold >= folds:
            continue
        models[fold] = files.read_json(path)
        if (path.parent / "log.parquet").is_file():
            logs[fold] = parquet.read(path.parent / "log.parquet")
    picture = folder / "leak_audit" / "leak_audit.png"
    return RunTables(
        folder=folder,
        name=run,
        encoder=encoder,
        pathway_set=pathway_set,
        cohort=files.read_json(folder / "cohort.json"),
        slides=parquet.read(folder / "slides.parquet"),
        splits=split_file.read(folder / "splits.tsv"),
        tables=tables,
        extra=extra,
        leak_picture=picture if extra["leak"] is not None and picture.is_file() else None,
        models=models,
        logs=logs,
        pathways=files.read_json(folder / "pathways" / f"{pathway_set}.json"),
        bags=bag_file.load(folder / "bags" / f"{encoder}.safetensors"),
        settings=settings,
        failed=failed,
    )


def load_shift(folder: Path, run: str, folds: int | None) -> dict[str, pl.DataFrame | None]:
    """Read the tables shift and abstention of a run; None if that stage didn't run."""
    run_folder = folder / "shift" / run
    numbered = [run_folder / f"fold-{fold}.parquet" for fold in range(folds or 0)]
    paths = numbered if folds is not None else sorted(run_folder.glob("fold-*.parquet"))
    complete = bool(paths) and all(path.is_file() for path in paths)
    curve = run_folder / "abstention.parquet"
    return {
        "shift": pl.concat([parquet.read(path) for path in paths]) if complete else None,
        "abstention": parquet.read(curve) if curve.is_file() else None,
    }


# Tables of optional stages, by stage.
STAGES = {
    "ablations": {
        "ablations": "ablations/{run}/ablations.parquet",
        "aspects": "ablations/{run}/pathways.parquet",
    },
    "samplers": {"samplers": "samplers/{run}/samplers.parquet"},
    "leak_audit": {"leak": "leak_audit/audit.parquet"},
    "stain": {
        "stain": "stain/{run}/stain.parquet",
        "stain_genes": "stain/{run}/genes.parquet",
    },
}


def load_extras(folder: Path, run: str, stages: Sequence[str]) -> dict[str, pl.DataFrame | None]:
    """Read search, and the tables of `STAGES`; tables of stages that aren't named are None.

    Raises
    ------
    StageError
        A table of a named stage is missing.
    """
    search = folder / "evaluation" / run / "search.parquet"
    extra = {"search": parquet.read(search) if search.is_file() else None}
    for stage, tables in STAGES.items():
        for name, path in tables.items():
            named = stage in stages
            extra[name] = read_needed(folder / path.format(run=run), stage) if named else None
    return extra


def read_needed(path: Path, stage: str) -> pl.DataFrame:
    """Read a table that must exist.

    Raises
    ------
    StageError
        The table is missing.
    """
    if not path.is_file():
        raise StageError(path, "missing", f"run the stage {stage} first")
    return parquet.read(path)
