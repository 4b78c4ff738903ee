"""Draws of expression profiles for the slides that a fold's training didn't see."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import zarr
from pyarrow import parquet
from torch import Tensor

from slide2rna import flow, io
from slide2rna.cli import log, progress
from slide2rna.config import Settings
from slide2rna.data import Rows
from slide2rna.devices import autocast, autocast_dtype, compile_model
from slide2rna.errors import StageError
from slide2rna.io import seed_for
from slide2rna.model import RNAFM

GENES_PER_CHUNK = 4096
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
# More rows gain nothing on a CPU (measured), and a restart loses at most one batch.
CPU_ROWS = 128


def noise(seed: int, fold: int, slide_id: str, rows: int, genes: int, kind: str) -> Tensor:
    """Standard normal (rows, genes) of one slide, the same on any device and in any chunk."""
    generator = torch.Generator().manual_seed(seed_for(seed, "sample", fold, slide_id, kind))
    return torch.randn(rows, genes, generator=generator)


def row_bytes(model: RNAFM) -> int:
    """Rough peak memory of one row of a forward pass, from the sizes of its activations."""
    hidden = model.null.numel()
    p, cells = len(model.layout.order), len(model.layout.gather)
    width = 4 * hidden
    if model.pathway_graph is not None:
        width = max(width, model.pathway_graph.width)
    return 4 * (3 * cells + 8 * model.pathways.n_genes + p * (8 * hidden + 2 * width))


def rows_per_chunk(model: RNAFM, memory_mb: int, device: torch.device) -> int:
    """Rows (slides x draws) of one batch within the memory budget."""
    rows = max(1, memory_mb * 2**20 // row_bytes(model))
    return min(rows, CPU_ROWS) if device.type == "cpu" else rows


@torch.inference_mode()
def draw(
    model: RNAFM, image: Tensor, x0: Tensor, settings: Settings, rows: int | None = None
) -> Tensor:
    """Draws in standardised units.

    Parameters
    ----------
    model
        In eval mode.
    image
        (S, h) from `encode_image`.
    x0
        (S, D, G) noise.
    settings
        steps, solver, guidance, precision.
    rows
        At most so many rows per forward pass; default all.

    Returns
    -------
    Tensor
        (S, D, G).
    """
    slides, draws, genes = x0.shape
    rows = rows or slides * draws
    active, sd = model.active, model.residual_sd()
    dtype = autocast_dtype(settings["precision"], x0.device)
    out = torch.empty_like(x0)
    block, depth = max(1, rows // draws), min(rows, draws)
    for first in range(0, slides, block):
        for start in range(0, draws, depth):
            part = (slice(first, first + block), slice(start, start + depth))
            condition = image[part[0]]
            start_x = (x0[part] * active).reshape(-1, genes)
            field = _field(model, condition, settings["guidance"], dtype)
            end = flow.solve(field, start_x, settings["steps"], settings["solver"], model.path, sd)
            out[part] = end.view(out[part].shape)
    return out


def _field(
    model: RNAFM, image: Tensor, scale: float = 1, dtype: torch.dtype | None = None
) -> flow.Velocity:
    active = model.active

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with autocast(x.device, dtype):
            return model(x, t, image, scale) * active

    return velocity


@torch.inference_mode()
def point(model: RNAFM, image: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """One-step posterior mean of one slide and its spread, in log2(x+1) units.

    Always without guidance: only the conditional field at scale 1 has the mean of p(x | y).

    Parameters
    ----------
    image
        (1, h).
    x0
        (m, G) noise, used with both signs.
    """
    mean, spread = flow.posterior_mean(_field(model, image), x0 * model.active, model.path)
    return model.restore(mean), spread * model.gene_sd


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
        self.group.create_array(
            "draws", shape=shape, chunks=(1, draws, wide), dtype="float16", fill_value=np.nan
        )
        for name in ("point", "point_spread"):
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


def run(
    model: RNAFM,
    meta: dict[str, Any],
    bags: tuple[np.ndarray, np.ndarray],
    rows: Rows,
    settings: Settings,
    seed: int,
    fold: int,
    out: str | Path,
    summary: str | Path,
    device: torch.device,
) -> None:
    """Sample all rows and write the draws and their summary.

    Val slides get their point alone, since val ranks genes and nothing else: draws are dear.

    Parameters
    ----------
    model, meta
        From `checkpoint.load_model`.
    bags
        Means (S, K, d) and sizes (S, K) of the cohort.
    rows
        The slides to sample.
    settings
        Section `sample`.
    out, summary
        zarr group and Parquet table.

    Raises
    ------
    StageError
        The bags don't fit the model, or draws aren't finite.
    """
    means, sizes = bags
    if means.shape[2] != meta["features"]:
        raise StageError(
            "bags",
            f"{means.shape[2]} features, the model has {meta['features']}",
            "use the encoder that the model was trained with",
        )
    if means.shape[1] != meta["clusters"]:
        raise StageError(
            "bags",
            f"{means.shape[1]} clusters per slide, the model has {meta['clusters']}",
            f"make the bags with bags.k {meta['clusters']}",
        )
    if settings["guidance"] != 1:
        log.warning(
            "guidance %g: the draws aren't from p(x | y), and no coverage is claimed",
            settings["guidance"],
        )
    genes: list[str] = meta["genes"]
    draws, pairs = settings["draws"], settings["mean_pairs"]
    file = DrawFile(
        Path(out),
        (len(rows.slide_ids), draws, len(genes)),
        _key(model, bags, rows, settings, seed, fold),
    )
    compile_model(model, settings["compile"], device)
    limit = rows_per_chunk(model, settings["memory_mb"], device)
    left = [i for i, name in enumerate(rows.slide_ids) if name not in file.done]
    for block in progress(list(_blocks(left, max(1, limit // draws))), f"fold {fold}: sampling"):
        where = rows.bag[block]
        with torch.inference_mode():
            image = model.encode_image(
                torch.from_numpy(means[where]).to(device), torch.from_numpy(sizes[where]).to(device)
            )
        names = [rows.slide_ids[i] for i in block]
        drawn = [place for place, row in enumerate(block) if rows.parts[row] != "val"]
        values = {}
        if drawn:
            start = torch.stack(
                [noise(seed, fold, names[i], draws, len(genes), "draws") for i in drawn]
            )
            z = draw(model, image[drawn], start.to(device), settings, limit)
            if not bool(z.isfinite().all()):
                raise StageError(
                    f"fold {fold}, slides {names[0]} to {names[-1]}",
                    "draws aren't finite",
                    "train again with a lower train.learning_rate",
                )
            found = model.restore(z).cpu().numpy().astype(np.float16)
            values = {place: {"draws": value} for place, value in zip(drawn, found, strict=True)}
        for place, (row, name) in enumerate(zip(block, names, strict=True)):
            x0 = noise(seed, fold, name, pairs, len(genes), "mean").to(device)
            mean, spread = point(model, image[place : place + 1], x0)
            file.write(
                row,
                name,
                **values.get(place, {}),
                point=mean.cpu().numpy(),
                point_spread=spread.cpu().numpy(),
            )
    _summarise(file.group, rows, genes, Path(summary))
    attributes: dict[str, Any] = {
        "slide_ids": rows.slide_ids,
        "parts": rows.parts,
        "genes": genes,
        "fold": fold,
        "steps": settings["steps"],
        "solver": settings["solver"],
        "guidance": settings["guidance"],
    }
    if settings["guidance"] != 1:
        attributes["note"] = "guided draws aren't from p(x given y): no coverage is claimed"
    file.finish(attributes)


def _blocks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _key(
    model: RNAFM,
    bags: tuple[np.ndarray, np.ndarray],
    rows: Rows,
    settings: Settings,
    seed: int,
    fold: int,
) -> str:
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for array in bags:
        digest.update(np.ascontiguousarray(array[rows.bag]).tobytes())
    text = json.dumps([sorted(settings.items()), seed, fold, rows.slide_ids, rows.parts])
    digest.update(text.encode())
    return digest.hexdigest()


def _summarise(group: zarr.Group, rows: Rows, genes: list[str], path: Path) -> None:
    """Mean, sd and quantiles of the stored draws, one row group per slide.

    Quantiles are order statistics at p (n + 1): numpy's default of 100 draws would make the 90 %
    interval of a perfect model cover 88.2 %. A val slide has a point and no draws.
    """
    names = ["mean", "sd", *QUANTILES, "point"]
    schema = pa.schema(
        [(name, pa.string()) for name in ("slide_id", "part", "gene")]
        + [(name, pa.float32()) for name in names]
    )
    with io.atomic(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
        for row, (slide, part) in enumerate(zip(rows.slide_ids, rows.parts, strict=True)):
            columns = [np.full(len(genes), np.nan) for _ in names[:-1]]
            if part != "val":
                draws = np.asarray(group["draws"][row], dtype=np.float32)  # type: ignore[index]
                levels = np.quantile(draws, list(QUANTILES.values()), axis=0, method="weibull")
                columns = [draws.mean(axis=0), draws.std(axis=0, ddof=1), *levels]
            columns.append(np.asarray(group["point"][row]))  # type: ignore[index]
            texts = [[slide] * len(genes), [part] * len(genes), genes]
            arrays = [pa.array(text) for text in texts]
            arrays += [pa.array(column.astype(np.float32)) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
