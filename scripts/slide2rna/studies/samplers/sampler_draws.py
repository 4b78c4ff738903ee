"""Draws of one fold by every sampler, and their solving times, in one process."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.core.log import log
from slide2rna.data.fold_rows import FoldRows
from slide2rna.features.bag_file import Bags
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.plan.runs import PlannedSampler
from slide2rna.sampling import draw, draw_store, fold_draws

ROUNDS = 3


def draw_samplers(
    model: Path,
    student: Path | None,
    samplers: Sequence[PlannedSampler],
    bagged: Bags,
    rows: FoldRows,
    seed: int,
    fold: int,
    label: str,
    out: Path,
    device: torch.device,
) -> None:
    """Write `<out>/<name>.zarr` for every sampler; the folder appears when all are done.

    Each file's attribute `solving_seconds` is the time of 100 draws of a slide.

    An interrupted run leaves `<out>.partial`. A rerun with the same inputs continues there with
    the next sampler.

    Parameters
    ----------
    model, student
        Folders of the fold's flow and of its one-step student, if a sampler needs one.
    rows
        The slides; val slides get points only.
    label
        The run's label; a sampler's label in its file is `<label>.<name>`.

    Raises
    ------
    StageError
        A sampler needs the student, but none is passed.
    """
    work = out.with_name(out.name + ".partial")
    state = work / "done.json"
    done = files.read_record(state)
    loaded: dict[Path, tuple[RNAFM, dict[str, Any]]] = {}
    networks: dict[str, RNAFM] = {}
    for sampler in samplers:
        folder = student if sampler.student else model
        if folder is None:
            raise StageError(f"sampler {sampler.name}", "the student is missing", "give --student")
        if folder not in loaded:
            network, meta = checkpoint.load_model(folder, device)
            if not isinstance(network, RNAFM):
                raise StageError(folder, "the model gives no draws", "sample a flow")
            loaded[folder] = network, meta
        networks[sampler.name], meta = loaded[folder]
        key = _key(folder, bagged, rows, sampler, seed, fold)
        if done.get(sampler.name) == key and (work / f"{sampler.name}.zarr").is_dir():
            continue
        log.info("fold %d: %s", fold, sampler.name)
        summary = work / f"{sampler.name}.parquet"
        fold_draws.sample_fold(
            networks[sampler.name],
            meta,
            (bagged.means, bagged.sizes),
            rows,
            sampler.settings,
            seed,
            fold,
            f"{label}.{sampler.name}",
            work / f"{sampler.name}.zarr",
            summary,
            device,
        )
        summary.unlink()  # scores are computed from the draws
        done[sampler.name] = key
        files.write_json(done, state)
    _remove_unlisted(work, {f"{sampler.name}.zarr" for sampler in samplers})
    for name, elapsed in _time_solving(networks, samplers, bagged, rows.of("test"), device).items():
        zarr.open_group(work / f"{name}.zarr", mode="r+").attrs["solving_seconds"] = elapsed
        draw_store.close(work / f"{name}.zarr")
    shutil.rmtree(out, ignore_errors=True)
    work.rename(out)


@torch.inference_mode()
def _time_solving(
    networks: dict[str, RNAFM],
    samplers: Sequence[PlannedSampler],
    bagged: Bags,
    rows: FoldRows,
    device: torch.device,
) -> dict[str, float]:
    """Measure the seconds of solving 100 draws of a slide, by sampler: the minimum of a few rounds.

    Every round runs all samplers. The time of the sampling itself would depend on the load of the
    machine: under load it was wrong by a factor of 4.
    """
    shortest: dict[str, float] = {}
    for _ in range(ROUNDS):
        for sampler in samplers:
            network, draws = networks[sampler.name], sampler.settings["draws"]
            limit = draw.rows_per_chunk(network, sampler.settings["memory_mb"], device)
            slides = min(len(rows.bag), max(1, limit // draws))
            means, sizes = (
                torch.from_numpy(array[rows.bag[:slides]]).to(device)
                for array in (bagged.means, bagged.sizes)
            )
            image = network.encode_image(means, sizes)
            white = torch.randn(slides, draws, network.noise_width, device=device)
            start = time.perf_counter()
            draw.draw(network, image, white, sampler.settings, limit).sum().item()
            elapsed = (time.perf_counter() - start) / slides * 100 / draws
            shortest[sampler.name] = min(elapsed, shortest.get(sampler.name, elapsed))
    return shortest


def _remove_unlisted(folder: Path, names: set[str]) -> None:
    """Remove the draws of samplers that are no longer listed."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)


def _key(
    folder: Path, bagged: Bags, rows: FoldRows, sampler: PlannedSampler, seed: int, fold: int
) -> list[object]:
    weights = files.sha256sum(folder / "model.safetensors")
    text = json.dumps([sampler.settings, rows.slide_ids, rows.parts], sort_keys=True)
    # The bags are an input, like the weights; their sum detects bags that were recomputed.
    return [weights, float(np.nansum(bagged.means[rows.bag])), text, seed, fold]


def seconds(path: Path) -> float | None:
    """Read the seconds of solving 100 draws of a slide from a sampler's file; None if missing."""
    stored = draw_store.open_draws(path).attrs.get("solving_seconds")
    return None if stored is None else float(str(stored))
