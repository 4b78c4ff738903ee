"""Draws of one fold by every sampler, and what each takes, in one process."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from slide2rna.sampling import draw, fold_draws

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
    """Write `<out>/<name>.zarr` for every sampler; the folder is there only when all are done.

    Each file's attribute `solving_seconds` says what 100 draws of a slide take.

    An interrupted run leaves `<out>.partial` and goes on there with the next sampler, if its
    inputs are the same.

    Parameters
    ----------
    model, student
        Folders of the fold's flow and of its one-step student, if a sampler asks for one.
    rows
        The slides; val slides get points alone.
    label
        The run's label; `<label>.<name>` is a sampler's in its file.

    Raises
    ------
    StageError
        A sampler asks for the student and there is none.
    """
    work = out.with_name(out.name + ".partial")
    state = work / "done.json"
    done = files.read_json(state) if state.is_file() else {}
    loaded: dict[Path, tuple[RNAFM, dict[str, Any]]] = {}
    networks: dict[str, RNAFM] = {}
    for sampler in samplers:
        folder = student if sampler.student else model
        if folder is None:
            raise StageError(f"sampler {sampler.name}", "no student is given", "give --student")
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
        summary.unlink()  # the scores are made from the draws
        done[sampler.name] = key
        files.write_json(done, state)
    _keep(work, {f"{sampler.name}.zarr" for sampler in samplers})
    for name, taken in _clock(networks, samplers, bagged, rows.of("test"), device).items():
        zarr.open_group(work / f"{name}.zarr", mode="r+").attrs["solving_seconds"] = taken
    shutil.rmtree(out, ignore_errors=True)
    work.rename(out)


@torch.inference_mode()
def _clock(
    networks: dict[str, RNAFM],
    samplers: Sequence[PlannedSampler],
    bagged: Bags,
    rows: FoldRows,
    device: torch.device,
) -> dict[str, float]:
    """Seconds of solving a slide's 100 draws, by sampler: the least of a few rounds.

    Within a round all samplers have their turn. The seconds of the sampling itself would compare
    what else the machine did meanwhile: under load they were wrong by a factor of 4.
    """
    least: dict[str, float] = {}
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
            began = time.perf_counter()
            draw.draw(network, image, white, sampler.settings, limit).sum().item()
            taken = (time.perf_counter() - began) / slides * 100 / draws
            least[sampler.name] = min(taken, least.get(sampler.name, taken))
    return least


def _keep(folder: Path, names: set[str]) -> None:
    """Remove what samplers left that aren't listed any more."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)


def _key(
    folder: Path, bagged: Bags, rows: FoldRows, sampler: PlannedSampler, seed: int, fold: int
) -> list[object]:
    weights = files.sha256sum(folder / "model.safetensors")
    text = json.dumps([sampler.settings, rows.slide_ids, rows.parts], sort_keys=True)
    # Like the weights, the bags are there before; their sum notices a folder that was made anew.
    return [weights, float(bagged.means[rows.bag].sum()), text, seed, fold]


def seconds(path: Path) -> float | None:
    """Seconds of solving a slide's 100 draws, from a sampler's file; None where it isn't told."""
    told = zarr.open_group(path, mode="r").attrs.get("solving_seconds")
    return None if told is None else float(str(told))
