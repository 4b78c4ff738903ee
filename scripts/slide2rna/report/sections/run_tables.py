"""One self-contained HTML page about a run, and its figures as PNG and SVG.

The modules report_* make its rows, report_figures its pictures and charts, page its HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.evaluation.scoring import labels
from slide2rna.features import bag_file
from slide2rna.slides import failures

NEEDED = (
    *("summary", "genes", "calibration", "pathways", "samples", "examples"),
    *("conformal", "coexpression", "pathway_intervals"),
)


@dataclass(frozen=True)
class RunTables:
    """The tables that a report is made from.

    Attributes
    ----------
    tables : the evaluation's, by name.
    extra : those that only some runs have (search, ablations, shift ...); None where missing.
    leak_picture : the leak audit's figure, if there is one.
    settings : the cohort's, as the configuration gave them; None where they weren't told.
    failed : slides that a stage gave up: slide, stage, reason.
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
    failed: Sequence[dict[str, str]] = ()

    @property
    def summary(self) -> pl.DataFrame:
        """Rows of the clean protocol."""
        return labels.clean(self.tables["summary"])

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
) -> RunTables:
    """Read a finished run.

    What an earlier configuration left in the folder isn't part of the run, so further tables,
    folds and shards are read only where they are named.

    Parameters
    ----------
    extras
        Of `report_extras.STAGES`: tables that other stages made beside the run.
    folds
        Number of folds; None for all that there are.
    settings
        Of the cohort, to be shown as they were run.
    shards
        Number of shards; None for all that there are.

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
    tables = {name: needed(evaluated / f"{name}.parquet", "evaluate") for name in NEEDED}
    extra = load_extras(folder, run, extras) | load_shift(folder, run, folds)
    models, logs = {}, {}
    for path in sorted((folder / "models" / run).glob("fold-*/model.json")):
        fold = int(path.parent.name.removeprefix("fold-"))
        if folds is not None and fold >= folds:
            continue
        models[fold] = files.read_json(path)
        if (path.parent / "log.parquet").is_file():
            logs[fold] = pl.read_parquet(path.parent / "log.parquet")
    picture = folder / "leak_audit" / "leak_audit.png"
    return RunTables(
        folder=folder,
        name=run,
        encoder=encoder,
        pathway_set=pathway_set,
        cohort=files.read_json(folder / "cohort.json"),
        slides=pl.read_parquet(folder / "slides.parquet"),
        splits=pl.read_csv(
            folder / "splits.tsv", separator="\t", schema_overrides={"unit": pl.String}
        ),
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
    """Tables shift and abstention of a run; None where that stage didn't run."""
    of_run = folder / "shift" / run
    wanted = [of_run / f"fold-{fold}.parquet" for fold in range(folds or 0)]
    paths = wanted if folds is not None else sorted(of_run.glob("fold-*.parquet"))
    there = bool(paths) and all(path.is_file() for path in paths)
    curve = of_run / "abstention.parquet"
    return {
        "shift": pl.concat([pl.read_parquet(path) for path in paths]) if there else None,
        "abstention": pl.read_parquet(curve) if curve.is_file() else None,
    }


# Tables by the stage that makes them, which not every run has.
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
    """Search, and the tables of `STAGES`: None for those of a stage that isn't named.

    Raises
    ------
    StageError
        A table of a named stage is missing.
    """
    search = folder / "evaluation" / run / "search.parquet"
    found = {"search": pl.read_parquet(search) if search.is_file() else None}
    for stage, tables in STAGES.items():
        for name, path in tables.items():
            told = stage in stages
            found[name] = needed(folder / path.format(run=run), stage) if told else None
    return found


def needed(path: Path, stage: str) -> pl.DataFrame:
    """A table that must be there.

    Raises
    ------
    StageError
        It isn't.
    """
    if not path.is_file():
        raise StageError(path, "missing", f"run the stage {stage} first")
    return pl.read_parquet(path)
