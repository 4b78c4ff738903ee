"""Training of a fold's network from a cohort's files, with a search over configurations."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from slide2rna import STEP_VERSIONS, __version__
from slide2rna.core import files
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.core.log import log
from slide2rna.core.rows import SEARCH_STEPS
from slide2rna.core.seeds import seed_for
from slide2rna.data import fold_rows, training_record
from slide2rna.data.statistics import feature_scaling
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.pathways import membership
from slide2rna.storage import parquet
from slide2rna.training import loop, resampled_bags
from slide2rna.training.build import build
from slide2rna.training.objective import FlowObjective, Objective, SquaredError, TensorPart
from slide2rna.training.outside import Outside, read_outside
from slide2rna.training.start import Start, search_rows
from slide2rna.training.targets import targets
from slide2rna.training.task import FoldTask, PartSlides, TrainingInputs


def fit_fold(
    inputs: TrainingInputs,
    out: Path,
    settings: dict[str, Any],
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int], None] | None = None,
) -> loop.Network:
    """Train one fold and write its model's folder.

    Every slide of the train part is a row, so a patient with two slides counts twice in the loss,
    as published. Means and sds are over samples, with equal weight.

    Parameters
    ----------
    settings
        `name` of the network, its section `model` (for networks other than the flow, their object
        of `baselines`), section `train`, and `search`: a list of further configurations, each an
        override of keys in these two sections.
    after_epoch
        Called with the number of each finished epoch, for tests.

    Raises
    ------
    StageError
        A part is empty, inputs don't match, or the loss becomes non-finite.
    """
    bagged = bag_file.load(inputs.bags)
    genes = fold_rows.gene_names(inputs.expression)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, inputs.slides, inputs.splits, inputs.fold)
    parts = {}
    for name in ("train", "val"):
        part_rows = rows.of(name)
        if not part_rows.slide_ids:
            raise StageError(
                f"fold {inputs.fold}", f"no slide in part {name}", "use more slides or fewer folds"
            )
        values = fold_rows.read_expression_matrix(inputs.expression, part_rows.sample_ids)
        parts[name] = PartSlides(
            *(bagged.means[part_rows.bag], bagged.sizes[part_rows.bag], values),
            *(part_rows.sample_ids, part_rows.units),
        )
    if inputs.resamples is not None:
        names, shape = rows.of("train").slide_ids, bagged.means.shape[1:]
        further = resampled_bags.read(inputs.resamples, names, shape)
        parts["train"] = replace(parts["train"], resamples=further)
    sets = membership.read_pathways(inputs.pathways, genes) if settings["name"] == "flow" else None
    task = FoldTask(
        parts["train"], parts["val"], genes, sets, inputs.fold, seed, bagged.scale, bagged.missing
    )
    outside = read_outside(inputs, bagged, genes)
    meta = {
        "version": __version__,
        "step_version": STEP_VERSIONS["train"],
        "torch": torch.__version__,
        "pathways": {"source": inputs.pathways.stem},
        "encoder": bagged.encoder,
        "device": device.type,
    }
    model = fit_network(task, settings, out, device, meta, after_epoch, outside)
    _write_record(out, inputs.slides, rows, outside)
    return model


def _write_record(out: Path, slides: Path, rows: fold_rows.FoldRows, outside: Outside) -> None:
    table = parquet.read(slides, columns=["slide_id", "patient_id"])
    patient = dict(table.iter_rows())
    seen = [
        (slide, patient[slide], part)
        for slide, part in zip(rows.slide_ids, rows.parts, strict=True)
        if part in ("train", "val")
    ]
    seen += [(*names, other.name) for other in outside.partners for names in other.seen]
    training_record.write(out, seen)


def fit_network(
    task: FoldTask,
    settings: dict[str, Any],
    out: Path,
    device: torch.device,
    meta: dict[str, Any],
    after_epoch: Callable[[int], None] | None = None,
    outside: Outside | None = None,
) -> loop.Network:
    """Train every configuration, keep the one with the least val loss, and write its folder.

    The folder holds model.safetensors, model.json, log.parquet and log.csv of the best
    configuration, and search.parquet with a row per configuration. If a configuration of the
    search diverges, it is left out, and its row has no loss. Checkpoints are in `checkpoint/` until
    all configurations are done.
    """
    tried: list[tuple[Settings, loop.Result | None]] = []
    best: tuple[dict[str, Any], loop.Result, Start | None] | None = None
    outside = outside or Outside()
    starts: dict[str, Start] = {}
    for number, override in enumerate([{}, *settings.get("search", [])]):
        config = _apply_override(settings, override)
        torch.manual_seed(seed_for(task.seed, "init", task.fold))
        model, fitted = build(task, config, outside, starts)
        train, val = (
            _tensor_part(model, slides, task.seed, device) for slides in (task.train, task.val)
        )
        objective: Objective
        if isinstance(model, RNAFM):
            objective = FlowObjective(
                *(val, task.val.units, model.noise_width, config, task.seed, task.fold, device)
            )
        else:
            objective = SquaredError(val, config["train"], device)
        log.info(
            "fold %d, %s, configuration %d %s: %d train and %d val slides, %d genes, "
            "%.1f M parameters",
            *(task.fold, config["name"], number, json.dumps(override), len(task.train.values)),
            *(len(task.val.values), len(task.genes), model.parameter_count / 1e6),
        )
        trainer = loop.Trainer(
            model, train, objective, config["train"], task.seed, task.fold, device
        )
        state = out / "checkpoint" / f"configuration-{number}.safetensors"
        try:
            result = loop.train_network(
                trainer, state, [meta, _task_key(task), config], after_epoch
            )
        except loop.DivergedError as error:
            if number == 0:
                raise
            log.warning("configuration %d is left out: %s", number, error)
            tried.append((override, None))
            continue
        tried.append((override, result))
        if best is None or result.loss < best[1].loss:
            best = (config, result, fitted)
    assert best is not None
    config, result, fitted = best
    _write_log(out, tried, result, fitted)
    model = result.model
    clusters, features = task.train.means.shape[1:]
    facts = meta | {
        "model": config["name"],
        "settings": {key: config[key] for key in ("model", "train")},
        "interpolant": config["train"]["interpolant"],
        "genes": task.genes,
        "constant_genes": int((model.gene_sd == 0).sum()),
        "features": features,
        "clusters": clusters,
        "feature_scale": feature_scaling(
            task.scale, task.missing, int((task.train.sizes > 0).sum())
        ),
        "fold": task.fold,
        "seed": task.seed,
        "parameters": model.parameter_count,
        "slides": {"train": len(task.train.values), "val": len(task.val.values)},
        "samples": {
            name: len(set(slides.sample_ids))
            for name, slides in (("train", task.train), ("val", task.val))
        },
        "configurations": len(tried),
        "best_epoch": result.progress.best_epoch,
        "epochs": result.progress.epoch,
        "val_loss": result.loss,
        "missing_features": {
            name: int(np.isnan(slides.means).sum())
            for name, slides in (("train", task.train), ("val", task.val))
        },
        **result.facts,
    }
    if fitted is not None:
        facts["fitted_shape"] = fitted.shape
        facts["own_weight"] = fitted.own_weight
        facts["uses_network"] = result.progress.best_epoch > 0
        facts["partners"] = {
            other.name: {"slides": len(other.seen), "left_out": other.left_out}
            for other in outside.partners
        }
        facts["start"] = None if outside.start is None else outside.start.name
    if task.train.resamples is not None:
        facts["resamples"] = task.train.resamples.number
    checkpoint.save_model(out, model, facts)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return model


def _task_key(task: FoldTask) -> list[Any]:
    """Identify the task of a checkpoint, apart from the settings and the slides."""
    sets = [] if task.sets is None else [task.sets.names, [s.tolist() for s in task.sets.index]]
    text = json.dumps([task.genes, sets])
    return [task.seed, task.fold, hashlib.sha256(text.encode()).hexdigest()]


def _apply_override(settings: dict[str, Any], override: Settings) -> dict[str, Any]:
    """Return settings with an override's keys in the section that has them."""
    config = {"name": settings["name"]}
    for section in ("model", "train"):
        base = settings[section]
        changes = {key: value for key, value in override.items() if key in base}
        config[section] = base | changes
    return config


def _tensor_part(
    model: loop.Network, slides: PartSlides, seed: int, device: torch.device
) -> TensorPart:
    z = targets(model, slides.values, slides.sample_ids, seed)
    means, sizes = torch.from_numpy(slides.means), torch.from_numpy(slides.sizes)
    return TensorPart(means, sizes, z, slides.resamples).to(device)


def _write_log(
    out: Path,
    tried: Iterable[tuple[Settings, loop.Result | None]],
    best: loop.Result,
    fitted: Start | None,
) -> None:
    log_rows = best.progress.log
    schema = {name: pl.Int64 if name == "epoch" else pl.Float64 for name in log_rows[0]}
    table = pl.DataFrame(log_rows, schema=schema)
    parquet.write(table, out / "log.parquet")
    # For people, spreadsheets and plotting tools.
    files.write_text(table.write_csv(), out / "log.csv")
    rows = [
        {
            "step": "network",
            "configuration": number,
            "settings": json.dumps(override, sort_keys=True),
            "epochs": result and result.progress.epoch,
            "best_epoch": result and result.progress.best_epoch,
            "val_loss": result and result.loss,
            "seconds": result and sum(row["seconds"] for row in result.progress.log),
            "chosen": result is best,
        }
        for number, (override, result) in enumerate(tried)
    ]
    steps = search_rows(fitted.tried) if fitted is not None else []
    parquet.write(pl.DataFrame([*steps, *rows], schema=SEARCH_STEPS), out / "search.parquet")
