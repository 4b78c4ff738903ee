"""Draws of expression profiles for the slides that a fold's training didn't see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slide2rna import flow, onestep
from slide2rna.cli import log, progress
from slide2rna.config import Settings
from slide2rna.data import Rows
from slide2rna.devices import autocast, autocast_dtype, compile_model
from slide2rna.drawfile import DrawFile, summarise
from slide2rna.errors import StageError
from slide2rna.io import seed_for
from slide2rna.model import RNAFM
from slide2rna.objective import REGRESSION_ROWS
from slide2rna.regressor import Regressor

# More rows gain nothing on a CPU (measured), and a restart loses at most one batch.
CPU_ROWS = 128


def noise(seed: int, fold: int, slide_id: str, rows: int, width: int, kind: str) -> Tensor:
    """Standard normal (rows, width) of one slide, the same on any device and in any chunk."""
    generator = torch.Generator().manual_seed(seed_for(seed, "sample", fold, slide_id, kind))
    return torch.randn(rows, width, generator=generator)


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
    model: RNAFM, image: Tensor, white: Tensor, settings: Settings, rows: int | None = None
) -> Tensor:
    """Draws in standardised units.

    Parameters
    ----------
    model
        In eval mode.
    image
        (S, h) from `encode_image`.
    white
        (S, D, noise_width) noise, coloured here.
    settings
        steps, solver, guidance, precision.
    rows
        At most so many rows per forward pass; default all.

    Returns
    -------
    Tensor
        (S, D, G).
    """
    slides, draws = white.shape[:2]
    genes = model.pathways.n_genes
    rows = rows or slides * draws
    active, sd = model.active, model.residual_sd()
    dtype = autocast_dtype(settings["precision"], white.device)
    out = white.new_empty(slides, draws, genes)
    block, depth = max(1, rows // draws), min(rows, draws)
    for first in range(0, slides, block):
        for start in range(0, draws, depth):
            part = (slice(first, first + block), slice(start, start + depth))
            condition = image[part[0]]
            start_x = (model.color(white[part]) * active).reshape(-1, genes)
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
def point(model: RNAFM, image: Tensor, white: Tensor) -> tuple[Tensor, Tensor]:
    """One-step posterior mean of one slide and its spread, in log2(x+1) units.

    Always without guidance: only the conditional field at scale 1 has the mean of p(x | y).

    Parameters
    ----------
    image
        (1, h).
    white
        (m, noise_width) noise, coloured here and used with both signs.
    """
    x0 = model.color(white)
    mean, spread = flow.posterior_mean(_field(model, image), x0 * model.active, model.path)
    return model.restore(mean), spread * model.gene_sd


def run(
    model: RNAFM | Regressor,
    meta: dict[str, Any],
    bags: tuple[np.ndarray, np.ndarray],
    rows: Rows,
    settings: Settings,
    seed: int,
    fold: int,
    label: str,
    out: str | Path,
    summary: str | Path,
    device: torch.device,
) -> None:
    """Predict all rows and write draws, points and their summary.

    Val slides get their point alone, since val ranks genes and nothing else: draws are dear. A
    network that isn't generative gives points and no draws.

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
    label
        The run's name among the cohort's models.
    out, summary
        zarr group and Parquet table.

    Raises
    ------
    StageError
        The bags don't fit the model, or predictions aren't finite.
    """
    onestep.check(meta, settings)
    means, _ = bags
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
    genes: list[str] = meta["genes"]
    generative = isinstance(model, RNAFM)
    draws = settings["draws"] if generative else 0
    shape = (len(rows.slide_ids), draws, len(genes))
    file = DrawFile(Path(out), shape, _key(model, bags, rows, settings, seed, fold))
    left = [i for i, name in enumerate(rows.slide_ids) if name not in file.done]
    attributes: dict[str, Any] = {
        "slide_ids": rows.slide_ids,
        "parts": rows.parts,
        "genes": genes,
        "fold": fold,
        "model": label,
    }
    if isinstance(model, RNAFM):
        compile_model(model, settings["compile"], device)
        _draw_all(model, file, bags, rows, left, settings, seed, fold, device)
        attributes |= {key: settings[key] for key in ("steps", "solver", "guidance")}
        if settings["guidance"] != 1:
            note = "guided draws aren't from p(x given y): no coverage is claimed"
            attributes["note"] = note
            log.warning("guidance %g: %s", settings["guidance"], note)
    else:
        _predict_all(model, file, bags, rows, left, fold, device)
    summarise(file.group, rows, genes, Path(summary))
    file.finish(attributes)


def _draw_all(
    model: RNAFM,
    file: DrawFile,
    bags: tuple[np.ndarray, np.ndarray],
    rows: Rows,
    left: list[int],
    settings: Settings,
    seed: int,
    fold: int,
    device: torch.device,
) -> None:
    draws, pairs, width = settings["draws"], settings["mean_pairs"], model.noise_width
    limit = rows_per_chunk(model, settings["memory_mb"], device)
    for block in progress(list(_blocks(left, max(1, limit // draws))), f"fold {fold}: sampling"):
        with torch.inference_mode():
            image = model.encode_image(*_bags(bags, rows, block, device))
        names = [rows.slide_ids[i] for i in block]
        drawn = [place for place, row in enumerate(block) if rows.parts[row] != "val"]
        values = {}
        if drawn:
            start = torch.stack([noise(seed, fold, names[i], draws, width, "draws") for i in drawn])
            z = draw(model, image[drawn], start.to(device), settings, limit)
            _check_finite(z, fold, names)
            found = model.restore(z).cpu().numpy().astype(np.float16)
            values = {place: {"draws": value} for place, value in zip(drawn, found, strict=True)}
        for place, (row, name) in enumerate(zip(block, names, strict=True)):
            white = noise(seed, fold, name, pairs, width, "mean").to(device)
            mean, spread = point(model, image[place : place + 1], white)
            points = {"point": mean.cpu().numpy(), "point_spread": spread.cpu().numpy()}
            file.write(row, name, **values.get(place, {}), **points)


@torch.inference_mode()
def _predict_all(
    model: Regressor,
    file: DrawFile,
    bags: tuple[np.ndarray, np.ndarray],
    rows: Rows,
    left: list[int],
    fold: int,
    device: torch.device,
) -> None:
    blocks = list(_blocks(left, REGRESSION_ROWS))
    for block in progress(blocks, f"fold {fold}: predicting"):
        names = [rows.slide_ids[i] for i in block]
        z = model(*_bags(bags, rows, block, device))
        _check_finite(z, fold, names)
        for row, name, value in zip(block, names, model.restore(z).cpu().numpy(), strict=True):
            file.write(row, name, point=value)


def _bags(
    bags: tuple[np.ndarray, np.ndarray], rows: Rows, block: list[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    where = rows.bag[block]
    means, sizes = (torch.from_numpy(array[where]).to(device) for array in bags)
    return means, sizes


def _check_finite(z: Tensor, fold: int, names: list[str]) -> None:
    if not bool(z.isfinite().all()):
        raise StageError(
            f"fold {fold}, slides {names[0]} to {names[-1]}",
            "predictions aren't finite",
            "train again with a lower learning_rate",
        )


def _blocks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _key(
    model: RNAFM | Regressor,
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
