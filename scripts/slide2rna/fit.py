"""From the files of a cohort to one fold's trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slide2rna import STEP_VERSIONS, __version__, bags, data, pathways, train
from slide2rna.cli import log
from slide2rna.config import Settings
from slide2rna.errors import ConfigError, StageError
from slide2rna.io import seed_for
from slide2rna.model import RNAFM


@dataclass(frozen=True)
class Inputs:
    """Files of a cohort and the fold."""

    bags: Path
    expression: Path
    splits: Path
    slides: Path
    pathways: Path
    fold: int


def run(
    inputs: Inputs,
    out: Path,
    settings: dict[str, Settings],
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int], None] | None = None,
) -> RNAFM:
    """Train one fold and write its model's folder.

    Every slide of the train part is a row, so a patient with two slides counts twice in the loss,
    as published; means and sds are over samples, each once.

    Parameters
    ----------
    settings
        Sections `model` and `train`.
    after_epoch
        Called with the number of each finished epoch, for tests.

    Raises
    ------
    StageError
        A part is empty, inputs don't fit together, or the loss stops being finite.
    """
    bagged = bags.load(inputs.bags)
    genes = data.gene_names(inputs.expression)
    sets = pathways.load(inputs.pathways, genes)
    rows = data.fold_rows(bagged.slide_ids, inputs.slides, inputs.splits, inputs.fold)
    fitted, held = rows.of("train"), rows.of("val")
    for name, found in (("train", fitted), ("val", held)):
        if not found.slide_ids:
            raise StageError(
                f"fold {inputs.fold}", f"no slide in part {name}", "use more slides or fewer folds"
            )
    check_heads(settings["model"])
    torch.manual_seed(seed_for(seed, "init", inputs.fold))
    model = RNAFM(
        sets,
        bagged.means.shape[2],
        bagged.k,
        settings["model"],
        settings["train"]["interpolant"],
    )
    values = data.expression(inputs.expression, fitted.sample_ids)
    mean, sd = data.gene_statistics(values, fitted.sample_ids)
    feature_mean, feature_scale = data.feature_statistics(
        bagged.means[fitted.bag], bagged.sizes[fitted.bag]
    )
    for buffer, value in (
        (model.gene_mean, mean),
        (model.gene_sd, sd),
        (model.condition.feature_mean, feature_mean),
        (model.condition.feature_scale, feature_scale),
    ):
        buffer.copy_(torch.from_numpy(np.asarray(value)))

    def part(rows: data.Rows, values: np.ndarray) -> train.Part:
        return train.Part(
            torch.from_numpy(bagged.means[rows.bag]),
            torch.from_numpy(bagged.sizes[rows.bag]),
            model.standardise(torch.from_numpy(values)),
        )

    trainer = train.Trainer(
        model,
        part(fitted, values),
        part(held, data.expression(inputs.expression, held.sample_ids)),
        settings["train"],
        settings["model"]["condition_dropout"],
        seed,
        inputs.fold,
        device,
    )
    log.info(
        "fold %d: %d train and %d val slides, %d genes, %d sets, %.1f M parameters",
        *(inputs.fold, len(fitted.slide_ids), len(held.slide_ids), len(genes), len(sets.index)),
        sum(p.numel() for p in model.parameters()) / 1e6,
    )
    meta: dict[str, Any] = {
        "version": __version__,
        "step_version": STEP_VERSIONS["train"],
        "torch": torch.__version__,
        "settings": settings,
        "interpolant": settings["train"]["interpolant"],
        "genes": genes,
        "constant_genes": int((sd == 0).sum()),
        "pathways": {"source": inputs.pathways.stem},
        "encoder": bagged.encoder,
        "features": bagged.means.shape[2],
        "clusters": bagged.k,
        "fold": inputs.fold,
        "seed": seed,
        "device": device.type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "slides": {"train": len(fitted.slide_ids), "val": len(held.slide_ids)},
        "samples": {"train": len(set(fitted.sample_ids)), "val": len(set(held.sample_ids))},
    }
    return train.run(trainer, out, meta, after_epoch)


def check_heads(settings: Settings) -> None:
    """Refuse widths that the attention heads don't divide."""
    for key in ("heads", "graph_heads"):
        if settings["hidden"] % settings[key]:
            raise ConfigError(
                f"model.{key}",
                f"{settings[key]} heads don't divide model.hidden {settings['hidden']}",
                "choose a divisor",
            )
