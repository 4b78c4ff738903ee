"""Construction of a fold's network: train statistics, and the start that is fitted before it."""

from __future__ import annotations

import json
from typing import Any

import torch

from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError
from slide2rna.core.seeds import seed_for
from slide2rna.data.statistics import gene_statistics, scale_of
from slide2rna.flow.feature_scale import FeatureScale, Scale
from slide2rna.flow.velocity import RNAFM
from slide2rna.models.regressor import Regressor
from slide2rna.training.outside import Outside
from slide2rna.training.start import Start, fit_start
from slide2rna.training.task import FoldTask


def build(
    task: FoldTask,
    settings: dict[str, Any],
    outside: Outside,
    starts: dict[str, Start] | None = None,
) -> tuple[RNAFM | Regressor, Start | None]:
    """Build a network with initial weights and the statistics of the train slides.

    The start of a flow with `skip: ridge` is installed and returned too.

    Parameters
    ----------
    outside : external data for the fit of the start.
    starts : starts by section `model` as JSON; an existing start isn't fitted again.
    """
    means, sizes = task.train.means, task.train.sizes
    clusters, features = means.shape[1:]
    scale = scale_of(means, sizes, task.scale, task.missing)
    if settings["name"] == "flow":
        assert task.sets is not None
        check_heads(settings["model"])
        fitted = None
        if settings["model"]["skip"] == "ridge":
            key = json.dumps(settings["model"], sort_keys=True)
            known = {} if starts is None else starts
            if key not in known:
                known[key] = fit_start(task, scale, settings["model"], outside)
            fitted = known[key]
        # The initial weights don't depend on how long the start took.
        torch.manual_seed(seed_for(task.seed, "init", task.fold))
        flow = RNAFM(
            task.sets,
            features,
            clusters,
            settings["model"],
            settings["train"]["interpolant"],
            scale.scaling,
            None if fitted is None else fitted.shape,
        )
        _set_statistics(flow, flow.condition, task, scale)
        if fitted is not None:
            fitted.install(flow)
        return flow, fitted
    genes = len(task.genes)
    model = Regressor(settings["name"], features, clusters, genes, settings["model"], scale.scaling)
    _set_statistics(model, model, task, scale)
    return model, None


def _set_statistics(
    model: RNAFM | Regressor, features: FeatureScale, task: FoldTask, scale: Scale
) -> None:
    mean, sd = gene_statistics(task.train.values, task.train.sample_ids)
    model.gene_mean.copy_(torch.from_numpy(mean))
    model.gene_sd.copy_(torch.from_numpy(sd))
    features.load_state_dict(scale.state_dict(), strict=False)


def check_heads(settings: Settings) -> None:
    """Raise ConfigError if the attention heads don't divide the width."""
    for key in ("heads", "graph_heads"):
        if settings["hidden"] % settings[key]:
            raise ConfigError(
                f"model.{key}",
                f"{settings[key]} heads don't divide model.hidden {settings['hidden']}",
                "choose a divisor",
            )
