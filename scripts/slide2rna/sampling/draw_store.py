"""Seal of a draws file: a digest over the names, shapes and attributes of its arrays.

Each chunk of numbers has a checksum, which zarr compares when it reads the chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from slide2rna.core import seal
from slide2rna.core.errors import StageError
from slide2rna.core.files import atomic
from slide2rna.core.types import Array

FILE, CHUNKS = "zarr.json", "chunk_files"
REMEDY = "delete the folder, then rerun snakemake"


def close(path: Path) -> None:
    """Seal a finished draws file, again if its attributes have changed."""
    group = zarr.open_group(path, mode="r+")
    group.attrs.update({seal.KEY: seal.BLANK, CHUNKS: _count(path)})
    content = (path / FILE).read_bytes()
    sealed = seal.close_bytes(content + _arrays(path))
    with atomic(path / FILE) as partial:
        partial.write_bytes(sealed[: len(content)])


def is_intact(path: Path) -> bool | None:
    """Return whether the metadata match their seal; None without a seal."""
    return seal.is_intact_bytes((path / FILE).read_bytes() + _arrays(path))


def open_draws(path: str | Path) -> zarr.Group:
    """Open a draws file to read it.

    Raises
    ------
    StageError
        Its metadata are damaged.
    FileNotFoundError
        It is missing.
    """
    path = Path(path)
    if (path / FILE).is_file() and is_intact(path) is False:
        raise seal.damage(path / FILE, REMEDY)
    try:
        return zarr.open_group(path, mode="r")
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(path, f"not a readable draws file ({error})", REMEDY) from error


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays; Snakemake adds a file that zarr would warn of."""
    return sorted(file.parent.name for file in path.glob(f"*/{FILE}"))


def check_count(path: Path, group: zarr.Group) -> None:
    """Count the files of chunks: zarr reads a lost one as missing values.

    Raises
    ------
    StageError
        Some are missing.
    """
    expected = group.attrs.get(CHUNKS)
    if expected is not None and _count(path) != expected:
        cause = f"{_count(path)} of {expected} files of chunks are there"
        raise StageError(path, cause, REMEDY)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn the errors of a chunk that doesn't match its checksum into one that names the file.

    Raises
    ------
    StageError
        A chunk is damaged.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise StageError(path, f"a chunk is damaged ({error})", REMEDY) from error


def read_profiles(path: Path, rows: Sequence[int]) -> tuple[Array, Array, str]:
    """Return predicted profiles (S, G), the draws' sd (NaN where missing), and their kind.

    Profiles are means of draws if the file has them (val slides have no draws), else points.

    Raises
    ------
    StageError
        The file is damaged.
    """
    store: Any = open_draws(path)
    mean, sd = np.full((2, len(rows), *store["point"].shape[1:]), np.nan)
    kind = "draws" if "mean" in store else "point"
    with reading(path):
        for index, row in enumerate(rows):
            if kind == "draws":
                mean[index], sd[index] = store["mean"][row], store["sd"][row]
            else:
                mean[index] = store["point"][row]
    return mean, sd, kind


def _count(path: Path) -> int:
    return sum(file.is_file() for file in path.glob("*/c/**/*"))


def _arrays(path: Path) -> bytes:
    """Return the metadata of all arrays of a group, in the order of their names."""
    return b"".join(file.read_bytes() for file in sorted(path.glob(f"*/{FILE}")))
