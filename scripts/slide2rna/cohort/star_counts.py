"""STAR-counts files from GDC: one column of each file in a folder, gene by gene.

Layout: https://docs.gdc.cancer.gov/Data/Bioinformatics_Pipelines/Expression_mRNA_Pipeline/
"""

from __future__ import annotations

import io as stdio
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.cohort.gene_columns import check_printable, clean_names, warn_of_names
from slide2rna.core.delimited_text import read_text
from slide2rna.core.errors import SheetError, list_names
from slide2rna.core.log import progress
from slide2rna.storage.delimited import duplicates

STAR_COLUMNS = ("gene_id", "gene_name")


def star_files(folder: Path) -> list[Path]:
    """Return the folder's STAR-counts files by name, also those in a folder each (gdc-client's).

    Names that begin with a dot (macOS leaves `._A.tsv`) and folders `logs` don't count.
    """
    found = [
        path
        for pattern in ("*.tsv", "*.tsv.gz", "*/*.tsv", "*/*.tsv.gz")
        for path in folder.glob(pattern)
        if not path.name.startswith(".") and path.parent.name != "logs"
    ]
    return sorted(found, key=lambda path: (path.name, path))


def gene_ids(folder: Path) -> dict[str, str]:
    """Return the Ensembl id of each gene name that has one id in the folder's first file."""
    table = _read_star_file(star_files(folder)[0], "gene_type").select(STAR_COLUMNS)
    table = table.filter(~pl.col("gene_id").str.ends_with("_PAR_Y"))
    alone = table.filter(~pl.col("gene_name").is_duplicated())
    return dict(alone.select("gene_name", "gene_id").iter_rows())


def read_star(
    folder: Path, column: str, samples: list[str] | None = None
) -> tuple[list[str], list[str], np.ndarray]:
    """Read one column of a folder of STAR-counts files, as (sample ids, gene names, values).

    The N_ rows (unmapped reads and the like) and the PAR_Y copies of genes on both sex
    chromosomes are dropped. A gene name with several ids keeps the id with the highest mean over
    the samples (in a tie, the first in id order).
    """
    files = star_files(folder)
    ids = [file.name.split(".")[0] for file in files]
    if not files:
        raise SheetError(folder, "no .tsv or .tsv.gz file in it", "give the folder of STAR counts")
    repeated = duplicates(ids)
    if repeated:
        remedy = "a file's name up to the first dot is its sample: keep one file per sample"
        raise SheetError(folder, f"sample {list_names(repeated)} has several files", remedy)
    check_printable(folder, "sample's name", ids, "rename the file")
    if samples is not None:
        keep = sample_rows(folder, samples, ids, [])
        files, ids = [files[i] for i in keep], [ids[i] for i in keep]
    first = _read_star_file(files[0], column)
    if repeated := duplicates(first["gene_id"].to_list()):
        cause = f"gene_id {list_names(repeated)} occurs twice"
        raise SheetError(files[0], cause, "download the file again")
    values = np.empty((len(files), first.height), dtype=np.float32)
    for row, file in enumerate(progress(files, "expression files")):
        table = first if row == 0 else _read_star_file(file, column)
        if table.height != first.height or not (table["gene_id"] == first["gene_id"]).all():
            cause = f"its genes are not those of {files[0].name}"
            raise SheetError(file, cause, "give files of one GENCODE release")
        values[row] = table[column].to_numpy()
    candidates = first.select("gene_id", "gene_name").with_columns(
        pl.Series("mean", values.mean(axis=0, dtype=np.float64)),
        pl.int_range(pl.len()).alias("index"),
    )
    not_par_y = ~pl.col("gene_id").str.ends_with("_PAR_Y")
    best = candidates.filter(not_par_y).sort(
        ["gene_name", "mean", "gene_id"], descending=[False, True, False]
    )
    best = best.unique("gene_name", keep="first", maintain_order=True)
    names = clean_names(files[0], best["gene_name"].to_list())
    warn_of_names(files[0], names)
    return ids, names, values[:, best["index"].to_numpy()]


def genes_of_types(folder: Path, gene_types: list[str]) -> list[str]:
    """Return names in the folder's first file that have an id of one of these types."""
    first = star_files(folder)[0]
    table = _read_star_file(first, "gene_type")
    file_types = table["gene_type"].unique().sort().to_list()
    unknown = [name for name in gene_types if name not in file_types]
    if unknown:
        cause = f"no gene is of type '{unknown[0]}'"
        raise SheetError(first, cause, f"the file has, e.g., {list_names(file_types)}")
    not_par_y = ~pl.col("gene_id").str.ends_with("_PAR_Y")
    matching = table.filter(not_par_y & pl.col("gene_type").is_in(gene_types))
    return matching["gene_name"].unique().sort().to_list()


def _read_star_file(path: Path, column: str) -> pl.DataFrame:
    """Read gene_id, gene_name and one column of a file, directly from its bytes if possible."""
    columns = [*STAR_COLUMNS, column]
    kind = pl.String if column == "gene_type" else pl.Float32
    types = dict.fromkeys(STAR_COLUMNS, pl.String) | {column: kind}
    try:
        table = pl.read_csv(
            path, separator="\t", comment_prefix="#", columns=columns, schema_overrides=types
        )
        table = _genes_alone(table)
    except (OSError, pl.exceptions.PolarsError):
        return _decode_star_file(path, column)
    return _decode_star_file(path, column) if sum(table.null_count().row(0)) else table


def _genes_alone(table: pl.DataFrame) -> pl.DataFrame:
    """Return a file's rows without the N_ rows, which count reads without a gene."""
    names = table.with_columns(pl.col(STAR_COLUMNS).str.strip_chars().replace("", None))
    return names.filter(~pl.col("gene_id").str.starts_with("N_").fill_null(False))


def _decode_star_file(path: Path, column: str) -> pl.DataFrame:
    """Read the same from a file in UTF-16 or with old line ends; raise an error for a fault."""
    text = read_text(path)
    header = next((line for line in text[:10_000].splitlines() if line[:1] != "#"), "")
    columns = [*STAR_COLUMNS, column]
    absent = [name for name in columns if name not in header.split("\t")]
    if absent:
        cause = f"column '{absent[0]}' is missing"
        raise SheetError(path, cause, "give GDC 'augmented_star_gene_counts' TSV files")
    try:
        table = pl.read_csv(
            stdio.BytesIO(text.encode()),
            separator="\t",
            comment_prefix="#",
            columns=columns,
            schema_overrides=dict.fromkeys(columns, pl.String),
        )
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        raise SheetError(path, cause, "download the file again") from error
    table = _genes_alone(table)
    if (unnamed := table.filter(pl.any_horizontal(pl.col(STAR_COLUMNS).is_null()))).height:
        known = unnamed["gene_id"][0] or unnamed["gene_name"][0] or "a row"
        cause = f"{known} lacks its gene_id or gene_name"
        raise SheetError(path, cause, "download the file again")
    numbers = table[column].cast(pl.Float32, strict=False)
    if numbers.null_count():
        line = table.filter(numbers.is_null()).select(columns).row(0)
        cause = f"gene {line[1]} ({line[0]}) has the value '{line[2]}' in {column}"
        raise SheetError(path, cause, "download the file again")
    return table.with_columns(numbers.alias(column))


def sample_rows(path: Path, samples: list[str], ids: list[str], genes: list[str]) -> list[int]:
    """Return the rows of `samples` in a table; an error names samples without a row."""
    index = {name: row for row, name in enumerate(ids)}
    missing = sorted(set(samples) - index.keys())
    if not missing:
        return [index[name] for name in sorted(set(samples))]
    if set(samples) & set(genes):
        raise SheetError(path, "the samples are in its columns", "transpose it: one row per sample")
    cause = f"no expression for {list_names(missing)}"
    if len(missing) == len(set(samples)):
        cause += f" (none of the sheet's samples; its ids look like {list_names(sorted(ids)[:2])})"
    raise SheetError(path, cause, "add the rows, or remove the slides from the sheet")
