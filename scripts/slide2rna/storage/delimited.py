"""Delimited text tables, such as the sample sheet: read tolerantly, checked strictly.

Whole-column expressions check a table's content, and each kind of problem is one error that names
the file, the lines, the cause and the remedy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from slide2rna.core.delimited_text import read_cells
from slide2rna.core.errors import SheetError

LINE = "line"


def duplicates(names: list[str]) -> list[str]:
    """Return the names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def read_table(path: str | Path) -> pl.DataFrame:
    """Read a text table with every cell as a stripped string, and each row's line number.

    Returns
    -------
    polars.DataFrame
        The file's columns plus `line`; rows without any value are left out.

    Raises
    ------
    SheetError
        The file is no text table, repeats a column name, has a row with more or fewer cells
        than the header, a quotation mark that isn't closed on its line, or no row.
    """
    head, names, rows = read_cells(path)
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


def raise_for_rows(path: str | Path, bad: pl.DataFrame, cause: str, remedy: str) -> None:
    """Raise a SheetError that names the lines of `bad`, if it has any."""
    if bad.is_empty():
        return
    lines = bad[LINE].sort().to_list()
    listed = ", ".join(map(str, lines[:5])) + (
        f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    )
    raise SheetError(f"{path} line{'s' if len(lines) > 1 else ''} {listed}", cause, remedy)
