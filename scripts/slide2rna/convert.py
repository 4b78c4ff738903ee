"""The published checkpoint layout and ours: the same weights under other names and shapes.

Per-pathway layers are lists there (`gene_count_ebd.{i}`) and padded rectangles here. What the
published model doesn't have (residual sd, feature statistics, the learned null vector, a projection
of the features) isn't part of a published state_dict.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slide2rna.errors import WeightsError
from slide2rna.model import RNAFM

State = dict[str, Tensor]

# (ours, theirs): prefixes that only change their name
RENAMED = (
    ("t_embedder.", "t_embedder."),
    ("blocks.", "blocks."),
    ("gene_embedder.bg_gene_count_ebd.", "gene_embedder.bg_gene_count_ebd."),
    ("gene_embedder.bg_gene_bias", "gene_embedder.bg_gene_bias"),
    ("pathway_graph.attn.qkv.weight", "pathway_graph.attn.in_proj_weight"),
    ("pathway_graph.attn.qkv.bias", "pathway_graph.attn.in_proj_bias"),
    ("pathway_graph.attn.proj.", "pathway_graph.attn.out_proj."),
    ("pathway_graph.", "pathway_graph."),
    ("condition.cluster_index_emb", "cluster_index_emb"),
    ("condition.transformer.", "transformer."),
    ("condition.image_embedder.", "image_embedder."),
    ("final_layer.background.ada.", "bg_head.ada."),
    ("final_layer.background.fc.", "bg_head.fc."),
)


def _places(model: RNAFM) -> list[tuple[int, int, int, int]]:
    """(set, bucket, row in the bucket, genes) in the order of places."""
    found, place = [], 0
    for bucket, (rows, _) in enumerate(model.layout.shapes):
        for row in range(rows):
            size = int(model.layout.sizes[place])
            found.append((int(model.layout.order[place]), bucket, row, size))
            place += 1
    return found


def _per_set(model: RNAFM, state: State) -> State:
    """Views of our per-set weights under the published names, so that both ways share one map."""
    hidden = model.null.numel()
    ada_weight = state["final_layer.ada.weight"].view(-1, 2 * hidden, hidden)
    ada_bias = state["final_layer.ada.bias"].view(-1, 2 * hidden)
    views: State = {}
    for place, (number, bucket, row, size) in enumerate(_places(model)):
        first = f"gene_embedder.gene_count_ebd.{number}"
        head, ada = (f"final_layer.{name}.{number}" for name in ("linear", "adaLN_modulation"))
        views |= {
            f"{first}.0.weight": state[f"gene_embedder.first.{bucket}"][row, :, :size],
            f"{first}.0.bias": state["gene_embedder.first_bias"][place],
            f"{first}.2.weight": state["gene_embedder.second"][place],
            f"{first}.2.bias": state["gene_embedder.second_bias"][place],
            f"{head}.weight": state[f"final_layer.out.{bucket}"][row, :size],
            f"{head}.bias": state[f"final_layer.out_bias.{bucket}"][row, :size],
            f"{ada}.1.weight": ada_weight[place],
            f"{ada}.1.bias": ada_bias[place],
        }
    return views


def _renamed(name: str) -> str | None:
    for ours, theirs in RENAMED:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return None


def to_published(model: RNAFM) -> State:
    """The published state_dict of a model's weights (copies; sets in the pathways' order)."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    published = {name: value.clone() for name, value in _per_set(model, state).items()}
    published["gene_embedder.gene_pathway_ebd"] = torch.empty_like(
        state["gene_embedder.gene_pathway_ebd"]
    )
    published["gene_embedder.gene_pathway_ebd"][model.layout.order] = state[
        "gene_embedder.gene_pathway_ebd"
    ]
    for name, value in state.items():
        other = _renamed(name)
        if other is not None:
            published[other] = value.clone()
    return published


def from_published(model: RNAFM, published: State) -> None:
    """Fill a model with published weights, in place.

    Raises
    ------
    WeightsError
        A tensor is missing, or has another shape than the model's.
    """
    state = {name: value.detach() for name, value in model.state_dict().items()}
    targets = _per_set(model, state)
    targets |= {
        other: value for name, value in state.items() if (other := _renamed(name)) is not None
    }
    order = torch.from_numpy(model.layout.order)
    ebd = "gene_embedder.gene_pathway_ebd"
    for name, target in [*targets.items(), (ebd, state[ebd])]:
        if name not in published or published[name].shape != target.shape:
            found = tuple(published[name].shape) if name in published else "nothing"
            raise WeightsError(
                f"tensor {name}", f"found {found}, needed {tuple(target.shape)}", "give its model"
            )
        target.copy_(published[name][order] if name == ebd else published[name])
