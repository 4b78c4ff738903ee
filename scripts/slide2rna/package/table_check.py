"""Check of a packaged model's tables: columns, types and names, which may be a stranger's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core.errors import StageError, has_control

TEXT, NUMBER, TEXTS = "text", "numbers", "lists of text"
SCORES = dict.fromkeys(("r", "r_low", "r_high"), NUMBER) | {"reliability": TEXT}
GENES = {"gene": TEXT, "mean": NUMBER, "sd": NUMBER} | SCORES
PATHWAYS = {"pathway": TEXT, "name": TEXT, "genes": TEXTS, "n_genes": NUMBER} | SCORES
PATHWAYS |= {"train_mean": NUMBER, "train_sd": NUMBER}
REMEDY = "package the run again, or copy the whole folder"


def check_columns(path: Path, table: pl.DataFrame, columns: dict[str, str]) -> None:
    """Check that a table has these columns, each of its kind; a column of nulls has any.

    Raises
    ------
    StageError
        A column is missing or of another kind.
    """
    for name, kind in columns.items():
        if name not in table.columns:
            raise StageError(path, f"column {name} is missing", REMEDY)
        stored: Any = table.schema[name]
        fits = {
            TEXT: stored == pl.String,
            NUMBER: stored.is_numeric(),
            TEXTS: stored == pl.List(pl.String),
        }
        if not fits[kind] and table[name].null_count() < table.height:
            raise StageError(path, f"column {name} has no {kind}", REMEDY)


def check_genes(path: Path, table: pl.DataFrame) -> None:
    """Check genes.parquet: its columns, and a different name in each row.

    Raises
    ------
    StageError
        It isn't such a table.
    """
    check_columns(path, table, GENES)
    names = table["gene"].to_list()
    if not names or len(set(names)) < len(names) or not all(map(_is_name, names)):
        raise StageError(path, "a gene name is empty, repeated or not plain text", REMEDY)
    if not (table["mean"].is_finite() & table["sd"].is_finite() & (table["sd"] >= 0)).all():
        raise StageError(path, "a gene's mean or sd isn't a number", REMEDY)


def check_pathways(path: Path, table: pl.DataFrame, genes: list[str]) -> None:
    """Check pathways.parquet: its columns, and sets of these genes.

    Raises
    ------
    StageError
        It isn't such a table.
    """
    check_columns(path, table, PATHWAYS)
    if not all(map(_is_name, [*table["pathway"], *table["name"]])):
        raise StageError(path, "a gene set has no name", REMEDY)
    known = set(genes)
    for members in table["genes"].to_list():
        if not members or not known.issuperset(members):
            raise StageError(path, "a gene set isn't a list of the model's genes", REMEDY)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and not has_control(name)
