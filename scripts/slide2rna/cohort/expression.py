"""Expression tables: a laboratory's Parquet, CSV or TSV, or GDC STAR-counts files.

Each reader returns log2(x+1) as float32, samples and genes sorted, or raises one error.
"""

from __future__ import annotations

import csv
import io as stdio
import re
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.cohort.star_counts import genes_of_types, read_star, sample_rows
from slide2rna.core.delimited import MISSING, duplicates, read_text, separator_of
from slide2rna.core.errors import SheetError, list_names
from slide2rna.core.log import log

ID_NAMES = ("sample_id", "patient_id")
# log2(x+1) of 50 would be 1e15 transcripts, an impossible count: the table is linear.
MAX_LOG2 = 50.0
GENE_HEADERS = ("gene", "genes", "gene_name", "symbol", "gene_symbol")
# Numbers as polars reads them; Python's float() also accepts 1_000.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)


def read_expression(
    path: str | Path,
    unit: str = "log2",
    column: str = "fpkm_uq_unstranded",
    genes: list[str] | None = None,
    samples: list[str] | None = None,
    gene_types: list[str] | None = None,
) -> pl.DataFrame:
    """Read expression and transform it to log2(x+1).

    Parameters
    ----------
    path
        Table (.parquet, .csv, .tsv, also .gz) with a row per sample, its id in the first column
        and a column per gene; or a folder of GDC STAR-counts TSV files, where a file's sample id
        is its name up to the first dot.
    unit
        Unit of a table: log2 means log2(x+1), linear is transformed, counts become log2(CPM+1)
        over all genes of the table. Ignored for STAR-counts files: their `unstranded` is counts,
        their other columns are linear.
    column
        Column of STAR-counts files to read.
    genes
        Genes to keep; None keeps all.
    samples
        Samples to keep, all of which must be present; None keeps all.
    gene_types
        For STAR-counts files: keep genes that have an id of one of these GENCODE types
        (protein_coding, lncRNA, ...); None keeps all. CPM covers all types. Ignored if `genes`
        is set.

    Returns
    -------
    polars.DataFrame
        sample_id, then one float32 column per gene; samples and genes in sorted order.

    Raises
    ------
    SheetError
        Missing samples or genes, repeated samples or genes, NaN, infinite, negative or
        non-numeric values, linear values declared as log2, samples as columns.
    """
    path = Path(path)
    if path.is_dir():
        ids, names, values = read_star(path, column, samples)
        unit = "counts" if column == "unstranded" else "linear"
    elif gene_types:
        remedy = "remove gene_types, or give genes"
        raise SheetError(path, "gene types are only in STAR-counts files", remedy)
    else:
        ids, names, values = _read_table(path)
        if samples is not None:
            keep = sample_rows(path, samples, ids, names)
            ids, values = [ids[i] for i in keep], values[keep]
    _check_values(path, ids, names, values)
    values = to_log2(path, ids, values, unit)
    if gene_types and genes is None:
        genes = genes_of_types(path, gene_types)
    order = _column_order(path, names, genes)
    rows = sorted(range(len(ids)), key=ids.__getitem__)
    values = np.ascontiguousarray(values[np.ix_(rows, order)].T, dtype=np.float32)
    columns = {names[g]: values[i] for i, g in enumerate(order)}
    return pl.DataFrame({"sample_id": [ids[i] for i in rows]} | columns)


def to_log2(where: object, ids: list[str], values: np.ndarray, unit: str) -> np.ndarray:
    """Transform values (samples x genes) from `unit` to log2(x+1); CPM is x / sum(x) * 1e6.

    Raises
    ------
    SheetError
        Values above 50 declared as log2; a sample without counts.
    """
    if unit == "log2":
        highest = np.argmax(values) if values.size else 0
        if values.size and values.flat[highest] > MAX_LOG2:
            sample = ids[int(highest) // values.shape[1]]
            cause = f"a value of {values.flat[highest]:g} (sample {sample}) can't be log2(x+1)"
            raise SheetError(where, cause, "set expression_unit: linear or counts")
        return values
    if values.size and values.max() < 25 and values.shape[1] > 500:
        log.info("%s: no value above 25; the table may already be log2 (unit is %s)", where, unit)
    if unit == "counts":
        total = values.sum(axis=1, dtype=np.float64, keepdims=True)
        empty = [ids[i] for i in np.flatnonzero(total[:, 0] == 0)]
        if empty:
            cause = f"sample {list_names(empty)} has only zero counts"
            raise SheetError(where, cause, "leave it out of the table and the sheet")
        values = values * (1e6 / total)
    return np.log2(values + 1)


def read_genes(path: str | Path) -> list[str]:
    """Return the distinct genes of a list file, sorted."""
    return sorted(set(read_gene_list(path)))


def read_gene_list(path: str | Path) -> list[str]:
    """Read a gene list in file order: the first cell of each line.

    A first line such as `gene` is a header.

    Raises
    ------
    SheetError
        The file can't be read, is empty, or has a line without a gene.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    separator = separator_of(lines[0]) if lines else ","
    names = [line.split(separator)[0].strip().strip('"') for line in lines]
    if names and names[0].lower() in GENE_HEADERS:
        names = names[1:]
    if not names or not all(names):
        raise SheetError(path, "no genes, or a line without one", "give one gene per line")
    return names


def _read_table(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Read a laboratory's table as (sample ids, gene names, float values)."""
    if path.suffix == ".parquet":
        try:
            table = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            cause = str(error).splitlines()[0]
            raise SheetError(path, cause, "give a readable Parquet file") from error
    else:
        table = _read_csv(path)
    if table.width < 2 or table.is_empty():
        raise SheetError(path, "no samples or no genes", "give a row per sample")
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    key = next((name for name in ID_NAMES if name in texts), texts[0] if texts else None)
    if key is None:
        raise SheetError(path, "no column with sample ids", "make the first column sample_id, text")
    genes = [name for name in table.columns if name != key]
    for name, kind in table.schema.items():
        if name != key and not kind.is_numeric():
            cell = f"{table[name][0]!s:.30}"
            cause = f"column '{name}' is not numeric (sample {table[key][0]}: {cell})"
            raise SheetError(path, cause, "fix or remove it: one id column, then numbers")
    ids = table[key].str.strip_chars()
    if ids.null_count() or (ids == "").any():
        row = int(np.flatnonzero((ids.fill_null("") == "").to_numpy())[0]) + 1
        raise SheetError(f"{path} row {row}", f"{key} is empty", "give every row a sample id")
    repeated = ids.filter(ids.is_duplicated()).unique().sort().to_list()
    if repeated:
        remedy = "keep one row per sample (or average them yourself)"
        raise SheetError(path, f"sample {list_names(repeated)} has several rows", remedy)
    # polars fills nulls of integer columns with NaN here, which the value check reports.
    values = table.select(pl.col(genes).cast(pl.Float32)).to_numpy()
    return ids.to_list(), genes, values


def _read_csv(path: Path) -> pl.DataFrame:
    """Read a text table with the id column as text and the others as float32."""
    text = read_text(path).lstrip("\r\n")
    header, _, body = text.partition("\n")
    header = header.strip("\r")
    separator = separator_of(header)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    names[0] = names[0] or "sample_id"  # R and pandas leave the corner empty
    if "" in names:
        cause = f"column {names.index('') + 1} has no name"
        raise SheetError(f"{path} line 1", cause, "name the gene or remove the column")
    repeated = duplicates(names)
    if repeated:
        raise SheetError(
            path, f"gene {list_names(repeated)} has several columns", "keep one of them"
        )
    key = next((name for name in ID_NAMES if name in names), names[0])
    kinds = {name: pl.String if name == key else pl.Float32 for name in names}
    if not body.strip():
        return pl.DataFrame(schema=kinds)
    try:
        table = pl.read_csv(
            stdio.BytesIO(body.encode()),
            has_header=False,
            separator=separator,
            schema=kinds,
            null_values=list(MISSING),
        )
    except pl.exceptions.PolarsError as error:
        _name_text_cell(path, text, separator, names, key)
        cause = str(error).splitlines()[0]
        raise SheetError(path, cause, "give every row as many cells as the header") from error
    if table[key].null_count():  # only then can there be blank lines
        table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    return table


def _name_text_cell(path: Path, text: str, separator: str, names: list[str], key: str) -> None:
    """Raise an error for the first cell that should be a number and isn't."""
    id_at = names.index(key)
    reader = csv.reader(stdio.StringIO(text), delimiter=separator)
    next(reader)
    for row in filter(None, reader):
        if len(row) != len(names):
            cause = f"{len(row)} cells, but the header has {len(names)}"
            remedy = "give every row as many cells as the header"
            raise SheetError(f"{path} line {reader.line_num}", cause, remedy)
        for index, cell in enumerate(row):
            if (
                index != id_at
                and cell.strip() not in MISSING
                and not NUMBER.fullmatch(cell.strip())
            ):
                cause = f"gene {names[index]} of sample {row[id_at]} is '{cell[:30]}', not a number"
                raise SheetError(f"{path} line {reader.line_num}", cause, "fix or remove it")


def _check_values(path: Path, ids: list[str], genes: list[str], values: np.ndarray) -> None:
    """Raise an error for missing, infinite or negative values."""
    for wrong, kind in (
        (~np.isfinite(values), "missing, NaN or infinite"),
        (values < 0, "negative"),
    ):
        if wrong.any():
            row, gene = np.argwhere(wrong)[0]
            cause = f"{int(wrong.sum())} values are {kind}, first gene {genes[gene]} of {ids[row]}"
            remedy = (
                "give log2(x+1), linear or counts, not z-scores"
                if kind == "negative"
                else "fill or remove the gene or the sample"
            )
            raise SheetError(path, cause, remedy)


def _column_order(path: Path, names: list[str], genes: list[str] | None) -> list[int]:
    """Return the columns of the genes to keep, in the genes' sorted order."""
    position = {name: column for column, name in enumerate(names)}
    if genes is not None:
        absent = [name for name in sorted(set(genes)) if name not in position]
        if absent:
            cause = (
                f"{len(absent)} of {len(set(genes))} listed genes are missing: {list_names(absent)}"
            )
            raise SheetError(path, cause, "fix the gene list or use the same gene annotation")
    return [position[name] for name in sorted(set(names) if genes is None else set(genes))]
