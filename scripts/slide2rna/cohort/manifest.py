"""Cohort manifest: a text file with the cohort's files, checksums and reasons for exclusion.

It is written once, in a fixed order and with the same bytes each time, so that it can be kept
under version control. As long as it exists, no server is asked for a list of files.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slide2rna.cohort.gdc import SCHEMA as FILE_SCHEMA
from slide2rna.core.delimited_text import read_text
from slide2rna.core.errors import SheetError
from slide2rna.core.files import atomic
from slide2rna.core.log import log
from slide2rna.storage.delimited import LINE, raise_for_rows, read_table

COLUMNS = (
    "kind",
    "patient_id",
    "slide_id",
    "sample_id",
    "sample_type",
    "specimen",
    "aliquot",
    "medium",
    "site",
    "slides_of_patient",
    "uuid",
    "name",
    "md5",
    "size",
    "state",
    "release",
    "url",
    "left_at",
    "reason",
)
GDC_COLUMNS = ("id", "filename", "md5", "size", "state")
ORDER = pl.col("kind").replace_strict({"slide": 0, "expression": 1, "patient": 2}, default=None)
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.+=@-]*$"
REMEDY = "don't use this file until you know where it comes from"


def write(table: pl.DataFrame, releases: dict[str, str], path: str | Path) -> None:
    """Write a paired table once and check that it can be read back.

    Parameters
    ----------
    table
        As `pairing.pair` returns it.
    releases
        The release of each kind: {"slide": ..., "expression": ...}.
    """
    release = pl.col("kind").replace_strict(releases, default=None).alias("release")
    table = table.with_columns(release).select(COLUMNS)
    table = table.sort(ORDER, "patient_id", "name", "uuid", nulls_last=True)
    with atomic(path) as partial:
        table.write_csv(partial, separator="\t")
        read(partial)  # A manifest that can't be read back must not be frozen.
    log.info("%s: frozen; keep it under version control", path)


def read(path: str | Path) -> pl.DataFrame:
    """Read and check a frozen manifest.

    Returns
    -------
    polars.DataFrame
        `COLUMNS`; empty cells are null, size is a number.

    Raises
    ------
    SheetError
        One line: a missing column, a name that is not a plain file name, a bad md5 or size, a
        repeated file or slide, an incomplete row of a retained file, a slide without expression.
    """
    table = read_table(path)
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        cause = f"column '{absent[0]}' is missing"
        raise SheetError(path, cause, "give a manifest that this pipeline wrote, or remove it")
    text = pl.col(COLUMNS)
    table = table.with_columns(pl.when(text != "").then(text).name.keep())
    bad = table.filter(~pl.col("kind").is_in(["slide", "expression", "patient"]).fill_null(False))
    raise_for_rows(path, bad, "kind is not slide, expression or patient", REMEDY)
    files = table.filter(pl.col("kind") != "patient")
    _check_files(path, files)
    retained = files.filter(pl.col("reason").is_null())
    for name in ("patient_id", "sample_id", "url"):
        raise_for_rows(path, retained.filter(pl.col(name).is_null()), f"{name} is empty", "fix it")
    # Ids become file names: expression as <sample_id>.tsv, slides as tiles/<slide_id>.parquet.
    for kind, name in (("slide", "name"), ("slide", "slide_id"), ("expression", "sample_id")):
        rows = retained.filter(pl.col("kind") == kind)
        raise_for_rows(path, rows.filter(_unsafe(name)), f"{name} can't be a file name", REMEDY)
        repeated = rows.filter(pl.col(name).is_duplicated())
        raise_for_rows(path, repeated, f"{name} occurs twice", "keep one of its rows")
    stars = retained.filter(pl.col("kind") == "expression").select("sample_id", "patient_id")
    unpaired = retained.filter(pl.col("kind") == "slide").join(stars, on=stars.columns, how="anti")
    remedy = "keep the row of its expression, or remove the slide"
    raise_for_rows(path, unpaired, "its patient has no expression row with this sample_id", remedy)
    integers = pl.col("size", "slides_of_patient").cast(pl.Int64)
    return table.with_columns(integers, pl.col("md5").str.to_lowercase()).select(COLUMNS)


def read_gdc(path: str | Path, api: str) -> pl.DataFrame:
    """Read a list of TCGA slides from GDC's portal: id, filename, md5, size, state.

    Returns
    -------
    polars.DataFrame
        The columns of `gdc.SCHEMA`; patient, sample and sample type come from the barcode that
        the file name starts with.
    """
    text = read_text(path)
    if text.startswith("\t"):
        text = "row" + text  # Lists written by pandas or R have an unnamed index.
    try:
        table = pl.read_csv(text.encode(), separator="\t", infer_schema=False)
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        raise SheetError(path, cause, "give a manifest from GDC's portal") from error
    table = table.fill_null("").with_row_index(LINE, offset=2)
    absent = [name for name in GDC_COLUMNS if name not in table.columns]
    if absent:
        cause = f"column '{absent[0]}' is missing"
        raise SheetError(path, cause, f"a GDC manifest has {', '.join(GDC_COLUMNS)}")
    table = table.rename({"id": "uuid", "filename": "name"})
    _check_files(path, table)
    name = pl.col("name")
    bad = table.filter(~name.str.contains(r"^TCGA-\w{2}-\w{4}-\d{2}[A-Z]"))
    raise_for_rows(path, bad, "the file name has no TCGA barcode", "list TCGA slides only")
    diagnostic = name.str.contains(r"^TCGA-\w{2}-\w{4}-\d{2}[A-Z]-\d{2}-DX")
    return table.select(
        pl.lit("slide").alias("kind"),
        "uuid",
        "name",
        pl.col("md5").str.to_lowercase(),
        pl.col("size").cast(pl.Int64),
        "state",
        pl.format("{}/data/{}", pl.lit(api), pl.col("uuid")).alias("url"),
        name.str.slice(0, 12).alias("patient_id"),
        name.str.slice(0, 16).alias("specimen"),
        name.str.slice(13, 2).alias("sample_type"),
        pl.lit(None, pl.String).alias("aliquot"),
        pl.when(diagnostic)
        .then(pl.lit("Diagnostic Slide"))
        .otherwise(pl.lit("Tissue Slide"))
        .alias("medium"),
    ).select(list(FILE_SCHEMA))


def _unsafe(name: str) -> pl.Expr:
    """Return a mask of values that can't be file names."""
    column = pl.col(name).fill_null("")
    return ~column.str.contains(NAME) | column.str.contains("..", literal=True)


def _check_files(path: str | Path, table: pl.DataFrame) -> None:
    """Raise an error for a bad name, uuid, md5 or size."""
    unsafe = table.filter(_unsafe("name"))
    example = unsafe["name"][0] if unsafe.height else ""
    raise_for_rows(path, unsafe, f"name '{example}' isn't a plain file name", REMEDY)
    repeated = table.filter(pl.col("uuid").is_duplicated())
    raise_for_rows(path, repeated, "uuid occurs twice", "keep one of its rows")
    unnamed = table.filter(_unsafe("uuid"))
    raise_for_rows(path, unnamed, "uuid is empty or isn't a plain id", REMEDY)
    md5 = pl.col("md5").str.contains(r"^[0-9a-fA-F]{32}$")
    raise_for_rows(
        path, table.filter(~md5 & (pl.col("md5") != "")), "md5 is not 32 hex digits", REMEDY
    )
    size = pl.col("size").cast(pl.Int64, strict=False)
    bad = table.filter((pl.col("size") != "") & ~(size > 0).fill_null(False))
    raise_for_rows(path, bad, "size is not a whole number above 0", REMEDY)
