"""Spots and counts of a Space Ranger folder: matrix, positions and scale factors.

Files of https://www.10xgenomics.com/support/software/space-ranger: filtered_feature_bc_matrix.h5,
and spatial/ with tissue_positions.csv (before version 2.0 tissue_positions_list.csv, without a
header) and scalefactors_json.json.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core.errors import SheetError
from slide2rna.core.types import Um
from slide2rna.spatial.section import Measured

MATRIX = "filtered_feature_bc_matrix.h5"
POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv")
COLUMNS = (
    *("barcode", "in_tissue", "array_row", "array_col"),
    *("pxl_row_in_fullres", "pxl_col_in_fullres"),
)
PITCH: Um = 100.0  # centre to centre on a Visium array


def is_space_ranger(path: Path) -> bool:
    """Return whether a folder is Space Ranger's `outs`."""
    return (path / MATRIX).is_file()


def read(folder: Path) -> Measured:
    """Read the spots that Space Ranger found under tissue.

    Genes are named by their symbol; those of one symbol are added up.

    Raises
    ------
    SheetError
        A file is missing or isn't Space Ranger's, or no barcode has a position.
    """
    barcodes, genes, counts = _read_matrix(folder / MATRIX)
    positions = _read_positions(folder)
    inside = positions.filter(pl.col("in_tissue") == 1)
    rows = {barcode: row for row, barcode in enumerate(barcodes)}
    both = inside.filter(pl.col("barcode").is_in(barcodes))
    if both.is_empty():
        cause = f"no barcode ({barcodes[0]}) is in the positions ({positions['barcode'][0]})"
        raise SheetError(folder, cause, "give matrix and positions of one sample")
    return Measured(
        genes=genes,
        counts=counts[[rows[barcode] for barcode in both["barcode"]]],
        spot_ids=both["barcode"].to_list(),
        pixel_xy=both.select("pxl_col_in_fullres", "pxl_row_in_fullres").to_numpy().astype(float),
        array_xy=both.select("array_col", "array_row").to_numpy().astype(float),
        pitch_um=PITCH,
        dropped=(f"{len(barcodes) - both.height} spots with counts aren't under tissue",)
        if both.height < len(barcodes)
        else (),
    )


def _read_matrix(path: Path) -> tuple[list[str], list[str], sparse.csr_array]:
    """Return barcodes, symbols, and counts (n, G)."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            matrix = file["matrix"]
            shape = tuple(int(edge) for edge in matrix["shape"][:])
            parts = tuple(matrix[name][:] for name in ("data", "indices", "indptr"))
            barcodes = [name.decode() for name in matrix["barcodes"][:]]
            names = [name.decode() for name in matrix["features"]["name"][:]]
        # Columns of the file's matrix (features x barcodes) are spots, so its CSC is our CSR.
        counts = sparse.csr_array(parts, shape=shape[::-1])
        counts.check_format()
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        cause = f"isn't a Space Ranger matrix ({error})"
        raise SheetError(path, cause, "give filtered_feature_bc_matrix.h5 unchanged") from error
    symbols, column = np.unique(names, return_inverse=True)
    add_up = sparse.csr_array(
        (np.ones(len(names), dtype=np.int64), (np.arange(len(names)), column)),
        shape=(len(names), len(symbols)),
    )
    return barcodes, symbols.tolist(), sparse.csr_array(counts @ add_up)


def _read_positions(folder: Path) -> pl.DataFrame:
    found = [path for name in POSITIONS if (path := folder / "spatial" / name).is_file()]
    if not found:
        cause = f"no spatial/{POSITIONS[0]} in it"
        raise SheetError(folder, cause, "give Space Ranger's folder outs")
    has_header = found[0].name == POSITIONS[0]
    try:
        table = pl.read_csv(found[0], has_header=has_header, new_columns=list(COLUMNS))
        return table.with_columns(pl.col("barcode").cast(pl.String))
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        raise SheetError(found[0], cause, "give Space Ranger's file unchanged") from error
