"""The model that a published state_dict is of: its settings, and what it must agree with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from slide2rna.core import config
from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError, WeightsError
from slide2rna.core.log import log
from slide2rna.flow.velocity import RNAFM
from slide2rna.pathways.membership import Pathways
from slide2rna.published import weight_names
from slide2rna.published.checkpoint_file import Checkpoint
from slide2rna.published.training_data import ORDER, TrainedSets
from slide2rna.published.weight_names import EMBEDDING, State

NULL = "empty_cond"
# Fixed in the published code; `heads` there is 8 where nobody says otherwise.
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


def shape_of(state: State, name: str, dimensions: int, source: Path) -> list[int]:
    if name not in state or state[name].ndim != dimensions:
        raise WeightsError(source, f"tensor {name} is missing or of another shape", OTHER)
    return list(state[name].shape)


def check_path(read: Checkpoint, source: Path) -> None:
    """Raise if the training's command line names another path or prediction than the linear flow's.

    Raises
    ------
    WeightsError
        It does.
    """
    for key, value in PATH.items():
        found = read.args.get(key)
        if isinstance(found, str) and found != value:
            cause = f"was trained with {key} {found}, which has no counterpart here"
            raise WeightsError(source, cause, f"give one trained with {key} {value}")


def settings_of(read: Checkpoint, features: int, source: Path, heads: int | None) -> Settings:
    """Section `model` of a published model, from shapes and the heads."""
    hidden = shape_of(read.state, EMBEDDING, 2, source)[1]
    blocks = len({name.split(".")[1] for name in read.state if name.startswith("blocks.")})
    stored = read.number("num_heads")
    if None not in (heads, stored) and heads != stored:
        raise ConfigError("--heads", f"{heads}, the checkpoint has {stored}", "leave it out")
    if heads is None and stored is None:
        log.warning("%d attention heads are assumed; --heads gives another number", HEADS)
    chosen = next(number for number in (heads, stored, HEADS) if number is not None)
    settings = config.defaults("model", **PUBLISHED, hidden=hidden, blocks=blocks, heads=chosen)
    for width, divisor in ((hidden, chosen), (features, chosen), (hidden, settings["graph_heads"])):
        if width % divisor:
            cause = f"{divisor} attention heads don't divide a width of {width}"
            raise ConfigError(f"{source} and --heads", cause, "give the heads of the training")
    return settings


def check_sets(
    state: State, sets: TrainedSets, pathways: Pathways, where: Path, source: Path
) -> None:
    """Raise unless number, sizes and overlaps of the sets are those of the weights."""
    count, _ = shape_of(state, EMBEDDING, 2, source)
    if len(sets.names) != count:
        raise WeightsError(where, f"{len(sets.names)} sets, the weights have {count}", ORDER)
    layers = [f"gene_embedder.gene_count_ebd.{number}.0.weight" for number in range(count)]
    layers.append("gene_embedder.bg_gene_count_ebd.0.weight")
    titles = [f"set '{name}' (number {i})" for i, name in enumerate(sets.names, start=1)]
    for title, members, layer in zip(
        [*titles, "the background"], [*sets.members, sets.background], layers, strict=True
    ):
        size = shape_of(state, layer, 2, source)[1]
        if len(members) != size:
            cause = f"{title} has {len(members)} of the genes, the weights are of {size}"
            raise WeightsError(where, cause, ORDER)
    for name, wanted in weight_names.masks(pathways).items():
        found = state.get(name)
        if found is None or found.shape != wanted.shape:
            raise WeightsError(source, f"tensor {name} is missing or not {count} x {count}", OTHER)
        if wrong := torch.nonzero(found != wanted).tolist():
            one, other = (sets.names[place] for place in wrong[0])
            share = "share a gene" if pathways.adjacency[tuple(wrong[0])] else "share no gene"
            cause = f"sets '{one}' and '{other}' {share}, but not in the checkpoint's {name}"
            raise WeightsError(where, cause, ORDER)


def leftovers(model: RNAFM, state: State, source: Path) -> State:
    """The tensors that the network here has no place for, after all others were checked."""
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


def without_counterpart(model: RNAFM, meta: dict[str, Any]) -> list[str]:
    settings = meta["settings"]["model"]
    found = [
        f"model.{key} {json.dumps(settings[key]).strip(chr(34))}"
        for key, value in PUBLISHED.items()
        if settings[key] != value
    ]
    if meta["interpolant"] != "linear":
        found.append(f"train.interpolant {meta['interpolant']}")
    if model.condition.project is not None:
        found.append("a projection of the features (model.heads doesn't divide their number)")
    if model.condition.feature_mean.any() or (model.condition.feature_scale != 1).any():
        found.append("features standardised by their train statistics")
    return found
