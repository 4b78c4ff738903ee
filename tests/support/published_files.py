"""Checkpoints in the published layout, and the files that a conversion needs beside them."""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

torch.set_num_threads(1)
REPO = Path(__file__).resolve().parents[2]
main: Callable[[list[str]], None] = runpy.run_path(str(REPO / "scripts" / "convert.py"))["main"]

D, K, H, BLOCKS, HEADS = 24, 5, 16, 2, 8
GENES = [f"G{i:02d}" for i in range(14)]
# Genes of a set aren't sorted, as in the published index files; 12, 13 and 5 are background.
INDEX = {
    "one": [7, 0, 3, 1],
    "UNMAPPED": [12, 13],
    "two": [3, 9, 2],
    "three": [11, 4],
    "UNCLASSIFIED": [5],
    "four": [10, 8, 6],
}
SETS = {name: genes for name, genes in INDEX.items() if name.islower()}
BACKGROUND = [12, 13, 5]


def weights(
    sets: list[list[int]], background: int, d: int = D, clusters: int = K, seed: int = 0
) -> dict[str, Tensor]:
    """A published state_dict with every number drawn at random, written down from the layout."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def draw(name: str, *shape: int) -> None:
        fan_in = shape[-1] if shape and shape[-1] else 1
        state[name] = torch.randn(shape, generator=generator) / fan_in**0.5

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        draw(f"{name}.weight", outputs, inputs)
        if bias:
            draw(f"{name}.bias", outputs)

    def norm(name: str, width: int) -> None:
        draw(f"{name}.weight", width)
        draw(f"{name}.bias", width)

    draw("empty_cond", 1, clusters, d)
    draw("cluster_index_emb", clusters, d)
    draw("gene_embedder.gene_pathway_ebd", len(sets), H)
    draw("gene_embedder.bg_gene_bias", 1, 1, H)
    linear("gene_embedder.bg_gene_count_ebd.0", background, H)
    linear("gene_embedder.bg_gene_count_ebd.2", H, H)
    for i, genes in enumerate(sets):
        linear(f"gene_embedder.gene_count_ebd.{i}.0", len(genes), H)
        linear(f"gene_embedder.gene_count_ebd.{i}.2", H, H)
        linear(f"final_layer.linear.{i}", H, len(genes))
        linear(f"final_layer.adaLN_modulation.{i}.1", H, 2 * H)
    blocked = torch.tensor([[not set(one) & set(other) for other in sets] for one in sets])
    state["pathway_graph.attn_mask"] = blocked
    state["pathway_graph.add_mask"] = torch.where(blocked, -1e4, 0.0)
    draw("pathway_graph.alpha")
    norm("pathway_graph.norm1", H)
    norm("pathway_graph.norm2", H)
    draw("pathway_graph.attn.in_proj_weight", 3 * H, H)
    draw("pathway_graph.attn.in_proj_bias", 3 * H)
    linear("pathway_graph.attn.out_proj", H, H)
    linear("pathway_graph.mlp.0", H, 4 * H)
    linear("pathway_graph.mlp.2", 4 * H, H)
    linear("t_embedder.mlp.0", 256, H)
    linear("t_embedder.mlp.2", H, H)
    for i in range(2):
        linear(f"transformer.layers.{i}.0.qkv", d, 3 * d, bias=False)
        linear(f"transformer.layers.{i}.0.proj", d, d)
        norm(f"transformer.layers.{i}.1.net.0", d)
        linear(f"transformer.layers.{i}.1.net.1", d, 4 * H)
        linear(f"transformer.layers.{i}.1.net.3", 4 * H, d)
    linear("image_embedder.0", d, d)
    linear("image_embedder.2", d, H)
    for i in range(BLOCKS):
        linear(f"blocks.{i}.attn.qkv", H, 3 * H)
        linear(f"blocks.{i}.attn.proj", H, H)
        linear(f"blocks.{i}.mlp.fc1", H, 4 * H)
        linear(f"blocks.{i}.mlp.fc2", 4 * H, H)
        linear(f"blocks.{i}.adaLN_modulation.1", H, 6 * H)
    linear("bg_head.ada.1", H, 2 * H)
    linear("bg_head.fc", H, background)
    return state


def stored_args(**changes: Any) -> argparse.Namespace:
    """What the published training keeps of its command line, numpy arrays included."""
    values = {
        "cohort": "LUAD",
        "lr": 1e-4,
        "train": True,
        "loss_weight": None,
        "path_type": "Linear",
        "prediction": "velocity",
        "num_heads": HEADS,
        "num_genes": len(GENES),
        "pathway_adj": torch.ones(4, 4),
        "pathway_gene_indices": [torch.tensor(genes) for genes in SETS.values()],
        "bg_gene": torch.tensor(BACKGROUND),
        "rna_data_mean": np.linspace(1, 9, len(GENES)).astype(np.float32),
        "rna_data_std": np.linspace(0, 2, len(GENES)).astype(np.float32),
    }
    return argparse.Namespace(**(values | changes))


def state_of(weights_of: str) -> dict[str, Tensor]:
    """The weights of the checkpoint in `files`."""
    seed = {"ema": 0, "model": 1}[weights_of]
    return weights(list(SETS.values()), len(BACKGROUND), seed=seed)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a checkpoint as the training writes it, its gene list and its index file."""
    whole = {name: state_of(name) for name in ("model", "ema")}
    more = {"opt": {"state": {}, "lr": 1e-4}, "args": stored_args()}
    torch.save(whole | more, tmp_path / "whole.pt")
    torch.save(whole["ema"], tmp_path / "bare.pt")
    (tmp_path / "genes.csv").write_text("gene\n" + "\n".join(GENES) + "\n")
    (tmp_path / "index.json").write_text(json.dumps(INDEX))
    return tmp_path


def forward(files: Path, source: str = "whole.pt", out: str = "model", *options: str) -> Path:
    """Run the command; options come after --genes and --pathways."""
    given = ["--genes", str(files / "genes.csv"), "--pathways", str(files / "index.json")]
    main([str(files / source), str(files / out), *given, *options])
    return files / out


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def published_velocity(
    state: dict[str, Tensor], x: Tensor, t: Tensor, clusters: Tensor, outside: Sequence[int]
) -> Tensor:
    """The oracle on a published state_dict, gene lists in their published order."""
    plain = {"feature_mean": torch.zeros(D), "feature_scale": torch.ones(D)}
    rows = []
    for row in range(len(x)):
        y = oracle.image(state, clusters[row], torch.ones(K), HEADS, False, plain)
        sets = list(SETS.values())
        rows.append(oracle.velocity(state, sets, outside, x[row], t[row], y, HEADS, 4))
    return torch.stack(rows)
