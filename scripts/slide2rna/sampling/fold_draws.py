"""Fold sampling: draws and points of the slides of a fold, written to a draw file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.devices import compile_model, release_freed_memory
from slide2rna.core.errors import StageError
from slide2rna.core.log import log, progress
from slide2rna.core.settings import SampleSettings
from slide2rna.data.fold_rows import FoldRows
from slide2rna.flow import one_step
from slide2rna.flow.velocity import RNAFM
from slide2rna.models.regressor import REGRESSION_ROWS, Regressor
from slide2rna.sampling import draw
from slide2rna.sampling.draw_file import DRAWS_PER_CHUNK, DrawFile
from slide2rna.sampling.draw_summary import BYTES_PER_GENE, DrawStats


class RowArray(Protocol):
    """An array of bags in memory, or on disk (`bag_file.StoredRows`)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Any) -> Any: ...


def sample_fold(
    model: RNAFM | Regressor,
    meta: dict[str, Any],
    bags: tuple[RowArray, RowArray],
    rows: FoldRows,
    settings: SampleSettings,
    seed: int,
    fold: int,
    label: str,
    out: str | Path,
    summary: str | Path,
    device: torch.device,
) -> None:
    """Predict all rows and write draws, points and their summary.

    Val slides get only points, since val only ranks genes and draws are expensive. A network that
    isn't generative gives only points.

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
        Paths of the zarr group and the Parquet table.

    Raises
    ------
    StageError
        The bags don't match the model, or predictions aren't finite.
    """
    one_step.check(meta, settings)
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
    job = _Job(bags, rows, settings, seed, fold, device)
    draws = settings["draws"] if isinstance(model, RNAFM) else 0
    shape = (len(rows.slide_ids), draws, len(genes))
    file = DrawFile(Path(out), shape, settings["keep"] == "draws", job.key(model))
    done = set(file.done)
    remaining = [i for i, name in enumerate(rows.slide_ids) if name not in done]
    attributes: dict[str, Any] = {
        "slide_ids": rows.slide_ids,
        "parts": rows.parts,
        "genes": genes,
        "fold": fold,
        "model": label,
    }
    if isinstance(model, RNAFM):
        compile_model(model, settings["compile"], device)
        _draw_all(model, job, file, remaining)
        attributes |= {key: settings[key] for key in ("steps", "solver", "guidance")}
        attributes["draw_seconds"] = file.seconds / max(1, sum(map(_needs_draws, rows.parts)))
        if settings["guidance"] != 1:
            note = "guided draws aren't from p(x given y): no coverage is claimed"
            attributes["note"] = note
            log.warning("guidance %g: %s", settings["guidance"], note)
    else:
        _predict_all(model, job, file, remaining)
    release_freed_memory()
    file.summarise(rows, genes, Path(summary))
    file.finish(attributes)


@dataclass(frozen=True)
class _Job:
    """Inputs of a fold's predictions other than the network; see `sample_fold`."""

    bags: tuple[RowArray, RowArray]
    rows: FoldRows
    settings: SampleSettings
    seed: int
    fold: int
    device: torch.device

    def noise(self, row: int, rows: int, width: int, kind: str, first: int = 0) -> Tensor:
        return draw.noise(self.seed, self.fold, self.rows.slide_ids[row], rows, width, kind, first)

    def read(self, block: list[int]) -> tuple[Tensor, Tensor]:
        """Read means and sizes of a block of slides' bags."""
        bag_rows = self.rows.bag[block]
        means, sizes = (torch.from_numpy(array[bag_rows]).to(self.device) for array in self.bags)
        return means, sizes

    def check(self, z: Tensor, block: list[int]) -> None:
        if not bool(z.isfinite().all()):
            first, last = (self.rows.slide_ids[block[position]] for position in (0, -1))
            raise StageError(
                f"fold {self.fold}, slides {first} to {last}",
                "predictions aren't finite",
                "retrain with a lower learning_rate",
            )

    def key(self, model: RNAFM | Regressor) -> str:
        """Hash all inputs of the values, reading one bag at a time.

        The memory budget isn't included, so a run with a smaller budget can resume.
        """
        digest = hashlib.sha256()
        for value in model.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8))
        for array in self.bags:
            for row in self.rows.bag:
                digest.update(np.ascontiguousarray(array[row]).tobytes())
        settings = sorted(
            (name, value) for name, value in self.settings.items() if name != "memory_mb"
        )
        names = [self.rows.slide_ids, self.rows.parts]
        digest.update(json.dumps([settings, self.seed, self.fold, *names]).encode())
        return digest.hexdigest()


def _needs_draws(part: str) -> bool:
    """Return True unless the part is val, which ranks genes by points and needs no draws."""
    return part != "val"


def _draw_all(model: RNAFM, job: _Job, file: DrawFile, remaining: list[int]) -> None:
    draws, rows = job.settings["draws"], job.rows
    memory_mb = job.settings["memory_mb"]
    # With more than a chunk of draws, one slide at a time, so memory holds one slide's statistics.
    streamed = draws > DRAWS_PER_CHUNK
    if streamed and job.device.type == "cpu":
        memory_mb -= model.pathways.n_genes * BYTES_PER_GENE // 2**20
    limit = draw.rows_per_chunk(model, memory_mb, job.device)
    slides = 1 if streamed else max(1, limit // draws)
    for block in progress(list(_blocks(remaining, slides)), f"fold {job.fold}: sampling"):
        with torch.inference_mode():
            image = model.encode_image(*job.read(block))
        drawn = [position for position, row in enumerate(block) if _needs_draws(rows.parts[row])]
        stats: dict[int, DrawStats] = {}
        seconds = 0.0
        if drawn:
            drawn_rows = [block[position] for position in drawn]
            stats, seconds = _draw_slides(model, job, file, image[drawn], drawn_rows, limit)
        for position, row in enumerate(block):
            white = job.noise(row, job.settings["mean_pairs"], model.noise_width, "mean")
            mean, spread = draw.point(
                model, image[position : position + 1], white.to(job.device), limit
            )
            values = {"point": mean.cpu().numpy(), "point_spread": spread.cpu().numpy()}
            share = 0.0
            if row in stats:
                values |= stats[row].result()
                share = seconds / len(stats)
            file.write(row, rows.slide_ids[row], values, share)
        if limit < draw.CPU_ROWS and job.device.type == "cpu":
            # The budget is tight: fragmented memory would accumulate from slide to slide.
            release_freed_memory()


def _draw_slides(
    model: RNAFM, job: _Job, file: DrawFile, image: Tensor, block: list[int], limit: int
) -> tuple[dict[int, DrawStats], float]:
    """Draw a block of slides chunk by chunk; return statistics by row, and seconds taken."""
    draws, width, name = job.settings["draws"], model.noise_width, job.rows.slide_ids[block[0]]
    stats, seconds = {row: DrawStats(model.pathways.n_genes) for row in block}, 0.0
    if len(block) == 1:
        stats[block[0]], seconds = file.resume(name, model.pathways.n_genes)
    for first in range(stats[block[0]].n, draws, DRAWS_PER_CHUNK):
        count = min(DRAWS_PER_CHUNK, draws - first)
        white = torch.empty(len(block), count, width)
        for position, row in enumerate(block):
            white[position] = job.noise(row, count, width, "draws", first)
        began = time.perf_counter()
        z = draw.draw(model, image, white.to(job.device), job.settings, limit)
        job.check(z, block)
        seconds += time.perf_counter() - began
        del white
        for position, row in enumerate(block):
            values = model.restore(z[position]).cpu().numpy()
            file.write_draws(row, first, values)
            stats[row].add(values)
        if first + count < draws:
            file.pause(name, stats[block[0]], seconds)
    return stats, seconds


@torch.inference_mode()
def _predict_all(model: Regressor, job: _Job, file: DrawFile, remaining: list[int]) -> None:
    blocks = list(_blocks(remaining, REGRESSION_ROWS))
    for block in progress(blocks, f"fold {job.fold}: predicting"):
        z = model(*job.read(block))
        job.check(z, block)
        for row, value in zip(block, model.restore(z).cpu().numpy(), strict=True):
            file.write(row, job.rows.slide_ids[row], {"point": value})


def _blocks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
