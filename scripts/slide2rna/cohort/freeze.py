"""Cohort freeze (stage 1): slides, expression, folds, and a record of dropped slides.

All inputs are read and checked before the first file is written, and cohort.json is written last,
so a folder with a cohort.json is complete. The same inputs and seed give the same bytes. The
workflow makes the folds in a separate job, because new folds need no new slides.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slide2rna.cohort import published_splits, splits
from slide2rna.cohort.expression import read_expression
from slide2rna.cohort.gdc_cohort import CohortAudit, gene_list, read_or_freeze
from slide2rna.cohort.her2st import CAVEAT as HER2ST_CAVEAT
from slide2rna.cohort.her2st import read_her2st
from slide2rna.cohort.sheet import read_sheet
from slide2rna.cohort.star_counts import gene_ids
from slide2rna.core import output_folder
from slide2rna.core.config import Settings
from slide2rna.core.errors import SheetError
from slide2rna.core.files import write_json
from slide2rna.core.log import log
from slide2rna.core.settings import FoldsSettings
from slide2rna.core.types import Row
from slide2rna.pathways import gene_names
from slide2rna.storage import parquet, split_file

SCHEMA = {
    "slide_id": pl.String,
    "patient_id": pl.String,
    "sample_id": pl.String,
    "unit": pl.String,
    "site": pl.String,
    "path": pl.String,
    "url": pl.String,
    "md5": pl.String,
    "size": pl.Int64,
    "mpp": pl.Float64,
    "area": pl.String,
    "split": pl.String,
}
CAVEAT = "split by section, not by patient: no claim about patients"


def freeze_cohort(
    name: str,
    source: Settings,
    folds: FoldsSettings,
    seed: int,
    out: str | Path,
    needs_slides: bool = False,
    with_folds: bool = True,
) -> None:
    """Write slides, expression and gene_names.parquet, splits.tsv and cohort.json into `out`.

    Parameters
    ----------
    name
        The cohort's name.
    source
        The cohort's block of the configuration. `gdc` first freezes its manifest; `demo`, `law`
        and `law2` read the sample sheet that their generator wrote to `out`/source.
    folds
        Section `folds`.
    seed
        The run's seed.
    out
        results/<cohort>.
    needs_slides
        Reject sheet rows without a slide, because features are computed from slides.
    with_folds
        False leaves splits.tsv to `split_cohort`. Folds and seed then matter for published splits.

    Raises
    ------
    SheetError, ConfigError, DownloadError
        One line that names file, row or key, and the remedy; no table is written then.
    """
    out = Path(out)
    unit_kind = source.get("split_unit", "patient")
    audit: CohortAudit
    star: Path | None = None
    if source["source"] == "gdc":
        slides, expression, audit = read_or_freeze(name, source, out)
        star = out / "star"
        origin: str | Path = source["project"]
        section_caveat = CAVEAT
    elif source["source"] == "her2st":
        slides, expression, dropped, flow = _read_her2st_cohort(source, out)
        audit = {"flow": flow, "dropped": dropped}
        one_patient = slides["patient_id"].n_unique() == 1
        section_caveat = HER2ST_CAVEAT if one_patient else CAVEAT
        origin = source["path"]
    else:
        if source["source"] in ("demo", "law", "law2"):
            generated = {"sheet": str(out / "source" / "sheet.tsv")}
            source = source | generated | {"expression": str(out / "source" / "expression.parquet")}
        slides, expression, flow = _read_sheet_cohort(source, out, needs_slides)
        audit = {"flow": flow, "dropped": []}
        origin, section_caveat = source["sheet"], CAVEAT
        star = path if (path := Path(source["expression"])).is_dir() else None
    caveat = None if unit_kind == "patient" else section_caveat
    slides = _add_units(origin, slides, unit_kind)
    if source.get("splits") == published_splits.NAME:
        slides = _keep_published_slides(origin, slides, source, folds, seed, audit)
        expression = expression.filter(pl.col("sample_id").is_in(slides["sample_id"].implode()))
    slides = slides.select(
        pl.col(column).cast(kind) if column in slides.columns else pl.lit(None, kind).alias(column)
        for column, kind in SCHEMA.items()
    ).sort("slide_id")
    ids = gene_ids(star) if star else {}
    names = gene_names.name_table(expression.columns[1:], ids)
    summary = {
        "name": name,
        "source": source["source"],
        "split_unit": unit_kind,
        "caveat": caveat,
        "n_slides": slides.height,
        "n_patients": slides["patient_id"].n_unique(),
        "n_samples": expression.height,
        "n_genes": expression.width - 1,
        "n_sites": slides["site"].drop_nulls().n_unique(),
        "gene_names": gene_names.name_facts(origin, names),
    }
    table = _make_folds(origin, slides, source, folds, seed) if with_folds else None
    _write_cohort(out, slides, expression, names, table, {**summary, **audit})


def split_cohort(
    slides: str | Path,
    origin: str | Path,
    source: Settings,
    folds: FoldsSettings,
    seed: int,
    out: str | Path,
) -> None:
    """Write the folds of a frozen cohort, as `freeze_cohort` does.

    Parameters
    ----------
    slides
        slides.parquet of the cohort.
    origin
        Source of the slides' split column, for error messages.
    source
        The keys splits and published_splits of a cohort's block.
    folds, seed
        As in `freeze_cohort`.
    out
        splits.tsv: unit, fold, part.

    Raises
    ------
    As `freeze_cohort`, for splits and folds.
    """
    table = _make_folds(origin, parquet.read(slides), source, folds, seed)
    split_file.write(table, out)
    log.info("%d folds of %d units", table["fold"].n_unique(), table["unit"].n_unique())


def _write_cohort(
    out: Path,
    slides: pl.DataFrame,
    expression: pl.DataFrame,
    names: pl.DataFrame,
    folds: pl.DataFrame | None,
    summary: Row,
) -> None:
    """Write the cohort's tables, then cohort.json."""
    with output_folder.alone(out, "cohort"):
        # If this job is killed, an old cohort.json must not make new tables look complete.
        (out / "cohort.json").unlink(missing_ok=True)
        parquet.write(slides, out / "slides.parquet")
        parquet.write(expression, out / "expression.parquet")
        parquet.write(names, out / "gene_names.parquet")
        if folds is not None:
            split_file.write(folds, out / "splits.tsv")
        write_json(summary, out / "cohort.json")
    log.info(
        "cohort %s: %d slides of %d patients, %d genes%s",
        *(summary[key] for key in ("name", "n_slides", "n_patients", "n_genes")),
        "" if folds is None else f", {folds['fold'].n_unique()} folds",
    )


def _flow_step(step: str, slides: pl.DataFrame) -> Row:
    """Return a step of the cohort's flow: how many slides and patients are left."""
    return {"step": step, "slides": slides.height, "patients": slides["patient_id"].n_unique()}


def _read_sheet_cohort(
    source: Settings, out: Path, needs_slides: bool
) -> tuple[pl.DataFrame, pl.DataFrame, list[Row]]:
    """Read the sample sheet and its expression; return them with the flow."""
    slides = read_sheet(source["sheet"], needs_slides)
    expression = read_expression(
        source["expression"],
        unit=source.get("expression_unit", "log2"),
        column=source.get("expression_column", "fpkm_uq_unstranded"),
        genes=gene_list(source, out),
        samples=slides["sample_id"].unique().to_list(),
        gene_types=source.get("gene_types"),
    )
    return (
        slides,
        expression,
        [_flow_step("in the sheet", slides), _flow_step("with expression", slides)],
    )


def _read_her2st_cohort(
    source: Settings, out: Path
) -> tuple[pl.DataFrame, pl.DataFrame, list[Row], list[Row]]:
    """Read slides, expression, dropped rows and flow of the her2st cohort."""
    slides, expression, dropped = read_her2st(source["path"])
    genes = gene_list(source, out)
    if genes is not None:
        missing = [gene for gene in genes if gene not in expression.columns]
        if missing:
            cause = f"{len(missing)} listed genes are not in the cohort, first {missing[0]}"
            raise SheetError(source["genes"], cause, "fix the gene list")
        expression = expression.select("sample_id", *genes)
    return slides, expression, dropped, [_flow_step("regions with counts", slides)]


def _add_units(origin: object, slides: pl.DataFrame, unit_kind: str) -> pl.DataFrame:
    """Add `unit`: the patient, or the section (her2st's, otherwise the slide's file or id)."""
    if unit_kind == "patient":
        return slides.with_columns(pl.col("patient_id").alias("unit"))
    if "section" in slides.columns:
        return slides.with_columns(pl.col("section").alias("unit"))
    file = pl.coalesce("path", "slide_id")
    slides = slides.with_columns(pl.col("slide_id").sort().first().over(file).alias("unit"))
    sections = slides.group_by("sample_id").agg(pl.col("unit").unique().sort())
    sections = sections.filter(pl.col("unit").list.len() > 1).sort("sample_id")
    if sections.height:
        cause = f"sample {sections['sample_id'][0]} is measured on several sections"
        remedy = "give each section its own sample_id, or use split_unit: patient"
        raise SheetError(origin, cause, remedy)
    return slides


def _make_folds(
    origin: str | Path, slides: pl.DataFrame, source: Settings, folds: FoldsSettings, seed: int
) -> pl.DataFrame:
    """Take the folds from a split file or the sheet's split column, or draw them."""
    units, has_column = _split_units(origin, slides, source)
    if source.get("splits") == published_splits.NAME:
        return published_splits.read_published_split(
            source["published_splits"], units, folds, seed
        )[0]
    if source.get("splits"):
        return splits.from_file(source["splits"], units, folds, seed)
    if has_column:
        return splits.from_column(origin, units, folds, seed)
    return splits.draw(units, folds, seed)


def _keep_published_slides(
    origin: str | Path,
    slides: pl.DataFrame,
    source: Settings,
    folds: FoldsSettings,
    seed: int,
    audit: CohortAudit,
) -> pl.DataFrame:
    """Return the slides that the published folds name; record the others in `audit`."""
    units, _ = _split_units(origin, slides, source)
    path = source["published_splits"]
    table, unlisted = published_splits.read_published_split(path, units, folds, seed)
    if unlisted:
        log.info("%s: %d units of the cohort are missing there and left out", path, len(unlisted))
    is_unlisted = pl.col("unit").is_in(unlisted)
    dropped = slides.filter(is_unlisted).sort("slide_id").select("slide_id", "patient_id")
    reason = f"not in the published folds ({Path(path).name})"
    audit["dropped"] = audit["dropped"] + [
        row | {"kind": "slide", "reason": reason} for row in dropped.rows(named=True)
    ]
    slides = slides.filter(~is_unlisted)
    audit["flow"] = [*audit["flow"], _flow_step("in the published folds", slides)]
    audit["published_splits"] = published_splits.published_facts(path, table)
    return slides


def _split_units(
    origin: str | Path, slides: pl.DataFrame, source: Settings
) -> tuple[pl.DataFrame, bool]:
    """Return split units with site and sheet splits, and whether the sheet has any splits."""
    has_column = "split" in slides.columns and slides["split"].is_not_null().any()
    if has_column and source.get("splits"):
        cause = "the column split and the key splits exclude each other"
        raise SheetError(origin, cause, "keep one of the two")
    if "site" not in slides.columns:
        slides = slides.with_columns(pl.lit(None, pl.String).alias("site"))
    columns = [pl.col("site").drop_nulls().sort().first()]
    columns += [pl.col("split").unique().sort()] if has_column else []
    return slides.group_by("unit").agg(columns).sort("unit"), bool(has_column)
