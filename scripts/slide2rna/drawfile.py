"""The file of a fold's draws and points, filled slide by slide, and its summary as a table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from pyarrow import parquet

from slide2rna import io
from slide2rna.cli import log
from slide2rna.data import Rows

GENES_PER_CHUNK = 4096
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


class DrawFile:
    """The zarr group of a fold, filled slide by slide beside its final name.

    `finish` renames it in one step. An interrupted run leaves `<name>.partial`; it is continued
    if its inputs are the same (`key`), else made anew.
    """

    def __init__(self, out: Path, shape: tuple[int, int, int], key: str) -> None:
        self.out = out
        self.partial = out.with_name(out.name + ".partial")
        self.state = out.with_name(out.name + ".partial.json")
        self.key = key
        self.done: set[str] = set()
        if self.partial.is_dir() and self.state.is_file():
            state = io.read_json(self.state)
            if state["key"] == key:
                self.done = set(state["done"])
        if self.done:
            log.info("going on after %d slides", len(self.done))
            self.group = zarr.open_group(self.partial, mode="r+")
            return
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self.group = zarr.create_group(self.partial, zarr_format=3)
        slides, draws, genes = shape
        wide = min(genes, GENES_PER_CHUNK)
        if draws:
            self.group.create_array(
                "draws", shape=shape, chunks=(1, draws, wide), dtype="float16", fill_value=np.nan
            )
        for name in ("point", "point_spread") if draws else ("point",):
            self.group.create_array(name, shape=(slides, genes), chunks=(1, wide), dtype="float32")

    def write(self, row: int, slide_id: str, **values: np.ndarray) -> None:
        for name, value in values.items():
            self.group[name][row] = value  # type: ignore[index]
        self.done.add(slide_id)
        io.write_json({"key": self.key, "done": sorted(self.done)}, self.state)

    def finish(self, attributes: dict[str, Any]) -> None:
        self.group.attrs.update(attributes)
        if self.out.exists():
            shutil.rmtree(self.out)
        self.partial.rename(self.out)
        self.state.unlink()


def summarise(group: zarr.Group, rows: Rows, genes: list[str], path: Path) -> None:
    """Mean, sd and quantiles of the stored draws, one row group per slide.

    Quantiles are order statistics at p (n + 1): numpy's default of 100 draws would make the 90 %
    interval of a perfect model cover 88.2 %. What has no draws (val slides) has a point alone.
    """
    names = ["mean", "sd", *QUANTILES, "point"]
    schema = pa.schema(
        [(name, pa.string()) for name in ("slide_id", "part", "gene")]
        + [(name, pa.float32()) for name in names]
    )
    with io.atomic(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
        for row, (slide, part) in enumerate(zip(rows.slide_ids, rows.parts, strict=True)):
            columns = [np.full(len(genes), np.nan) for _ in names[:-1]]
            if part != "val" and "draws" in group:
                draws = np.asarray(group["draws"][row], dtype=np.float32)  # type: ignore[index]
                levels = np.quantile(draws, list(QUANTILES.values()), axis=0, method="weibull")
                columns = [draws.mean(axis=0), draws.std(axis=0, ddof=1), *levels]
            columns.append(np.asarray(group["point"][row]))  # type: ignore[index]
            texts = [[slide] * len(genes), [part] * len(genes), genes]
            arrays = [pa.array(text) for text in texts]
            arrays += [pa.array(column.astype(np.float32)) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
