"""GDC's STAR-counts files: one column of a folder of them, gene by gene.

Layout: https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline/
"""

from __future__ import annotations

import io as stdio
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core.delimited import duplicates, read_text
from slide2rna.core.errors import SheetError, listing
from slide2rna.core.log import progress

STAR_COLUMNS = ("gene_id", "gene_name")


def read_star(
    folder: Path, column: str, samples: list[str] | None = None
) -> tuple[list[str], list[str], np.ndarray]:
    """One column of a folder of STAR-counts files, as (sample ids, gene names, values).

    The N_ rows (unmapped reads and their like) and the PAR_Y copies of genes on both sex
    chromosomes are dropped. A gene name with several ids keeps the id with the highest mean over
    the samples (of equals the first in id order).
    """
    files = sorted([*folder.glob("*.tsv"), *folder.glob("*.tsv.gz")])
    ids = [file.name.split(".")[0] for file in files]
    if not files:
        raise SheetError(folder, "no .tsv or .tsv.gz file in it", "give the folder of STAR counts")
    twice = duplicates(ids)
    if twice:
        remedy = "a file's name up to the first dot is its sample: keep one file per sample"
        raise SheetError(folder, f"sample {listing(twice)} has several files", remedy)
    if samples is not None:
        keep = sample_rows(folder, samples, ids, [])
        files, ids = [files[i] for i in keep], [ids[i] for i in keep]
    first = _star_file(files[0], column)
    values = np.empty((len(files), first.height), dtype=np.float32)
    for row, file in enumerate(progress(files, "expression files")):
        table = first if row == 0 else _star_file(file, column)
        if table.height != first.height or not (table["gene_id"] == first["gene_id"]).all():
            cause = f"its genes are not those of {files[0].name}"
            raise SheetError(file, cause, "give files of one GENCODE release")
        values[row] = table[column].to_numpy()
    choice = first.select("gene_id", "gene_name").with_columns(
        pl.Series("mean", values.mean(axis=0, dtype=np.float64)),
        pl.int_range(pl.len()).alias("index"),
    )
    real = ~pl.col("gene_id").str.ends_with("_PAR_Y")
    best = choice.filter(real).sort(
        ["gene_name", "mean", "gene_id"], descending=[False, True, False]
    )
    best = best.unique("gene_name", keep="first", maintain_order=True)
    return ids, best["gene_name"].to_list(), values[:, best["index"].to_numpy()]


def genes_of_types(folder: Path, gene_types: list[str]) -> list[str]:
    """Names in the folder's first file with an id of one of these types."""
    first = min([*folder.glob("*.tsv"), *folder.glob("*.tsv.gz")])
    table = _star_file(first, "gene_type")
    known = table["gene_type"].unique().sort().to_list()
    unknown = [name for name in gene_types if name not in known]
    if unknown:
        cause = f"no gene is of type '{unknown[0]}'"
        raise SheetError(first, cause, f"types there are, e.g., {listing(known)}")
    real = ~pl.col("gene_id").str.ends_with("_PAR_Y")
    wanted = table.filter(real & pl.col("gene_type").is_in(gene_types))
    return wanted["gene_name"].unique().sort().to_list()


def _star_file(path: Path, column: str) -> pl.DataFrame:
    """gene_id, gene_name and one column of a file, straight from its bytes where that works."""
    wanted = [*STAR_COLUMNS, column]
    number = pl.String if column == "gene_type" else pl.Float32
    types = dict.fromkeys(STAR_COLUMNS, pl.String) | {column: number}
    try:
        table = pl.read_csv(
            path, separator="\t", comment_prefix="#", columns=wanted, schema_overrides=types
        )
        table = table.filter(~pl.col("gene_id").str.starts_with("N_"))
    except (OSError, pl.exceptions.PolarsError):
        return _odd_star_file(path, column)
    return _odd_star_file(path, column) if table[column].null_count() else table


def _odd_star_file(path: Path, column: str) -> pl.DataFrame:
    """The same for a file in UTF-16, with old line ends or with a fault, which is named."""
    text = read_text(path)
    header = next((line for line in text[:10_000].splitlines() if line[:1] != "#"), "")
    wanted = [*STAR_COLUMNS, column]
    absent = [name for name in wanted if name not in header.split("\t")]
    if absent:
        cause = f"column '{absent[0]}' is missing"
        raise SheetError(path, cause, "give GDC 'augmented_star_gene_counts' TSV files")
    try:
        table = pl.read_csv(
            stdio.BytesIO(text.encode()),
            separator="\t",
            comment_prefix="#",
            columns=wanted,
            schema_overrides=dict.fromkeys(wanted, pl.String),
        )
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        raise SheetError(path, cause, "download the file again") from error
    table = table.filter(~pl.col("gene_id").str.starts_with("N_"))
    numbers = table[column].cast(pl.Float32, strict=False)
    if numbers.null_count():
        line = table.filter(numbers.is_null()).select(wanted).row(0)
        cause = f"gene {line[1]} ({line[0]}) has the value '{line[2]}' in {column}"
        raise SheetError(path, cause, "download the file again")
    return table.with_columns(numbers.alias(column))


def sample_rows(path: Path, samples: list[str], ids: list[str], genes: list[str]) -> list[int]:
    """Rows of `samples` in a table; an error names those without a row."""
    index = {name: row for row, name in enumerate(ids)}
    lost = sorted(set(samples) - index.keys())
    if not lost:
        return [index[name] for name in sorted(set(samples))]
    if set(samples) & set(genes):
        raise SheetError(path, "the samples are its columns", "transpose it: a row per sample")
    cause = f"no expression for {listing(lost)}"
    if len(lost) == len(set(samples)):
        cause += f" (none of the sheet's samples; its ids look like {listing(sorted(ids)[:2])})"
    raise SheetError(path, cause, "add the row, or take the slides out of the sheet")
