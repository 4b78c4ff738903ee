"""Expression table of a laboratory: Parquet, CSV or TSV with a row per sample.

Every line is a row of the result or an error; every column is the sample ids, a gene, or named as
left out (gene_columns.py).
"""

from __future__ import annotations

import io as stdio
import re
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.cohort import gene_columns
from slide2rna.core.delimited_text import MISSING, read_text, split_header, split_line
from slide2rna.core.errors import SheetError, list_names
from slide2rna.storage import parquet

ID_NAMES = ("sample_id", "patient_id")
# Numbers as polars reads them; Python's float() also accepts 1_000.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
# Headers of tables with a row per gene: cBioPortal, Xena, GDC, GTEx.
GENE_ROWS = re.compile(
    r"hugo_symbol|entrez_gene_id|gene_?(id|name|symbol|stable_id)?s?|symbol|ensembl_?(gene_)?id"
    r"|composite element ref|feature_?id|probe_?(id)?|#?name|xena_sample",
    re.IGNORECASE,
)
TRANSPOSE = "transpose it: a row per sample, a column per gene"


def read_expression_table(
    path: Path, samples: list[str] | None = None
) -> tuple[list[str], list[str], np.ndarray]:
    """Read a table as (sample ids, gene names, float32 values).

    Parameters
    ----------
    samples
        Samples that are looked for; if columns have their names, the table is the wrong way round.

    Raises
    ------
    SheetError
        No such table; a row per gene; repeated or missing ids or names; cells that aren't numbers.
    """
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, samples)
    _refuse_gene_rows(path, table.columns, samples)
    if table.width < 2 or table.is_empty():
        raise SheetError(path, "no samples or no genes in it", "give a row per sample")
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    key = _id_column(texts)
    if key is None:
        raise SheetError(path, "no column with sample ids", "make the first column sample_id, text")
    for name, kind in table.schema.items():
        if name != key and not kind.is_numeric():
            cell = f"{table[name][0]!s:.30}"
            cause = f"column '{name}' is not numeric (sample {table[key][0]}: {cell})"
            raise SheetError(path, cause, "fix or remove it: one id column, then numbers")
    ids = table[key].str.strip_chars()
    if ids.null_count() or (ids == "").any():
        row = int(np.flatnonzero((ids.fill_null("") == "").to_numpy())[0]) + 1
        raise SheetError(f"{path} row {row}", f"{key} is empty", "give every row its sample id")
    gene_columns.check_printable(path, key, ids)
    repeated = ids.filter(ids.is_duplicated()).unique().sort().to_list()
    if repeated:
        remedy = "keep one row per sample (or average them yourself)"
        raise SheetError(path, f"sample {list_names(repeated)} has several rows", remedy)
    genes = [name for name in table.columns if name != key]
    # polars fills nulls of integer columns with NaN here, which the value check reports.
    values = table.select(pl.col(genes).cast(pl.Float32)).to_numpy()
    keep = gene_columns.gene_columns(path, genes, values)
    if not keep.any():
        raise SheetError(path, "no column of it is a gene", "give a column per gene")
    if keep.all():
        return ids.to_list(), genes, values
    return ids.to_list(), [genes[i] for i in np.flatnonzero(keep)], values[:, keep]


def _id_column(names: list[str]) -> str | None:
    return next((name for name in ID_NAMES if name in names), names[0] if names else None)


def _refuse_gene_rows(path: Path, names: list[str], samples: list[str] | None) -> None:
    """Raise an error if the table has a row per gene."""
    as_columns = set(samples or ()) & set(names)
    if as_columns or GENE_ROWS.fullmatch(names[0]):
        raise SheetError(path, "the samples are its columns", TRANSPOSE)


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        table = parquet.read_foreign(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        cause = str(error).splitlines()[0]
        raise SheetError(path, cause, "give a readable Parquet file") from error
    return table.rename(
        dict(zip(table.columns, gene_columns.clean_names(path, table.columns), strict=True))
    )


def _read_csv(path: Path, samples: list[str] | None) -> pl.DataFrame:
    """Read a text table with the id column as text and the others as float32."""
    text = read_text(path)
    if re.match(r"#1\.[23]\s*\n", text):
        cause = "it is a GCT file, whose samples are its columns"
        remedy = f"leave out its first two lines and the column Description, and {TRANSPOSE}"
        raise SheetError(path, cause, remedy)
    separator, skipped = split_header(text)
    lines = text.split("\n")[skipped:]
    first = next(i for i, line in enumerate(lines) if line.strip())
    number = skipped + first + 1
    names = split_line(f"{path} line {number}", lines[first], separator)
    names[0] = names[0] or "sample_id"  # R and pandas leave the corner empty
    _refuse_gene_rows(path, names, samples)
    names = gene_columns.clean_names(f"{path} line {number}", names)
    key = _id_column(names)
    assert key is not None
    body = lines[first + 1 :]
    for at, line in enumerate(body, start=number + 1):
        if '"' in line:
            split_line(f"{path} line {at}", line, separator)
    kinds = {name: pl.String if name == key else pl.Float32 for name in names}
    rows = sum(any(letter not in f"{separator} \t" for letter in line) for line in body)
    if not rows:
        return pl.DataFrame(schema=kinds)
    try:
        table = pl.read_csv(
            stdio.BytesIO("\n".join(body).encode()),
            has_header=False,
            separator=separator,
            schema=kinds,
            null_values=list(MISSING),
        )
    except pl.exceptions.PolarsError as error:
        _name_text_cell(path, body, number + 1, separator, names, key)
        cause = str(error).splitlines()[0]
        raise SheetError(path, cause, "give every row as many cells as the header") from error
    if table.height > rows:  # blank lines
        table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    if table.height != rows:
        cause = f"{table.height} rows were read from {rows} lines below the header"
        raise SheetError(path, cause, "save it as plain CSV or TSV, a line per sample")
    return table


def _name_text_cell(
    path: Path, lines: list[str], start: int, separator: str, names: list[str], key: str
) -> None:
    """Raise an error for the first cell that should be a number and isn't; lines from `start`."""
    id_at = names.index(key)
    for number, line in enumerate(lines, start=start):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        row = split_line(where, line, separator)
        if len(row) != len(names):
            cause = f"{len(row)} cells, but the header has {len(names)}"
            raise SheetError(where, cause, "give every row as many cells as the header")
        for index, cell in enumerate(row):
            if index != id_at and cell not in MISSING and not NUMBER.fullmatch(cell):
                cause = f"gene {names[index]} of sample {row[id_at]} is '{cell[:30]}', not a number"
                raise SheetError(where, cause, "fix or remove it")
