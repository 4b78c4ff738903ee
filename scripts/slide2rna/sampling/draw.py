"""Draws and posterior means of a network, in batches within a memory budget."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.devices import autocast, autocast_dtype
from slide2rna.core.seeds import rng_for
from slide2rna.core.settings import SampleSettings
from slide2rna.flow import solvers
from slide2rna.flow.velocity import RNAFM

# More rows gain nothing on a CPU (measured), and a restart loses at most one batch.
CPU_ROWS = 128
# Python, torch and other libraries, and the buffers around a chunk of draws (measured).
PROCESS_BYTES = 500 * 2**20
# Fragmentation: factor on the memory in use for freed pieces that can't be reused (measured).
FRAGMENTS = 1.5


def noise(
    seed: int, fold: int, slide_id: str, rows: int, width: int, kind: str, first: int = 0
) -> Tensor:
    """Return standard normal noise (rows, width) of one slide, draws `first`, `first` + 1, ...

    Every draw has a random stream, so it is bit-identical on any device and for any division into
    chunks. Numpy's generators don't depend on the processor.
    """
    out = np.empty((rows, width), dtype=np.float32)
    for row in range(rows):
        stream = rng_for(seed, "sample", fold, slide_id, kind, first + row)
        stream.standard_normal(out=out[row], dtype=np.float32)
    return torch.from_numpy(out)


def row_bytes(model: RNAFM) -> int:
    """Estimate the peak memory per row of a forward pass from the sizes of its activations."""
    hidden = model.null.numel()
    p, cells = len(model.layout.order), len(model.layout.gather)
    width = 4 * hidden
    if model.pathway_graph is not None:
        width = max(width, model.pathway_graph.width)
    numbers = 3 * cells + 8 * model.pathways.n_genes + p * (8 * hidden + 2 * width)
    return int(4 * FRAGMENTS * numbers)


def rows_per_chunk(model: RNAFM, memory_mb: int, device: torch.device) -> int:
    """Return the rows (slides x draws) per batch that fit the memory budget with the weights."""
    weights = sum(value.nbytes for value in model.state_dict().values())
    left = memory_mb * 2**20 - weights
    if device.type == "cpu":
        left -= PROCESS_BYTES
    rows = max(1, left // row_bytes(model))
    return min(rows, CPU_ROWS) if device.type == "cpu" else rows


@torch.inference_mode()
def draw(
    model: RNAFM, image: Tensor, white: Tensor, settings: SampleSettings, rows: int | None = None
) -> Tensor:
    """Draw profiles in standardised units.

    Parameters
    ----------
    model
        In eval mode.
    image
        (S, h) from `encode_image`.
    white
        (S, D, noise_width) white noise; it is coloured here.
    settings
        steps, solver, guidance, precision.
    rows
        Maximum rows per forward pass; all by default.

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
            end = solvers.solve(
                field, start_x, settings["steps"], settings["solver"], model.path, sd
            )
            out[part] = end.view(out[part].shape)
    return out


def _field(
    model: RNAFM, image: Tensor, scale: float = 1, dtype: torch.dtype | None = None
) -> solvers.Velocity:
    active = model.active

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with autocast(x.device, dtype):
            return model(x, t, image, scale) * active

    return velocity


@torch.inference_mode()
def point(
    model: RNAFM, image: Tensor, white: Tensor, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the one-step posterior mean of one slide and its spread, in log2(x+1) units.

    Always without guidance: only the conditional field at scale 1 has the mean of p(x | y).

    Parameters
    ----------
    image
        (1, h).
    white
        (m, noise_width) white noise; it is coloured here and used with both signs.
    rows
        Maximum rows per forward pass; all by default.
    """
    x0, field = model.color(white), _field(model, image)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([field(part, t) for part in x.split(rows or len(x))])

    mean, spread = solvers.posterior_mean(velocity, x0 * model.active, model.path)
    return model.restore_mean(mean), spread * model.gene_sd
