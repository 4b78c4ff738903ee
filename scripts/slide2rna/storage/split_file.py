"""Split table: splits.tsv, with its SHA-256 in a file next to it, as `sha256sum` writes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

from slide2rna.core.errors import StageError
from slide2rna.core.files import write_text

SCHEMA = {"unit": pl.String, "fold": pl.Int64, "part": pl.String}
SUFFIX = ".sha256"
REMEDY = "for folds of your own set cohorts.<name>.splits; otherwise delete it and rerun"


def digest_path(path: Path) -> Path:
    """Return the path of a split table's digest."""
    return path.with_name(path.name + SUFFIX)


def write(table: pl.DataFrame, path: str | Path) -> None:
    """Write the columns unit, fold and part, and the digest."""
    path, text = Path(path), table.write_csv(separator="\t")
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_text(f"{digest}  {path.name}\n", digest_path(path))
    write_text(text, path)


def read(path: str | Path) -> pl.DataFrame:
    """Read a split table, and compare it with its digest if it has one.

    Raises
    ------
    StageError
        The file isn't a split table, was damaged, or was edited by hand.
    """
    path = Path(path)
    if is_intact(path) is False:
        raise StageError(path, f"damaged or edited: it differs from {path.name}{SUFFIX}", REMEDY)
    try:
        table = pl.read_csv(path, separator="\t", schema_overrides=SCHEMA)
    except pl.exceptions.PolarsError as error:
        cause = f"not a table of unit, fold and part ({str(error).splitlines()[0]})"
        raise StageError(path, cause, REMEDY) from error
    if missing := SCHEMA.keys() - set(table.columns):
        raise StageError(path, f"no column {min(missing)}", REMEDY)
    return table


def is_intact(path: Path) -> bool | None:
    """Return whether a split table matches its digest; None without a digest."""
    if not digest_path(path).is_file():
        return None
    stored = digest_path(path).read_bytes()
    return stored == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n".encode()
