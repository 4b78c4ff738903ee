"""Weight names: the mapping between the published checkpoint layout and ours.

Per-pathway layers are lists there (`gene_count_ebd.{i}`) and padded rectangles here. A published
state_dict lacks parts that only our model has: residual sd, feature statistics, the learned null
vector, a projection of the features. Its buffers aren't weights: the masks of the pathway graph,
which `masks` builds, and the clusters of the null condition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.errors import WeightsError
from slide2rna.flow.velocity import RNAFM
from slide2rna.pathways.membership import Pathways
from slide2rna.published.checkpoint_file import MASK

State = dict[str, Tensor]

EMBEDDING = "gene_embedder.gene_pathway_ebd"
MASKS = (MASK, "pathway_graph.add_mask")
# The published mask adds this to the logits of two sets that share no gene.
BLOCKED = -1e4

# (ours, theirs): prefixes that are only renamed.
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


def _layout_rows(model: RNAFM) -> list[tuple[int, int, int, int]]:
    """Return (set, bucket, row in the bucket, size) in the order of the layout."""
    rows, position = [], 0
    for bucket, (sets, _) in enumerate(model.layout.shapes):
        for row in range(sets):
            size = int(model.layout.sizes[position])
            rows.append((int(model.layout.order[position]), bucket, row, size))
            position += 1
    return rows


def _set_views(model: RNAFM, state: State) -> State:
    """Return views of our per-set weights under published names, for both directions."""
    hidden = model.null.numel()
    ada_weight = state["final_layer.ada.weight"].view(-1, 2 * hidden, hidden)
    ada_bias = state["final_layer.ada.bias"].view(-1, 2 * hidden)
    views: State = {}
    for position, (number, bucket, row, size) in enumerate(_layout_rows(model)):
        first = f"gene_embedder.gene_count_ebd.{number}"
        head, ada = (f"final_layer.{name}.{number}" for name in ("linear", "adaLN_modulation"))
        views |= {
            f"{first}.0.weight": state[f"gene_embedder.first.{bucket}"][row, :, :size],
            f"{first}.0.bias": state["gene_embedder.first_bias"][position],
            f"{first}.2.weight": state["gene_embedder.second"][position],
            f"{first}.2.bias": state["gene_embedder.second_bias"][position],
            f"{head}.weight": state[f"final_layer.out.{bucket}"][row, :size],
            f"{head}.bias": state[f"final_layer.out_bias.{bucket}"][row, :size],
            f"{ada}.1.weight": ada_weight[position],
            f"{ada}.1.bias": ada_bias[position],
        }
    return views


def _published_name(name: str) -> str | None:
    for ours, theirs in RENAMED:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return None


def _published_views(model: RNAFM) -> State:
    """Return every weight under its published name, as a view; sets in our order."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    renamed = {_published_name(name): value for name, value in state.items()}
    views = {name: value for name, value in renamed.items() if name is not None}
    return _set_views(model, state) | views | {EMBEDDING: state[EMBEDDING]}


def to_published(model: RNAFM) -> State:
    """Return the published state_dict of a model (copies; sets in the pathways' order)."""
    published = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in _published_views(model).items()
    }
    published[EMBEDDING][model.layout.order] = published[EMBEDDING].clone()
    return published


def check(model: RNAFM, published: State, where: object) -> State:
    """Check the weights; return the published tensors that the model doesn't have.

    Raises
    ------
    WeightsError
        A tensor of the model is missing, or has another shape.
    """
    targets = _published_views(model)
    for name, target in targets.items():
        source = published.get(name)
        if source is None or source.shape != target.shape:
            problem = "is missing" if source is None else f"has the shape {tuple(source.shape)}"
            cause = f"tensor {name} {problem}, needed {tuple(target.shape)}"
            raise WeightsError(where, cause, "give the weights of this model")
    return {name: value for name, value in published.items() if name not in targets}


def from_published(model: RNAFM, published: State) -> None:
    """Fill a model with published weights (genes of each set in ascending order), in place.

    Raises
    ------
    WeightsError
        A tensor is missing, or has another shape than the model's.
    """
    check(model, published, "published weights")
    order = torch.from_numpy(model.layout.order)
    for name, target in _published_views(model).items():
        target.copy_(published[name][order] if name == EMBEDDING else published[name])


def reorder(published: State, orders: Sequence[np.ndarray], background: np.ndarray) -> State:
    """Reorder the weights for sets that list their genes in another order.

    Parameters
    ----------
    orders
        Per set (|P_i|,): column j of the result is column `orders[i][j]` of the input.
    background
        The same for the background genes.
    """
    result = dict(published)
    layers = [
        (f"gene_embedder.gene_count_ebd.{i}.0", f"final_layer.linear.{i}", order)
        for i, order in enumerate(orders)
    ]
    if len(background):
        layers.append(("gene_embedder.bg_gene_count_ebd.0", "bg_head.fc", background))
    for first, last, order in layers:
        columns = torch.from_numpy(order)
        result[f"{first}.weight"] = published[f"{first}.weight"][:, columns]
        for name in (f"{last}.weight", f"{last}.bias"):
            result[name] = published[name][columns]
    return result


def masks(pathways: Pathways) -> State:
    """Build the published graph's buffers (P, P): true, and -1e4, where sets share no gene."""
    blocked = torch.from_numpy(~pathways.adjacency)
    added = torch.zeros(blocked.shape).masked_fill(blocked, BLOCKED)
    return dict(zip(MASKS, (blocked, added), strict=True))
