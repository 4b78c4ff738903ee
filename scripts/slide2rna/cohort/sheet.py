"""Sample sheet: one row per slide, with patient, sample, site and file.

`storage.delimited` reads the text. Each kind of problem is one error that names the file, the
lines, the cause and the remedy.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import polars as pl
import yaml

from slide2rna.core.delimited_text import MISSING
from slide2rna.core.errors import SheetError, SlideError, has_control
from slide2rna.core.log import log
from slide2rna.core.root import ROOT
from slide2rna.slides.area import parse_area
from slide2rna.slides.identity import slide_file
from slide2rna.storage.delimited import LINE, raise_for_rows, read_table

SCHEMA = ROOT / "workflow" / "schemas" / "samples.schema.yaml"
_SCHEMA = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
COLUMNS = tuple(_SCHEMA["properties"])
REQUIRED = tuple(_SCHEMA["required"])
TCGA_PATIENT = r"(?i)^(TCGA[-.][A-Z0-9]{2}[-.][A-Z0-9]{4})([-.]|$)"
PATTERNS = {k: v["pattern"] for k, v in _SCHEMA["properties"].items() if "pattern" in v}


def read_sheet(path: str | Path, needs_slides: bool = False) -> pl.DataFrame:
    """Read and check a sample sheet.

    Parameters
    ----------
    path
        TSV or CSV with slide_id, patient_id, slide (a path relative to the sheet; empty for a
        slide with precomputed features) and optionally sample_id (a row of the expression table;
        patient_id if absent), site, mpp (micrometres per pixel), md5, split, area (JSON polygon
        in level-0 pixels). Each other column is dropped with a log line.
    needs_slides
        Reject rows without a slide, because features are computed from slides.

    Returns
    -------
    polars.DataFrame
        slide_id, patient_id, sample_id, site, path (relative to the sheet, or absolute
        outside its folder), mpp (float64), md5, split, area, sorted by slide_id.

    Raises
    ------
    SheetError
        One line that names the file, the lines, the cause and the remedy.
    """
    table = read_table(path)
    absent = [name for name in REQUIRED if name not in table.columns]
    if absent:
        columns = ", ".join(name for name in table.columns if name != LINE)
        cause = f"column '{absent[0]}' is missing (found: {columns})"
        raise SheetError(path, cause, f"the sheet needs {', '.join(REQUIRED)}")
    extra = [name for name in table.columns if name not in (*COLUMNS, LINE)]
    for name in extra:
        close_names = difflib.get_close_matches(name.lower(), COLUMNS, n=1)
        hint = f" (did you mean '{close_names[0]}'?)" if close_names else ""
        log.info("%s: column '%s' is left out%s", path, name, hint)
    table = table.drop(extra).with_columns(
        pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in table.columns
    )
    table = table.with_columns(
        pl.when(pl.col(COLUMNS).is_in(MISSING)).then(None).otherwise(pl.col(COLUMNS)).name.keep()
    ).with_columns(pl.coalesce("sample_id", "patient_id").alias("sample_id"))
    for name in ("slide", "site"):
        strange = table.filter(pl.col(name).map_elements(has_control, return_dtype=pl.Boolean))
        cause = (
            f"{name} {strange[name][0][:60]!a} holds a control character" if strange.height else ""
        )
        raise_for_rows(path, strange, cause, "remove it, and rename the file if it is in its name")
    table = _patients_of_barcodes(path, table)
    _check_ids(path, table)
    if needs_slides:
        without_slide = table.filter(pl.col("slide").is_null())
        cause = f"slide of {without_slide['slide_id'][0]} is empty" if without_slide.height else ""
        remedy = "give each row its slide; it may be empty only with features: {encoder: files}"
        raise_for_rows(path, without_slide, cause, remedy)
    table = _resolve_slides(path, _check_values(path, table))
    return table.select(
        "slide_id", "patient_id", "sample_id", "site", "path", "mpp", "md5", "split", "area"
    ).sort("slide_id")


def _check_ids(path: str | Path, table: pl.DataFrame) -> None:
    """Raise an error for an empty or unsafe id, a repeated slide, or a sample of two patients."""
    for name in ("slide_id", "patient_id", "sample_id"):
        column = pl.col(name)
        # NA as an id would merge all unknown patients into one.
        empty = table.filter(column.is_null())
        raise_for_rows(path, empty, f"{name} is empty or NA", f"give every row a {name}")
        unsafe = table.filter(
            ~column.str.contains(PATTERNS[name]) | column.str.contains("..", literal=True)
        )
        example = unsafe[name][0] if unsafe.height else ""
        remedy = "use letters, digits and . _ - + = @, starting with a letter, digit or _"
        raise_for_rows(path, unsafe, f"{name} '{example}' can't be a file name", remedy)
        alike = table.filter(column.n_unique().over(column.str.to_lowercase()) > 1).sort(LINE)
        if alike.height:
            alike = alike.filter(column.str.to_lowercase() == alike[name][0].lower())
            names = " and ".join(alike[name].unique(maintain_order=True).to_list()[:2])
            cause = f"{name} {names} differ in upper and lower case only"
            raise_for_rows(path, alike, cause, "write the same id always in the same way")
    repeated = table.filter(pl.col("slide_id").is_duplicated()).sort("slide_id", LINE)
    if repeated.height:
        name = repeated["slide_id"][0]
        repeated = repeated.filter(pl.col("slide_id") == name)
        raise_for_rows(
            path, repeated, f"slide_id '{name}' occurs twice", "give each slide its own id"
        )
    mixed = (
        table.group_by("sample_id")
        .agg(pl.col("patient_id").unique().sort(), pl.col(LINE).min())
        .filter(pl.col("patient_id").list.len() > 1)
        .sort("sample_id")
    )
    if mixed.height:
        names = " and ".join(mixed["patient_id"][0].to_list()[:2])
        cause = f"sample_id '{mixed['sample_id'][0]}' belongs to patients {names}"
        raise_for_rows(path, mixed.head(1), cause, "give each sample to one patient")


def _patients_of_barcodes(path: str | Path, table: pl.DataFrame) -> pl.DataFrame:
    """Give rows with a TCGA barcode as patient_id its patient, the first three fields.

    Samples of one patient then share a part, whatever the barcodes' lengths:
    https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/
    """
    patient = pl.col("patient_id").str.extract(TCGA_PATIENT, 1).str.to_uppercase()
    patient = patient.str.replace_all(".", "-", literal=True)
    changed = table.filter(patient.is_not_null() & (patient != pl.col("patient_id")))
    if changed.is_empty():
        return table
    log.warning(
        "warning: %s: %d patient_ids are TCGA barcodes, such as %s; the patients are their first "
        "three fields",
        *(path, changed["patient_id"].n_unique(), changed["patient_id"][0]),
    )
    return table.with_columns(pl.coalesce(patient, "patient_id").alias("patient_id"))


def _check_values(path: str | Path, table: pl.DataFrame) -> pl.DataFrame:
    """Check mpp, md5, split and area; return the table with mpp as a number."""
    number = pl.col("mpp").cast(pl.Float64, strict=False)
    good = number.is_finite() & (number > 0)
    bad = table.filter(pl.col("mpp").is_not_null() & ~good.fill_null(False))
    example = bad["mpp"][0] if bad.height else ""
    raise_for_rows(
        path, bad, f"mpp '{example}' is not a positive number", "give um per pixel, e.g. 0.5"
    )
    table = table.with_columns(number.alias("mpp"), pl.col("md5").str.to_lowercase())
    bad = table.filter(~pl.col("md5").str.contains(PATTERNS["md5"]))
    raise_for_rows(path, bad, "md5 is not 32 hex digits", "give the file's md5 or leave it empty")
    bad = table.filter(~pl.col("split").str.contains(PATTERNS["split"]))
    example = bad["split"][0] if bad.height else ""
    remedy = "use train, val, cal or test, or the number of the fold that tests the slide"
    raise_for_rows(path, bad, f"split '{example}' is unknown", remedy)
    areas = table.filter(pl.col("area").is_not_null()).select(LINE, "area").rows()
    lines = [line for line, area in areas if parse_area(area) is None]
    remedy = "give a JSON list of at least three [x, y] vertices in level-0 pixels"
    raise_for_rows(path, table.filter(pl.col(LINE).is_in(lines)), "area isn't a polygon", remedy)
    return table


def _slide_file(sheet: str | Path, line: int, name: str) -> str:
    try:
        return str(slide_file(Path(name)))
    except SlideError as error:
        where, cause = f"{sheet} line {line}", f"slide '{Path(error.where).name}' {error.cause}"
        raise SheetError(where, cause, error.remedy) from error


def _relative(path: str, folder: str) -> str:
    """Return a path relative to the sheet's folder, so that a copied project reads its own slides.

    An absolute path outside the folder stays as it is.
    """
    path = os.path.normpath(path)
    return path.removeprefix(f"{folder}{os.sep}")


def _resolve_slides(path: str | Path, table: pl.DataFrame) -> pl.DataFrame:
    """Add slide paths; each must be a file, and no two whole slides may share one."""
    folder = os.path.abspath(Path(path).parent)
    names = table["slide"].to_list()
    real_paths = [name and os.path.realpath(os.path.join(folder, name)) for name in names]
    lines = table[LINE].to_list()
    files = [
        name and _slide_file(path, line, name) for line, name in zip(lines, real_paths, strict=True)
    ]
    paths = [
        name and _relative(name if file == real else f"{name}{file.removeprefix(real)}", folder)
        for name, real, file in zip(names, real_paths, files, strict=True)
    ]
    exists = [name is None or os.path.isfile(name) for name in files]
    table = table.with_columns(
        pl.Series("path", paths, pl.String),
        pl.Series("real", files, pl.String),
        pl.Series("there", exists, pl.Boolean),
    )
    missing = table.filter(~pl.col("there"))
    example = missing["slide"][0] if missing.height else ""
    remedy = "slide paths are relative to the sheet: put the file there, or fix the path"
    raise_for_rows(path, missing, f"slide '{example}' is not a file", remedy)
    repeated = table.filter(pl.col("real").is_not_null()).filter(
        pl.struct("real", "area").is_duplicated()
        | (pl.col("real").is_duplicated() & pl.col("area").is_null())
    )
    if repeated.height:
        repeated = repeated.filter(pl.col("real") == repeated.sort(LINE)["real"][0])
        cause = f"slide '{repeated['slide'][0]}' is used by {repeated.height} rows"
        raise_for_rows(path, repeated, cause, "list each file once, or give each row its own area")
    return table
