"""Spots and counts of an AnnData file, as scanpy, squidpy and HEST-1k write them."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

from slide2rna.core.errors import SheetError
from slide2rna.core.types import Array
from slide2rna.spatial.section import Measured

# Columns of obs that hold array coordinates, in the order of x and y.
ARRAY = (("array_col", "array_row"), ("array_x", "array_y"))


def read(path: Path) -> Measured:
    """Read spots from obsm["spatial"] (pixels) and raw counts.

    Counts are layer `counts` if there is one, else X. Whether they are whole numbers is checked
    with the section.

    Raises
    ------
    SheetError
        The file can't be read, or has no obsm["spatial"] of two columns.
    """
    try:
        data = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        cause = f"can't be read as AnnData ({str(error).splitlines()[0]})"
        raise SheetError(path, cause, "give an .h5ad file") from error
    if "spatial" not in data.obsm:
        raise SheetError(path, 'no obsm["spatial"]', "store the spots' pixel positions there")
    xy = np.asarray(data.obsm["spatial"], dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] < 2:
        cause = f'obsm["spatial"] has shape {xy.shape}'
        raise SheetError(path, cause, "give x and y of each spot")
    counts = data.layers.get("counts", data.X)
    if counts is None:
        raise SheetError(path, "no counts", "store raw counts in X or in layer counts")
    return Measured(
        genes=data.var_names.astype(str).tolist(),
        counts=sparse.csr_array(counts),
        spot_ids=data.obs_names.astype(str).tolist(),
        pixel_xy=xy[:, :2],
        array_xy=_array(data),
    )


def _array(data: anndata.AnnData) -> Array | None:
    for columns in ARRAY:
        if set(columns) <= set(data.obs.columns):
            return data.obs[list(columns)].to_numpy(dtype=np.float64)
    return None
