"""Check of model.json: sizes, settings and gene sets, before a network takes memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

from jsonschema import Draft202012Validator

from slide2rna.core import config
from slide2rna.core.errors import ConfigError, has_control
from slide2rna.core.memory import free_bytes

FLOW = "flow"
# Networks whose weights are counted from their settings; a user's own network has its own layers.
COUNTED = ("abmil", "he2rna", "trnasformer", "sequoia")
# Bounds are far above what anybody uses; beyond them memory would be taken for nothing.
SIZE = {"type": "integer", "minimum": 1, "maximum": 1 << 16}
RANK = {"type": "integer", "minimum": 0, "maximum": 1 << 16}
TEXT = {"type": ["string", "null"], "maxLength": 1000}
SCALE = {
    "type": ["object", "null"],
    "properties": {
        "scale": {"enum": ["zscore", "signed_log", "rank"]},
        "missing": {"type": "boolean"},
        "knots": RANK,
    },
}
FITTED = {
    "type": ["object", "null"],
    "properties": {
        **dict.fromkeys(("head_rank", "own_head_rank", "gene_knots", "mixture_rank"), RANK),
        "mixture_is_mean": {"type": "boolean"},
    },
}
SETS = {
    "type": "object",
    "required": ["names", "index"],
    "properties": {
        "names": {"type": "array"},
        "index": {"type": "array", "minItems": 1},
        "outside": {"type": ["array", "null"]},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["model", "genes", "features", "clusters", "settings"],
    "properties": {
        "model": {"type": "string", "maxLength": 100},
        "genes": {"type": "array", "minItems": 1},
        "features": SIZE,
        "clusters": SIZE,
        "seed": {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1},
        "interpolant": {"enum": ["linear", "logistic"]},
        "one_step": {"type": "boolean"},
        "uses_network": {"type": "boolean"},
        "encoder": TEXT,
        "feature_scale": SCALE,
        "fitted_shape": FITTED,
        "settings": {
            "type": "object",
            "required": ["model"],
            "properties": {"model": {"type": "object"}},
        },
    },
    "if": {"properties": {"model": {"const": FLOW}}},
    "then": {"required": ["pathways", "interpolant"], "properties": {"pathways": SETS}},
}
# Per pair of gene sets: the overlap as int32, the graph as bool, and a copy of it.
BYTES_PER_PAIR = 6


def check_record(meta: Any) -> None:
    """Check the content of model.json.

    Raises
    ------
    ValueError
        A key is missing, of another type or out of range; gene sets aren't sets of these genes.
    """
    for error in Draft202012Validator(SCHEMA).iter_errors(meta):
        key = ".".join(map(str, error.path)) or "the whole"
        raise ValueError(f"{key}: {error.message[:120]}")
    genes = meta["genes"]
    _check_names(genes, "genes")
    if len(set(genes)) != len(genes):
        raise ValueError("genes: a name occurs twice")
    _check_settings(meta["model"], meta["settings"]["model"])
    if meta["model"] == FLOW:
        _check_sets(meta["pathways"], len(genes))


def least_values(meta: dict[str, Any]) -> int:
    """Return a number of weights that a network of this record has at least.

    A file with fewer can't be its own, so no memory is taken for such a network.
    """
    settings, genes, features = meta["settings"]["model"], len(meta["genes"]), meta["features"]
    if meta["model"] == FLOW:
        return _least_of_flow(meta, settings, genes, features)
    if meta["model"] not in COUNTED:
        return 0
    width = settings.get("hidden") or settings.get("width") or features
    layers = [features, *settings.get("layers", [] if width == features else [width])]
    inner = settings.get("heads", 0) * settings.get("head_size", 0)
    per_block = 3 * inner * width if inner else 2 * settings.get("mlp_ratio", 0) * width**2
    return (
        sum(a * b for a, b in itertools.pairwise(layers))
        + layers[-1] * genes
        + 2 * width * settings.get("attention", 0)
        + settings.get("blocks", 0) * per_block
        + (meta["clusters"] * width if settings.get("position") else 0)
    )


def _least_of_flow(
    meta: dict[str, Any], settings: dict[str, Any], genes: int, features: int
) -> int:
    hidden, heads = settings["hidden"], settings["heads"]
    width = -(-features // heads) * heads if settings["cluster_layers"] else features
    shape, scale = meta.get("fitted_shape") or {}, meta.get("feature_scale") or {}
    per_gene = shape.get("gene_knots", 0) + shape.get("mixture_rank", 0)
    per_gene += shape.get("head_rank", 0) if settings["skip"] == "ridge" else 0
    return (
        hidden**2 * len(meta["pathways"]["names"])
        + hidden**2 * settings["blocks"] * (4 + 2 * settings["mlp_ratio"])
        + width**2 * (1 + 4 * settings["cluster_layers"])
        + genes * per_gene
        + features * scale.get("knots", 0)
        + (0 if settings["cluster_weights"] else meta["clusters"] * width)
    )


def _check_names(names: list[Any], where: str) -> None:
    for name in names:
        if not isinstance(name, str) or not name.strip() or has_control(name):
            raise ValueError(f"{where}: {name!a:.60} is no name")


def _check_settings(model: str, settings: dict[str, Any]) -> None:
    try:
        if model == FLOW:
            config.check_section("model", settings, "model")
            widths = {"heads": settings["hidden"], "graph_heads": settings["hidden"]}
        else:
            config.check_section("baselines", {model: settings}, "model")
            widths = {}
    except ConfigError as error:
        raise ValueError(f"settings: {error}"[:200]) from error
    if not all(math.isfinite(value) for value in settings.values() if isinstance(value, float)):
        raise ValueError("settings: a number isn't finite")
    for name, width in widths.items():
        if settings[name] > width:
            raise ValueError(f"{name} is {settings[name]}, more than the width {width}")


def _check_sets(sets: dict[str, Any], n_genes: int) -> None:
    names, index = sets["names"], sets["index"]
    _check_names(names, "pathways.names")
    if len(names) != len(index):
        raise ValueError("pathways: not one name per gene set")
    if len(names) ** 2 * BYTES_PER_PAIR > free_bytes():
        raise ValueError(f"pathways: {len(names)} gene sets need more memory than there is")
    for members in [*index, sets.get("outside") or []]:
        if not isinstance(members, list) or not all(type(gene) is int for gene in members):
            raise ValueError("pathways: a gene set isn't a list of positions")
        inside = not members or (members[0] >= 0 and members[-1] < n_genes)
        if not inside or any(a >= b for a, b in itertools.pairwise(members)):
            raise ValueError("pathways: a gene set's indices aren't sorted positions of genes")
    if not all(index):
        raise ValueError("pathways: a gene set is empty")
