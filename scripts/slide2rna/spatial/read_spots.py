"""Spots and counts from delimited text: a table of positions, and one of spots x genes.

The layout of Andersson et al. 2021 (her2st) is one of them: spots are named by their rounded array
coordinates, such as 10x13, and positions have pixel_x and pixel_y.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core.delimited_text import read_text, split_header
from slide2rna.core.errors import SheetError, list_names
from slide2rna.core.types import Um
from slide2rna.spatial.section import Measured
from slide2rna.storage.delimited import LINE, read_table

PIXELS, ARRAY, REFINED = ("pixel_x", "pixel_y"), ("x", "y"), ("new_x", "new_y")
SPOT = "spot"
HER2ST_PITCH: Um = 200.0  # https://doi.org/10.1126/science.aaf2403


def read(counts_path: Path, spots_path: Path) -> Measured:
    """Read counts and positions and join them on the spots' names.

    Parameters
    ----------
    counts_path
        TSV or CSV, gzipped or not: a row per spot, its name first, then a column per gene.
    spots_path
        TSV or CSV with pixel_x and pixel_y, and either spot (the name) or x and y (array
        coordinates; the name is then XxY, rounded).

    Raises
    ------
    SheetError
        A column is missing or no number, a spot occurs twice, or no spot is in both files.
    """
    names, genes, counts = _read_counts(counts_path)
    spots = _read_positions(spots_path)
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) < len(names):
        raise SheetError(counts_path, "a spot occurs twice", "give each spot one row")
    both = [name for name in spots[SPOT] if name in rows]
    if not both:
        cause = f"none of its spots ({names[0]}) is in {spots_path.name} ({spots[SPOT][0]})"
        raise SheetError(counts_path, cause, "name the spots alike in both files")
    kept = spots.filter(pl.col(SPOT).is_in(both))
    refined = REFINED if set(REFINED) <= set(spots.columns) else ARRAY
    array = kept.select(refined).to_numpy() if set(refined) <= set(spots.columns) else None
    lost = []
    if spots.height > len(both):
        lost.append(f"{spots.height - len(both)} spots have a position and no counts")
    if len(names) > len(both):
        lost.append(f"{len(names) - len(both)} spots have counts and no position")
    return Measured(
        genes=genes,
        counts=counts[[rows[name] for name in both]],
        spot_ids=both,
        pixel_xy=kept.select(PIXELS).to_numpy(),
        array_xy=array,
        dropped=tuple(lost),
    )


def _read_counts(path: Path) -> tuple[list[str], list[str], sparse.csr_array]:
    """Return names, genes, and counts (n, G)."""
    text = read_text(path)
    separator, skipped = split_header(text)
    body = text.split("\n", skipped)[-1]
    try:
        table = pl.read_csv(io.StringIO(body), separator=separator, infer_schema_length=None)
        values = table.select(pl.all().exclude(table.columns[0]).cast(pl.Float64)).to_numpy()
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        raise SheetError(
            path, cause, "give a row per spot and a column of counts per gene"
        ) from error
    if not np.isfinite(values).all():
        raise SheetError(path, "a count is missing", "write 0 where a gene wasn't seen")
    names = [str(name) for name in table[:, 0]]
    return names, table.columns[1:], sparse.csr_array(values)


def _read_positions(path: Path) -> pl.DataFrame:
    """Return spot, pixel_x, pixel_y and the array coordinates that there are."""
    table = read_table(path).drop(LINE)
    named = SPOT in table.columns
    needed = [*PIXELS, *([] if named else ARRAY)]
    if absent := [column for column in needed if column not in table.columns]:
        cause = f"columns are missing: {list_names(absent)}"
        raise SheetError(path, cause, "give pixel_x and pixel_y, and spot or x and y")
    numbers = [name for name in (*PIXELS, *ARRAY, *REFINED) if name in table.columns]
    try:
        table = table.with_columns(pl.col(numbers).cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise SheetError(path, str(error).splitlines()[0], "give numbers") from error
    if not named:
        x, y = (pl.col(axis).round().cast(pl.Int64).cast(pl.String) for axis in ARRAY)
        table = table.with_columns((x + "x" + y).alias(SPOT))
    if table[SPOT].is_duplicated().any():
        twice = table.filter(pl.col(SPOT).is_duplicated())[SPOT][0]
        raise SheetError(path, f"spot {twice} occurs twice", "give each spot one row")
    return table.select(SPOT, *numbers)
