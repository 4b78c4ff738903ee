"""Bags file of a cohort, read whole or row by row.

Readers need no FAISS, which takes memory; `clusters` makes the bags.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from slide2rna import STEP_VERSIONS
from slide2rna.core.errors import StageError
from slide2rna.storage import tensors

ScaleKind = Literal["zscore", "signed_log", "rank"]
ARRAYS = ("means", "sizes", "color", "n_tiles")


@dataclass(frozen=True)
class Bags:
    """Bags of a cohort.

    Attributes
    ----------
    means : ndarray of float32, shape (S, k, d)
        Cluster means by decreasing size, padded with zeros.
    sizes : ndarray of float32, shape (S, k)
        Tiles per cluster; 0 is padding.
    color : ndarray of float32, shape (S, 6)
        Mean over tiles of mean and sd of R, G and B; NaN if unknown.
    n_tiles : ndarray of int64, shape (S,)
    slide_ids : list of str
        Sorted.
    encoder : str
    k : int
    scale : str
        Section features' scale; the values here aren't scaled yet.
    missing : bool
        Whether features may be missing (NaN), as in a vector per slide.
    """

    means: np.ndarray
    sizes: np.ndarray
    color: np.ndarray
    n_tiles: np.ndarray
    slide_ids: list[str]
    encoder: str
    k: int
    scale: ScaleKind = "zscore"
    missing: bool = False


@dataclass(frozen=True)
class StoredRows:
    """Array of a bags file, of which only the requested rows are read.

    Each row is read from a newly opened file, since rows read from an open file stay mapped.
    """

    path: Path
    name: str
    shape: tuple[int, ...]

    def __getitem__(self, rows: int | Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        if not np.ndim(rows):
            return self._row(int(rows))  # type: ignore[arg-type]
        return np.stack([self._row(int(row)) for row in rows])  # type: ignore[union-attr]

    def _row(self, row: int) -> NDArray[np.float32]:
        with safe_open(self.path, "numpy") as file:
            values: NDArray[np.float32] = file.get_slice(self.name)[row : row + 1][0]
        return values


def save(bags: Bags, path: Path, backend: str = "none") -> None:
    """Write bags as safetensors, atomically; `backend` is the library that ran the clustering."""
    metadata = {
        "slide_ids": json.dumps(bags.slide_ids),
        "encoder": bags.encoder,
        "k": str(bags.k),
        "backend": backend,
        "scale": bags.scale,
        "missing": str(int(bags.missing)),
        "version": str(STEP_VERSIONS["bags"]),
    }
    tensors.write(save_file, {name: getattr(bags, name) for name in ARRAYS}, path, metadata)


@contextmanager
def _open_bags(path: str | Path) -> Iterator[safe_open]:
    try:
        with tensors.open_checked(path) as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StageError(path, f"not a bags file ({error})", "rerun the stage bags") from error


def load(path: str | Path) -> Bags:
    """Read bags.

    Raises
    ------
    StageError
        The file is missing or damaged, isn't a bags file, or has means that aren't finite.
    """
    with _open_bags(path) as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in ARRAYS}
        ids, encoder = json.loads(metadata["slide_ids"]), metadata["encoder"]
        k, scale, missing = int(metadata["k"]), metadata["scale"], metadata["missing"] == "1"
    if not (missing or np.isfinite(arrays["means"]).all()):
        raise StageError(path, "means that aren't finite", "rerun the stage bags")
    return Bags(**arrays, slide_ids=ids, encoder=encoder, k=k, scale=scale, missing=missing)


def open_bags(path: str | Path) -> tuple[list[str], StoredRows, StoredRows]:
    """Return slide ids, means and sizes; each bag stays on disk until it is requested.

    Raises
    ------
    StageError
        The file is missing or isn't a bags file.
    """
    with _open_bags(path) as file:
        ids = json.loads(file.metadata()["slide_ids"])
        means, sizes = (
            StoredRows(Path(path), name, tuple(file.get_slice(name).get_shape()))
            for name in ("means", "sizes")
        )
    return ids, means, sizes
