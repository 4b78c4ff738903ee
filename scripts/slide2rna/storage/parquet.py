"""Parquet tables, written with checksums and compared with them when read.

Every page has a checksum, which other programs know, too; the seal covers names and statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from slide2rna.core import seal
from slide2rna.core.errors import StageError
from slide2rna.core.files import atomic

# Mapped: thousands of columns would be as many small reads.
CHECKED = {"page_checksum_verification": True, "memory_map": True}
MANY_COLUMNS = 1000


def write(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table atomically, with statistics, checksums and a seal."""
    arrow = table.to_arrow()
    with writer(path, arrow.schema) as out:
        out.write_table(arrow)


def write_stamped(
    table: pl.DataFrame, path: str | Path, stamp: dict[str, Any], caveat: str | None
) -> None:
    """Write a table with the stamp's columns first, unless it has them, and its caveat last."""
    stamped = table.select(
        *(pl.lit(value).alias(key) for key, value in stamp.items() if key not in table.columns),
        pl.all(),
        pl.lit(caveat, dtype=pl.String).alias("caveat"),
    )
    write(stamped, path)


@contextmanager
def writer(path: str | Path, schema: pa.Schema) -> Iterator[ParquetWriter]:
    """Yield a writer of row groups; the file appears when the block succeeds."""
    # A dictionary of numbers that rarely repeat costs time and space.
    texts = [field.name for field in schema if _is_text(field.type)]
    with atomic(path) as partial:
        with ParquetWriter(
            partial, schema, compression="zstd", use_dictionary=texts, write_page_checksum=True
        ) as out:
            yield out
            out.add_key_value_metadata({seal.KEY: seal.BLANK})
        seal.close(partial)


def read(
    path: str | Path, columns: Sequence[str] | None = None, remedy: str = seal.REMEDY
) -> pl.DataFrame:
    """Read a table of this program, or some of its columns in the given order.

    Raises
    ------
    StageError
        The file is damaged or isn't a table.
    FileNotFoundError
        The file is missing.
    """
    with open_table(path, remedy) as source:
        return _columns(source, columns)


def read_names(path: str | Path) -> list[str]:
    """Read the names of a table's columns; errors as in `read`."""
    with open_table(path) as source:
        return list(source.schema_arrow.names)


def count_rows(path: str | Path) -> int:
    """Read the number of a table's rows; errors as in `read`."""
    with open_table(path) as source:
        return int(source.metadata.num_rows)


def is_intact(path: Path) -> bool:
    """Return whether a table matches its seal; without one, whether it can be opened."""
    try:
        with open_table(path):
            return True
    except StageError:
        return False


@contextmanager
def open_table(path: str | Path, remedy: str = seal.REMEDY) -> Iterator[ParquetFile]:
    """Open a table, to read row groups; errors as in `read`, also within the block."""
    seal.check(path, remedy)
    try:
        with ParquetFile(path, **CHECKED) as source:
            yield source
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StageError(path, f"not a readable table ({_line(error)})", remedy) from error


def read_foreign(path: str | Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a table of the user, whose page checksums are verified if it has any.

    A copy of a table of this program may have the seal of its original, so none is checked.

    Raises
    ------
    OSError
        The file is missing, damaged or isn't a table.
    polars.exceptions.ColumnNotFoundError
        A column is missing.
    """
    try:
        with ParquetFile(path, **CHECKED) as source:
            return _columns(source, columns)
    except pa.ArrowException as error:
        raise OSError(_line(error)) from error


def _columns(source: ParquetFile, columns: Sequence[str] | None) -> pl.DataFrame:
    # A task per column costs more than it saves if columns are many and short.
    threads = source.metadata.num_columns <= MANY_COLUMNS
    arrow = source.read(columns=None if columns is None else list(columns), use_threads=threads)
    table: Any = pl.from_arrow(arrow.replace_schema_metadata(None))
    return table if columns is None else table.select(columns)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
