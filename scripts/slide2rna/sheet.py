"""The sample sheet: one row per slide, read tolerantly, checked strictly.

A laboratory's table comes from a spreadsheet: tab, comma or semicolon, any line ends, with or
without a byte order mark. What it says is then checked with whole-column expressions, and each
kind of trouble is one error that names the file, the lines, the cause and the remedy.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io as stdio
import json
import math
import os
import zlib
from collections import Counter
from pathlib import Path

import polars as pl
import yaml

from slide2rna.cli import log
from slide2rna.errors import SheetError

SCHEMA = Path(__file__).resolve().parents[2] / "workflow" / "schemas" / "samples.schema.yaml"
_SCHEMA = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
COLUMNS = tuple(_SCHEMA["properties"])
REQUIRED = tuple(_SCHEMA["required"])
PATTERNS = {k: v["pattern"] for k, v in _SCHEMA["properties"].items() if "pattern" in v}
MISSING = ("", "NA", "N/A", "na", "nan", "NaN", "null", "None")
LINE = "line"


def read_text(path: str | Path) -> str:
    """Text of a table, gzipped or not, as UTF-8 or (with its mark) UTF-16; lines end in LF.

    Raises
    ------
    SheetError
        The file isn't there, is empty, or isn't text.
    """
    try:
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or "the gzip stream is broken"
        raise SheetError(path, cause.lower(), "give a readable TSV or CSV file") from error
    if raw[:2] == b"PK":
        raise SheetError(path, "this is a spreadsheet or zip file", "save it as CSV or TSV")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        cause = f"it isn't UTF-8 text (byte {error.start})"
        raise SheetError(path, cause, "save it as 'CSV UTF-8'") from error
    if not text.strip():
        raise SheetError(path, "the file is empty", "give a header line and rows below it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def separator_of(header: str) -> str:
    """The character that splits a header line: tab, comma or semicolon, whichever is commonest."""
    return max("\t,;", key=header.count)


def repeated(names: list[str]) -> list[str]:
    """The names that are there more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def read_table(path: str | Path) -> pl.DataFrame:
    """A text table with every cell as a stripped string, and its line number in the file.

    Returns
    -------
    polars.DataFrame
        The file's columns plus `line` (where the row ends); rows without any value are left out.

    Raises
    ------
    SheetError
        No text table, a repeated column name, a row with more or fewer cells, or no row.
    """
    text = read_text(path)
    separator = separator_of(text.lstrip("\n").split("\n", 1)[0])
    reader = csv.reader(stdio.StringIO(text), delimiter=separator)
    try:
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        where = f"{path} line {reader.line_num}"
        raise SheetError(where, str(error), "save it as plain CSV or TSV") from error
    (head, names), *rows = [(line, row) for line, row in cells if any(row)]
    for name in names:
        if not name or names.count(name) > 1 or name == LINE:
            cause = f"column name '{name}' is empty, repeated or reserved"
            raise SheetError(f"{path} line {head}", cause, "give each column its own name")
    for line, row in rows:
        if len(row) != len(names):
            more = "more" if len(row) > len(names) else "fewer"
            cause = f"{more} fields than the header ({len(row)}, not {len(names)})"
            remedy = "give every row as many cells as the header"
            raise SheetError(f"{path} line {line}", cause, remedy)
    if not rows:
        raise SheetError(path, "there is no row below the header", "add the rows")
    schema = {LINE: pl.Int64} | dict.fromkeys(names, pl.String)
    return pl.DataFrame([(line, *row) for line, row in rows], schema=schema, orient="row")


def complain(path: str | Path, bad: pl.DataFrame, cause: str, remedy: str) -> None:
    """Raise a SheetError that names the lines in `bad`, if there are any."""
    if bad.is_empty():
        return
    lines = bad[LINE].sort().to_list()
    shown = ", ".join(map(str, lines[:5])) + (
        f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    )
    raise SheetError(f"{path} line{'s' if len(lines) > 1 else ''} {shown}", cause, remedy)


def read_sheet(path: str | Path, needs_slides: bool = False) -> pl.DataFrame:
    """Read and check a sample sheet.

    Parameters
    ----------
    path
        TSV or CSV with slide_id, patient_id, slide (a path relative to the sheet; empty for a
        slide that only brings features) and optionally sample_id (a row of the expression table;
        patient_id if absent), site, mpp (micrometres per pixel), md5, split, area (JSON polygon
        in level-0 pixels). Other columns are left out with one log line.
    needs_slides
        Refuse rows without a slide: the features are made from slides.

    Returns
    -------
    polars.DataFrame
        slide_id, patient_id, sample_id, site, path (absolute), mpp (float64), md5, split, area,
        sorted by slide_id.

    Raises
    ------
    SheetError
        One line that names the file, the lines, the cause and the remedy.
    """
    table = read_table(path)
    absent = [name for name in REQUIRED if name not in table.columns]
    if absent:
        found = ", ".join(name for name in table.columns if name != LINE)
        cause = f"column '{absent[0]}' is missing (found: {found})"
        raise SheetError(path, cause, f"the sheet needs {', '.join(REQUIRED)}")
    extra = [name for name in table.columns if name not in (*COLUMNS, LINE)]
    for name in extra:
        near = difflib.get_close_matches(name.lower(), COLUMNS, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        log.info("%s: column '%s' is left out%s", path, name, hint)
    table = table.drop(extra).with_columns(
        pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in table.columns
    )
    table = table.with_columns(
        pl.when(pl.col(COLUMNS).is_in(MISSING)).then(None).otherwise(pl.col(COLUMNS)).name.keep()
    ).with_columns(pl.coalesce("sample_id", "patient_id").alias("sample_id"))
    _check_ids(path, table)
    if needs_slides:
        bare = table.filter(pl.col("slide").is_null())
        cause = f"slide of {bare['slide_id'][0]} is empty" if bare.height else ""
        remedy = "give each row its slide; only with features: {encoder: files} may it stay empty"
        complain(path, bare, cause, remedy)
    table = _with_files(path, _check_values(path, table))
    return table.select(
        "slide_id", "patient_id", "sample_id", "site", "path", "mpp", "md5", "split", "area"
    ).sort("slide_id")


def _check_ids(path: str | Path, table: pl.DataFrame) -> None:
    for name in ("slide_id", "patient_id", "sample_id"):
        column = pl.col(name)
        # NA as an id would make one patient of all the unknown ones.
        empty = table.filter(column.is_null())
        complain(path, empty, f"{name} is empty or NA", f"give every row a {name}")
        unsafe = table.filter(
            ~column.str.contains(PATTERNS[name]) | column.str.contains("..", literal=True)
        )
        example = unsafe[name][0] if unsafe.height else ""
        remedy = "use letters, digits and . _ - + = @, starting with a letter, digit or _"
        complain(path, unsafe, f"{name} '{example}' can't be a file name", remedy)
    twice = table.filter(pl.col("slide_id").is_duplicated()).sort("slide_id", LINE)
    if twice.height:
        name = twice["slide_id"][0]
        twice = twice.filter(pl.col("slide_id") == name)
        complain(path, twice, f"slide_id '{name}' is there twice", "give each slide its own id")
    mixed = (
        table.group_by("sample_id")
        .agg(pl.col("patient_id").unique().sort(), pl.col(LINE).min())
        .filter(pl.col("patient_id").list.len() > 1)
        .sort("sample_id")
    )
    if mixed.height:
        names = " and ".join(mixed["patient_id"][0].to_list()[:2])
        cause = f"sample_id '{mixed['sample_id'][0]}' belongs to patients {names}"
        complain(path, mixed.head(1), cause, "one sample comes from one patient")


def _check_values(path: str | Path, table: pl.DataFrame) -> pl.DataFrame:
    number = pl.col("mpp").cast(pl.Float64, strict=False)
    good = number.is_finite() & (number > 0)
    bad = table.filter(pl.col("mpp").is_not_null() & ~good.fill_null(False))
    shown = bad["mpp"][0] if bad.height else ""
    complain(path, bad, f"mpp '{shown}' is not a positive number", "give um per pixel, e.g. 0.5")
    table = table.with_columns(number.alias("mpp"), pl.col("md5").str.to_lowercase())
    bad = table.filter(~pl.col("md5").str.contains(PATTERNS["md5"]))
    complain(path, bad, "md5 is not 32 hex digits", "give the file's md5 or leave it empty")
    bad = table.filter(~pl.col("split").str.contains(PATTERNS["split"]))
    shown = bad["split"][0] if bad.height else ""
    remedy = "use train, val, cal or test, or the number of the fold that tests the slide"
    complain(path, bad, f"split '{shown}' is unknown", remedy)
    areas = table.filter(pl.col("area").is_not_null()).select(LINE, "area").rows()
    lines = [line for line, area in areas if not _is_polygon(area)]
    remedy = "give a JSON list of at least three [x, y] vertices in level-0 pixels"
    complain(path, table.filter(pl.col(LINE).is_in(lines)), "area is no polygon", remedy)
    return table


def _is_polygon(text: str) -> bool:
    try:
        points = json.loads(text)
    except json.JSONDecodeError:
        return False
    return (
        isinstance(points, list)
        and len(points) >= 3
        and all(
            isinstance(point, list)
            and len(point) == 2
            and all(type(v) in (int, float) and math.isfinite(v) for v in point)
            for point in points
        )
    )


def _with_files(path: str | Path, table: pl.DataFrame) -> pl.DataFrame:
    """Make slide paths absolute; each must be a file, and no file may be two whole slides."""
    folder = os.path.abspath(Path(path).parent)
    names = table["slide"].to_list()
    paths = [None if name is None else os.path.join(folder, name) for name in names]
    real = [None if name is None else os.path.realpath(name) for name in paths]
    there = [name is None or os.path.isfile(name) for name in real]
    table = table.with_columns(
        pl.Series("path", [p and os.path.normpath(p) for p in paths], pl.String),
        pl.Series("real", real, pl.String),
        pl.Series("there", there, pl.Boolean),
    )
    gone = table.filter(~pl.col("there"))
    shown = gone["slide"][0] if gone.height else ""
    remedy = "slide paths are relative to the sheet: put the file there or mend the path"
    complain(path, gone, f"slide '{shown}' is not a file", remedy)
    twice = table.filter(pl.col("real").is_not_null()).filter(
        pl.struct("real", "area").is_duplicated()
        | (pl.col("real").is_duplicated() & pl.col("area").is_null())
    )
    if twice.height:
        twice = twice.filter(pl.col("real") == twice.sort(LINE)["real"][0])
        cause = f"slide '{twice['slide'][0]}' is used by {twice.height} rows"
        complain(path, twice, cause, "give each file once, or an area of its own to each row")
    return table
