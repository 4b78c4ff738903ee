"""A stranger's model.json: each fault is one line, before memory is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from slide2rna.core import config, seal
from slide2rna.core.errors import WeightsError
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint, model_record
from slide2rna.models.regressor import Regressor
from slide2rna.package import predictor
from slide2rna.pathways.membership import Pathways

GENES = [f"G{i}" for i in range(20)]
ABSENT = object()
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fold model alone, as a stranger may send it."""
    torch.manual_seed(0)
    settings = config.defaults("model", hidden=16, blocks=1, heads=2, graph_heads=2)
    sets = Pathways(["a", "b"], [np.arange(9), np.arange(5, 17)], 20)
    meta = {"model": "flow", "genes": GENES, "features": 10, "clusters": 5}
    meta |= {"interpolant": "linear", "settings": {"model": settings}}
    checkpoint.save_model(tmp_path / "fold-0", RNAFM(sets, 10, 5, settings), meta)
    return tmp_path / "fold-0"


def change(folder: Path, key: str, value: Any) -> None:
    """Set or remove a key of model.json; dots lead into objects and lists."""
    meta = json.loads((folder / "model.json").read_text())
    meta.pop(seal.KEY, None)  # a stranger's record has no seal, or a right one
    inner = meta
    *path, last = key.split(".")
    for name in path:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is ABSENT:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    (folder / "model.json").write_text(json.dumps(meta))


def refused(folder: Path) -> str:
    """The line that reading the model ends with, by itself and as a model to predict with."""
    for read in (checkpoint.load_model, lambda path: predictor.load(path, "cpu").fold_models[0]):
        with pytest.raises(WeightsError) as caught:
            read(folder)
        assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("settings.model.hidden", [200_000, 16_384, 0, -8, True, "16", 16.5, None, ABSENT]),
        ("settings.model.blocks", [10**7, 16_384, -1, "1", None]),
        ("settings.model.cluster_layers", [10**6, 16_384]),
        ("settings.model.heads", [0, 10**9, 7_000_003]),
        ("settings.model.graph_heads", [0, 10**9]),
        ("settings.model.mlp_ratio", [10**9, -1]),
        ("settings.model.dropout", [7, "much", float("nan")]),
        ("settings.model.rank", ["zz"]),
        ("settings", [None, [], "x", ABSENT, {}]),
        ("settings.model", [None, [], 3, {}]),
        ("model", ["zzz", ["flow"], None, 3, ABSENT]),
        ("genes", [ABSENT, None, [], "G", list(range(20)), [["G"]] * 20, ["G"] * 20, ["", *"ab"]]),
        ("genes.0", ["  ", "A\u202eB", "A\x1b[1m", None, 1.5, {}]),
        ("features", [-3, 0, 10**12, None, "10"]),
        ("clusters", [10**12, 0, None, 2.5]),
        ("interpolant", ["zz", None, ABSENT]),
        ("seed", ["x", -1, 10**30]),
        ("one_step", [[1], "no"]),
        ("uses_network", ["no"]),
        ("encoder", [["a"], 3]),
        ("feature_scale", ["zz", {"scale": "zz"}, {"scale": "rank", "knots": 10**9}]),
        ("fitted_shape", [3, {"gene_knots": 10**9}, {"mixture_rank": 60_000}, {"head_rank": -1}]),
        ("pathways", [None, [], {}, {"names": [], "index": []}, ABSENT]),
        ("pathways.names.0", [None, 3, "a\u202e", ["a"]]),
        ("pathways.index", [[[1]], None, [[], [1]], ["ab", "cd"]]),
        ("pathways.index.0.0", [-1, -100_000, 0.5, "a", None, False, [0]]),
        ("pathways.index.0.8", [20, 500, 10**9, 10**30, 3]),
        ("pathways.outside", [[-1], [500], "ab", [3, 2]]),
        ("format", ["4", 3, None]),
    ],
)  # fmt: skip
def test_a_strangers_record(folder: Path, key: str, values: list[Any]) -> None:
    whole = (folder / "model.json").read_text()
    for value in values:
        (folder / "model.json").write_text(whole)
        change(folder, key, value)
        refused(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000, '{"a":' * 200_000, "[]", "3", "null", "NaN", "", "\0" * 9,
        '{"format": 4, "format": 4}', f'{{"format": {"9" * 5000}}}', "\udcff",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_text_that_is_no_record(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text, errors="surrogateescape")
    refused(folder)


def test_more_gene_sets_than_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_record, "free_bytes", lambda: 4 * model_record.BYTES_PER_PAIR - 1)
    assert "memory" in refused(folder)
    monkeypatch.setattr(model_record, "free_bytes", lambda: 4 * model_record.BYTES_PER_PAIR)
    checkpoint.load_model(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("theta", torch.full((20,), torch.inf)),
        ("theta", torch.full((20,), torch.nan)),
        ("gene_sd", torch.full((20,), -1.0)),
        ("condition.feature_scale", torch.zeros(10)),
        ("gene_mean", torch.zeros(20, dtype=torch.int8)),
        ("gene_sd", torch.ones(20, dtype=torch.bool)),
        ("gene_mean", torch.zeros(20, dtype=torch.complex64)),
    ],
)
def test_weights_that_no_training_gives(folder: Path, name: str, value: torch.Tensor) -> None:
    stored = load_file(folder / "model.safetensors")
    assert stored[name].shape == value.shape
    save_file(stored | {name: value}, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        checkpoint.load_model(folder)
    assert name in str(caught.value) or "complex" in str(caught.value).lower()


@pytest.mark.parametrize("clusters", [1, 5])
def test_no_network_is_smaller_than_its_least(clusters: int) -> None:
    """The bound holds for every network of the schema's defaults, made small."""
    sizes: dict[str, dict[str, Any]] = {
        "he2rna": {"layers": [8, 6]},
        "trnasformer": {"hidden": 8, "blocks": 2, "heads": 2, "position": True},
        "sequoia": {"width": 8, "blocks": 2, "heads": 2, "head_size": 3, "position": True},
        "abmil": {"hidden": 8, "attention": 4},
    }
    meta = {"genes": GENES, "features": 10, "clusters": clusters}
    for name, changes in sizes.items():
        settings = config.defaults("baselines")[name] | changes
        network = Regressor(name, 10, clusters, 20, settings)
        values = sum(value.numel() for value in network.state_dict().values())
        record = meta | {"model": name, "settings": {"model": settings}}
        assert values / 4 < model_record.least_values(record) <= values
    for skip, weights, heads in (("ridge", True, 2), ("none", False, 4), ("gaussian", True, 3)):
        changes = {"hidden": 24, "blocks": 2, "heads": heads, "graph_heads": 2}
        settings = config.defaults("model", **changes, skip=skip, cluster_weights=weights)
        shape = {"gene_knots": 5, "head_rank": 3, "own_head_rank": 2, "mixture_rank": 4}
        shape |= {"mixture_is_mean": False}
        scale = {"scale": "rank", "knots": 7}
        sets = Pathways(["a", "b"], [np.arange(9), np.arange(5, 17)], 20)
        flow = RNAFM(sets, 10, clusters, settings, "linear", scale, shape)
        values = sum(value.numel() for value in flow.state_dict().values())
        record = meta | {"model": "flow", "settings": {"model": settings}}
        record |= {"pathways": {"names": ["a", "b"]}, "fitted_shape": shape, "feature_scale": scale}
        assert values / 8 < model_record.least_values(record) <= values
