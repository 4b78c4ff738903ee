"""Draws of one fold by every sampler, one after the other in one process.

One process loads the model once, and its timings are of one machine under one load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import zarr

from slide2rna import checkpoint, io, sample
from slide2rna.bags import Bags
from slide2rna.cli import log
from slide2rna.data import Rows
from slide2rna.errors import StageError
from slide2rna.runs import Sampler


def run(
    model: Path,
    student: Path | None,
    samplers: Sequence[Sampler],
    bagged: Bags,
    rows: Rows,
    seed: int,
    fold: int,
    label: str,
    out: Path,
    device: torch.device,
) -> None:
    """Write `<out>/<name>.zarr` for every sampler; the folder is there only when all are done.

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
    done = io.read_json(state) if state.is_file() else {}
    for sampler in samplers:
        folder = student if sampler.student else model
        if folder is None:
            raise StageError(f"sampler {sampler.name}", "no student is given", "give --student")
        key = _key(folder, bagged, rows, sampler, seed, fold)
        if done.get(sampler.name) == key:
            continue
        log.info("fold %d: %s", fold, sampler.name)
        network, meta = checkpoint.load_model(folder, device)
        target = work / f"{sampler.name}.zarr"
        summary = work / f"{sampler.name}.parquet"
        sample.run(
            network,
            meta,
            (bagged.means, bagged.sizes),
            rows,
            sampler.settings,
            seed,
            fold,
            f"{label}.{sampler.name}",
            target,
            summary,
            device,
        )
        summary.unlink()  # the scores are made from the draws
        done[sampler.name] = key
        io.write_json(done, state)
    _keep(work, {f"{sampler.name}.zarr" for sampler in samplers})
    shutil.rmtree(out, ignore_errors=True)
    work.rename(out)


def _keep(folder: Path, names: set[str]) -> None:
    """Remove what samplers left that aren't listed any more."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)


def _key(
    folder: Path, bagged: Bags, rows: Rows, sampler: Sampler, seed: int, fold: int
) -> list[object]:
    weights = io.sha256sum(folder / "model.safetensors")
    text = json.dumps([sampler.settings, rows.slide_ids, rows.parts], sort_keys=True)
    # Like the weights, the bags are there before; their sum notices a folder that was made anew.
    return [weights, float(bagged.means[rows.bag].sum()), text, seed, fold]


def seconds(path: Path) -> float | None:
    """Seconds of solving per slide for 100 draws, from a draws file; None where it isn't told."""
    store = zarr.open_group(path, mode="r")
    told = store.attrs.get("draw_seconds")
    array = store.get("draws")
    if told is None or not isinstance(array, zarr.Array):
        return None
    return float(str(told)) * 100 / array.shape[1]
