"""Draw file: a fold's draws and points, written slide by slide, and their summary table."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from zarr.codecs import ZstdCodec

from slide2rna.core import files
from slide2rna.core.log import log
from slide2rna.data.fold_rows import FoldRows
from slide2rna.sampling import draw_store
from slide2rna.sampling.draw_summary import QUANTILES, DrawStats
from slide2rna.storage import parquet

GENES_PER_CHUNK = 4096
# Draws of a slide per chunk of the file. An interrupted slide resumes after its last chunk.
DRAWS_PER_CHUNK = 128
# A flipped bit is an error when the chunk is read, and not another number.
CHECKED = ZstdCodec(level=0, checksum=True)


class DrawFile:
    """The zarr group of a fold, written slide by slide under a temporary name.

    `finish` renames it in one step. An interrupted run leaves `<name>.partial` and a folder with
    the state that isn't part of the file: finished slides, quantiles, and the statistics of a slide
    whose draws need more than one chunk. A rerun resumes if its inputs are the same (`key`);
    otherwise it starts over.

    Parameters
    ----------
    out
        Final path of the group.
    shape
        Slides, draws, genes. With 0 draws the file has only points.
    keep
        True to store the draws; their mean and sd are always stored.
    key
        Digest of all inputs of the values.
    """

    def __init__(self, out: Path, shape: tuple[int, int, int], keep: bool, key: str) -> None:
        self.out = out
        self.partial, self.work = (
            out.with_name(out.name + suffix) for suffix in (".partial", ".partial.work")
        )
        self.state, self.unfinished = self.work / "state.json", self.work / "slide.npz"
        self.key = key
        self.done: list[str] = []
        self.seconds = 0.0
        if self.partial.is_dir() and self.state.is_file():
            state = files.read_record(self.state)
            if state.get("key") == key:
                self.done, self.seconds = state["done"], state["seconds"]
                log.info("resuming after %d slides", len(self.done))
                self.group = zarr.open_group(self.partial, mode="r+")
                self.quantiles = zarr.open_group(self.work / "quantiles", mode="r+")
                return
        for folder in (self.partial, self.work):
            shutil.rmtree(folder, ignore_errors=True)
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self.group = zarr.create_group(self.partial, zarr_format=3)
        self.quantiles = zarr.create_group(self.work / "quantiles", zarr_format=3)
        slides, draws, genes = shape
        gene_chunk = min(genes, GENES_PER_CHUNK)
        if draws and keep:
            chunks = (1, min(draws, DRAWS_PER_CHUNK), gene_chunk)
            self.group.create_array(
                "draws",
                shape=shape,
                chunks=chunks,
                dtype="float16",
                fill_value=np.nan,
                compressors=CHECKED,
            )
        for name in ("point", "point_spread", "mean", "sd") if draws else ("point",):
            self.group.create_array(
                name,
                shape=(slides, genes),
                chunks=(1, gene_chunk),
                dtype="float32",
                fill_value=np.nan,
                compressors=CHECKED,
            )
        self.quantiles.create_array(
            "quantiles",
            shape=(slides, len(QUANTILES), genes),
            chunks=(1, len(QUANTILES), gene_chunk),
            dtype="float32",
            fill_value=np.nan,
            compressors=CHECKED,
        )
        self._write_state()

    def _write_state(self) -> None:
        state = {"key": self.key, "done": self.done, "seconds": self.seconds}
        files.write_json(state, self.state)

    def write_draws(self, row: int, first: int, values: np.ndarray) -> None:
        """Store a slide's draws from number `first` on, if the file has draws."""
        if "draws" in self.group:
            half = values.astype(np.float16)
            self.group["draws"][row, first : first + len(values)] = half  # type: ignore[index]

    def pause(self, slide_id: str, stats: DrawStats, seconds: float) -> None:
        """Store the statistics of a slide whose draws aren't finished."""
        with files.atomic(self.unfinished) as partial:
            arrays: dict[str, Any] = {"slide_id": slide_id, "seconds": seconds} | stats.state()
            np.savez(partial, **arrays)

    def resume(self, slide_id: str, genes: int) -> tuple[DrawStats, float]:
        """Return the statistics of a slide so far, and the seconds they took."""
        if self.unfinished.is_file():
            with np.load(self.unfinished) as stored:
                state = dict(stored)
            seconds = float(state.pop("seconds"))
            if str(state.pop("slide_id")) == slide_id:
                stats = DrawStats.from_state(state)
                log.info("resuming %s after %d draws", slide_id, stats.n)
                return stats, seconds
        return DrawStats(genes), 0.0

    def write(
        self, row: int, slide_id: str, values: Mapping[str, np.ndarray], seconds: float = 0.0
    ) -> None:
        """Write a slide's remaining draws, mark the slide done and record the solve time (s)."""
        for name, value in values.items():
            (self.quantiles if name == "quantiles" else self.group)[name][row] = value  # type: ignore[index]
        self.done.append(slide_id)
        self.seconds += seconds
        self._write_state()

    def finish(self, attributes: dict[str, Any]) -> None:
        """Store the attributes, and move the group to its final path."""
        self.group.attrs.update(attributes)
        draw_store.close(self.partial)
        if self.out.exists():
            shutil.rmtree(self.out)
        self.partial.rename(self.out)
        shutil.rmtree(self.work)

    def summarise(self, rows: FoldRows, genes: list[str], path: Path) -> None:
        """Write mean, sd, quantiles and point as a table, one row group per slide.

        Without draws (val slides, networks that aren't generative) a slide has only a point.
        """
        names = ["mean", "sd", *QUANTILES, "point"]
        schema = pa.schema(
            [(name, pa.string()) for name in ("slide_id", "part", "gene")]
            + [(name, pa.float32()) for name in names]
        )
        missing = np.full(len(genes), np.nan, dtype=np.float32)
        with parquet.writer(path, schema) as writer:
            for row, (slide, part) in enumerate(zip(rows.slide_ids, rows.parts, strict=True)):
                mean, sd, point = (
                    np.asarray(self.group[name][row]) if name in self.group else missing  # type: ignore[index]
                    for name in ("mean", "sd", "point")
                )
                columns = [mean, sd, *np.asarray(self.quantiles["quantiles"][row]), point]  # type: ignore[index]
                texts = [[slide] * len(genes), [part] * len(genes), genes]
                arrays = [pa.array(text) for text in texts]
                arrays += [pa.array(column) for column in columns]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
