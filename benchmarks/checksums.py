"""Cost of checksums: tables, features and weights written and read with and without them.

The files lie in the page cache, so a ratio is the worst case: a disk takes longer for them.
The aim of at most 10 % isn't reached there; the targets only notice that a cost has grown.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
from common import compare, finish
from safetensors.numpy import load_file, save_file
from slide2rna.core import files
from slide2rna.features import feature_file
from slide2rna.storage import parquet, tensors

SAMPLES, GENES = 500, 20_000
SUMMARIES = 30
TILES, FEATURES = 4000, 1024
SLIDES, CLUSTERS = 200, 100
# Least share of the speed without checksums; for wide tables the yardstick is polars.
# Bags and features are copied at the speed of memory, which no digest reaches.
TARGETS = {"wide_table": 0.2, "long_table": 0.2, "features": 0.2, "bags": 0.15}

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def wide_table(folder: Path) -> tuple[Pair, Pair, float]:
    """Pair an expression table's writers, and its readers."""
    values = np.random.default_rng(0).gamma(4, 1, (SAMPLES, GENES)).astype(np.float32)
    return _table(folder, pl.DataFrame(values, schema=[f"G{i}" for i in range(GENES)]))


def long_table(folder: Path) -> tuple[Pair, Pair, float]:
    """Pair the writers and readers of a table with a row per slide and gene."""
    values = np.random.default_rng(0).gamma(4, 1, (SUMMARIES * GENES, 8)).astype(np.float32)
    genes = pl.Series("gene", [f"G{i}" for i in range(GENES)] * SUMMARIES)
    return _table(folder, pl.DataFrame(values).insert_column(0, genes))


def _table(folder: Path, frame: pl.DataFrame) -> tuple[Pair, Pair, float]:
    ours, theirs = folder / "ours.parquet", folder / "theirs.parquet"

    def plain() -> None:
        with files.atomic(theirs) as partial:
            frame.write_parquet(partial)

    write = (lambda: parquet.write(frame, ours), plain)
    read = (lambda: parquet.read(ours), lambda: pl.read_parquet(theirs))
    return write, read, frame.estimated_size()


def features(folder: Path) -> tuple[Pair, Pair, float]:
    """Pair the writers and readers of a slide's features."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(TILES, FEATURES)).astype(np.float32)
    slide = feature_file.Features(values, rng.integers(0, 99999, (TILES, 2)), None)
    ours, theirs = folder / "ours.h5", folder / "theirs.h5"

    def plain() -> None:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_dataset("features", data=values, track_times=False)
            file.create_dataset("coords", data=slide.coords, track_times=False)
        with files.atomic(theirs) as partial:
            partial.write_bytes(buffer.getbuffer())

    write = (lambda: feature_file.write(ours, slide, {}), plain)
    read = (lambda: feature_file.read(ours), lambda: feature_file.read(theirs))
    return write, read, values.nbytes


def bags(folder: Path) -> tuple[Pair, Pair, float]:
    """Pair the writers and readers of a cohort's bags."""
    rng = np.random.default_rng(0)
    arrays = {"means": rng.normal(size=(SLIDES, CLUSTERS, FEATURES)).astype(np.float32)}
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"

    def plain() -> None:
        with files.atomic(theirs) as partial:
            save_file(arrays, partial)

    write = (lambda: tensors.write(save_file, arrays, ours), plain)
    read = (lambda: tensors.read_all(ours), lambda: load_file(theirs))
    return write, read, arrays["means"].nbytes


def main() -> None:
    results = []
    for make in (wide_table, long_table, features, bags):
        with tempfile.TemporaryDirectory() as name:
            *both, size = make(Path(name))
            for action, (ours, theirs) in zip(("write", "read"), both, strict=True):
                results.append(
                    compare(
                        *(
                            f"{make.__name__.replace('_', ' ')}, {action} with checksums",
                            ours,
                            theirs,
                        ),
                        "without checksums",
                        TARGETS[make.__name__],
                        size / 1e6,
                        "MB/s",
                    )
                )
    finish(results)


if __name__ == "__main__":
    main()
