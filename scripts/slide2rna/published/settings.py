"""Settings of a published model, and checks of its weights against sets and network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from slide2rna.core import config
from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError, WeightsError
from slide2rna.core.log import log
from slide2rna.core.settings import ModelSettings
from slide2rna.flow.velocity import RNAFM
from slide2rna.pathways.membership import Pathways
from slide2rna.published import weight_names
from slide2rna.published.checkpoint_file import Checkpoint
from slide2rna.published.training_data import ORDER, TrainedSets
from slide2rna.published.weight_names import EMBEDDING, State

NULL = "empty_cond"
# Fixed in the published code, whose default for `heads` is 8.
PUBLISHED: Settings = {
    "skip": "none",
    "cluster_weights": False,
    "graph": True,
    "graph_heads": 4,
    "mlp_ratio": 4,
    "cluster_layers": 2,
}
HEADS = 8
PATH = {"path_type": "Linear", "prediction": "velocity"}
OTHER = "this isn't a checkpoint of the published RNA-FM"


def tensor_shape(state: State, name: str, dimensions: int, source: Path) -> list[int]:
    """Return the shape of a tensor.

    Raises
    ------
    WeightsError
        The tensor is missing, or has another number of dimensions.
    """
    if name not in state or state[name].ndim != dimensions:
        raise WeightsError(source, f"tensor {name} is missing or of another shape", OTHER)
    return list(state[name].shape)


def check_path(published: Checkpoint, source: Path) -> None:
    """Check that the training used the linear path and predicted the velocity.

    Raises
    ------
    WeightsError
        The training's command line names another path or prediction.
    """
    for key, value in PATH.items():
        trained = published.args.get(key)
        if isinstance(trained, str) and trained != value:
            cause = f"was trained with {key} {trained}, which isn't supported"
            raise WeightsError(source, cause, f"give a checkpoint trained with {key} {value}")


def model_settings(
    published: Checkpoint, features: int, source: Path, heads: int | None
) -> ModelSettings:
    """Derive section `model` of a published model from shapes and the heads."""
    hidden = tensor_shape(published.state, EMBEDDING, 2, source)[1]
    blocks = len({name.split(".")[1] for name in published.state if name.startswith("blocks.")})
    stored = published.number("num_heads")
    if None not in (heads, stored) and heads != stored:
        raise ConfigError("--heads", f"{heads}, the checkpoint has {stored}", "leave it out")
    if heads is None and stored is None:
        log.warning("assuming %d attention heads; set another number with --heads", HEADS)
    chosen = next(number for number in (heads, stored, HEADS) if number is not None)
    settings = config.defaults("model", **PUBLISHED, hidden=hidden, blocks=blocks, heads=chosen)
    for width, divisor in ((hidden, chosen), (features, chosen), (hidden, settings["graph_heads"])):
        if width % divisor:
            cause = f"{divisor} attention heads don't divide a width of {width}"
            raise ConfigError(
                f"{source} and --heads", cause, "give the number of heads of the training"
            )
    return settings


def check_sets(
    state: State, sets: TrainedSets, pathways: Pathways, where: Path, source: Path
) -> None:
    """Raise WeightsError unless number, sizes and overlaps of the sets match the weights."""
    count, _ = tensor_shape(state, EMBEDDING, 2, source)
    if len(sets.names) != count:
        raise WeightsError(where, f"{len(sets.names)} sets, the weights have {count}", ORDER)
    layers = [f"gene_embedder.gene_count_ebd.{number}.0.weight" for number in range(count)]
    layers.append("gene_embedder.bg_gene_count_ebd.0.weight")
    titles = [f"set '{name}' (number {i})" for i, name in enumerate(sets.names, start=1)]
    for title, members, layer in zip(
        [*titles, "the background"], [*sets.members, sets.background], layers, strict=True
    ):
        size = tensor_shape(state, layer, 2, source)[1]
        if len(members) != size:
            cause = f"{title} has {len(members)} of the genes, the weights have {size}"
            raise WeightsError(where, cause, ORDER)
    for name, expected in weight_names.masks(pathways).items():
        stored = state.get(name)
        if stored is None or stored.shape != expected.shape:
            raise WeightsError(source, f"tensor {name} is missing or not {count} x {count}", OTHER)
        if differing := torch.nonzero(stored != expected).tolist():
            first, second = (sets.names[index] for index in differing[0])
            share = "share a gene" if pathways.adjacency[tuple(differing[0])] else "share no gene"
            cause = f"sets '{first}' and '{second}' {share}, but not in the checkpoint's {name}"
            raise WeightsError(where, cause, ORDER)


def extra_tensors(model: RNAFM, state: State, source: Path) -> State:
    """Check all tensors; return those that our network doesn't have."""
    rest = weight_names.check(model, state, source)
    rest = {name: value for name, value in rest.items() if name not in weight_names.MASKS}
    unused = ("gene_embedder.bg_", "bg_head.") if not len(model.pathways.background) else ()
    clusters = model.condition.cluster_index_emb
    assert clusters is not None
    if NULL not in rest or rest[NULL].shape != (1, *clusters.shape):
        raise WeightsError(source, f"tensor {NULL} is missing or of another shape", OTHER)
    for name in rest:
        if name != NULL and not name.startswith(unused):
            raise WeightsError(source, f"tensor {name} is unknown", OTHER)
    return rest


def unsupported_settings(model: RNAFM, meta: dict[str, Any]) -> list[str]:
    """List settings of a model that the published layout doesn't support."""
    settings = meta["settings"]["model"]
    unsupported = [
        f"model.{key} {json.dumps(settings[key]).strip(chr(34))}"
        for key, value in PUBLISHED.items()
        if settings[key] != value
    ]
    if meta["interpolant"] != "linear":
        unsupported.append(f"train.interpolant {meta['interpolant']}")
    if model.condition.project is not None:
        unsupported.append("a projection of the features (model.heads doesn't divide their number)")
    if model.condition.feature_mean.any() or (model.condition.feature_scale != 1).any():
        unsupported.append("features standardised by their train statistics")
    return unsupported
