"""Expression tables: a laboratory's Parquet, CSV or TSV, or GDC STAR-counts files.

Each reader returns log2(x+1) as float32, samples and genes sorted, or raises one error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.cohort.expression_table import read_expression_table
from slide2rna.cohort.gene_columns import check_printable
from slide2rna.cohort.star_counts import genes_of_types, read_star, sample_rows
from slide2rna.core.delimited_text import read_text, split_header, split_line
from slide2rna.core.errors import SheetError, list_names
from slide2rna.core.log import log

# log2(x+1) of 50 would be 1e15 transcripts, which nobody measures: the table is linear.
MAX_LOG2 = 50.0
# From this many genes on, a table of counts or linear values has one above 25.
LOG_GENES = 50
GENE_HEADERS = ("gene", "genes", "gene_name", "symbol", "gene_symbol")


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
        ids, names, values = read_expression_table(path, samples)
        if samples is not None:
            keep = sample_rows(path, samples, ids, names)
            ids, values = [ids[i] for i in keep], values[keep]
    _check_values(path, ids, names, values)
    values = to_log2(path, ids, values, unit, names)
    if gene_types and genes is None:
        genes = genes_of_types(path, gene_types)
    order = _column_order(path, names, genes)
    rows = sorted(range(len(ids)), key=ids.__getitem__)
    values = np.ascontiguousarray(values[np.ix_(rows, order)].T, dtype=np.float32)
    columns = {names[g]: values[i] for i, g in enumerate(order)}
    return pl.DataFrame({"sample_id": [ids[i] for i in rows]} | columns)


def to_log2(
    where: object, ids: list[str], values: np.ndarray, unit: str, names: Sequence[str] = ()
) -> np.ndarray:
    """Transform values (samples x genes) from `unit` to log2(x+1); CPM is x / sum(x) * 1e6.

    Raises
    ------
    SheetError
        Values above 50 declared as log2; a sample without counts.
    """
    if unit == "log2":
        _check_log2(where, ids, values, names)
        return values
    if values.size and values.max() < 25 and values.shape[1] >= LOG_GENES:
        log.warning(
            "warning: %s: no value is above 25; if it is log2 already, set expression_unit: log2 "
            "(it is %s now)",
            *(where, unit),
        )
    if unit == "counts":
        total = values.sum(axis=1, dtype=np.float64, keepdims=True)
        empty = [ids[i] for i in np.flatnonzero(total[:, 0] == 0)]
        if empty:
            cause = f"sample {list_names(empty)} has only zero counts"
            raise SheetError(where, cause, "leave it out of the table and the sheet")
        values = values * (1e6 / total)
    return np.log2(values + 1)


def _check_log2(where: object, ids: list[str], values: np.ndarray, names: Sequence[str]) -> None:
    """Raise an error for values that can't be log2(x+1); it names the gene and the sample."""
    if not values.size or values.max() <= MAX_LOG2:
        return
    row, column = divmod(int(np.argmax(values)), values.shape[1])
    gene = f"gene {names[column]} of " if len(names) else ""
    cause = f"a value of {values[row, column]:g} ({gene}sample {ids[row]}) can't be log2(x+1)"
    above = int((values > MAX_LOG2).any(axis=0).sum())
    if values.shape[1] >= 10 and above <= max(1, values.shape[1] // 100):
        remedy = (
            f"only {above} of {values.shape[1]} columns have such values: remove what is no gene"
        )
    else:
        remedy = "set expression_unit: linear or counts"
    raise SheetError(where, cause, remedy)


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
    text = read_text(path)
    separator, skipped = split_header(text)
    names = [
        split_line(f"{path} line {number}", line, separator)[0]
        for number, line in enumerate(text.split("\n"), start=1)
        if number > skipped and line.strip()
    ]
    if names and names[0].lower() in GENE_HEADERS:
        names = names[1:]
    if not names or not all(names):
        raise SheetError(path, "no genes, or a line without one", "give one gene per line")
    check_printable(path, "gene", names)
    return names


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
