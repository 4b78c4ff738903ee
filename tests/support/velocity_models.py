"""Velocity networks with every weight drawn at random, their inputs, and the oracle on them."""

from __future__ import annotations

import numpy as np
import oracle
import torch
from slide2rna.core import config
from slide2rna.flow.velocity import RNAFM
from slide2rna.pathways.membership import Pathways
from slide2rna.published import weight_names
from torch import Tensor

CASES = {
    "ragged": ([[0, 1, 2, 3, 4, 5, 6], [3, 4], [9, 8, 2], [11, 12], [12, 13, 14, 15, 1]], 20),
    "one-gene": ([[0], [1], [0, 1, 2], [3]], 6),
    "crowded": ([[0, 1 + i % 40, 41 + i] for i in range(250)], 300),
    "no-background": ([[0, 1, 2], [2, 3], [4, 5, 0]], 6),
    "one-set": ([[1, 4, 2]], 7),
    "equal": ([[0, 1], [2, 3], [4, 5], [1, 2]], 8),
}


def pathways(sets: list[list[int]], genes: int) -> Pathways:
    index = [np.array(sorted(members), dtype=np.int64) for members in sets]
    return Pathways([f"set{i}" for i in range(len(sets))], index, genes)


def build(
    sets: Pathways, d: int = 16, clusters: int = 5, seed: int = 0, **changes: object
) -> RNAFM:
    """A small model in float64 with every parameter drawn at random, padding left at zero."""
    settings = config.defaults(
        "model", **({"hidden": 16, "blocks": 2, "heads": 4, "graph_heads": 2} | changes)
    )
    torch.manual_seed(seed)
    model = RNAFM(sets, d, clusters, settings).eval().double()
    with torch.no_grad():
        padding = [parameter == 0 for parameter in model.gene_embedder.first]
        for parameter in model.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim else 1
            parameter.copy_(0.8 * torch.randn_like(parameter) / fan_in**0.5)
        for parameter, zero in zip(model.gene_embedder.first, padding, strict=True):
            parameter.masked_fill_(zero, 0)
        if model.theta is not None:
            model.theta.mul_(0.3)
        model.condition.feature_mean.normal_()
        model.condition.feature_scale.uniform_(0.5, 2)
    return model


def inputs(model: RNAFM, rows: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    d = len(model.condition.feature_mean)
    x = torch.randn(rows, model.pathways.n_genes, generator=generator).double()
    t = torch.rand(rows, generator=generator).double()
    means = torch.randn(rows, 5, d, generator=generator).double()
    sizes = torch.tensor([[9, 5, 2, 1, 1], [4, 3, 0, 0, 0], [1, 0, 0, 0, 0]] * rows).double()
    return x, t, means, sizes[:rows]


def plain(
    model: RNAFM, published: weight_names.State, x: Tensor, t: Tensor, means: Tensor, sizes: Tensor
) -> Tensor:
    """The oracle on the same weights."""
    encoder = model.condition
    extras = {"feature_mean": encoder.feature_mean, "feature_scale": encoder.feature_scale}
    if encoder.project is not None:
        extras["project.weight"] = encoder.project.weight
        extras["project.bias"] = encoder.project.bias
    heads = model.blocks[0].attn.heads if len(model.blocks) else 4
    graph_heads = model.pathway_graph.attn.heads if model.pathway_graph else 1
    rows = []
    for row in range(len(x)):
        y = oracle.image(published, means[row], sizes[row], heads, encoder.weighted, extras)
        mean: Tensor | float = 0
        if model.mean is not None:
            features = (means[row] - encoder.feature_mean) / encoder.feature_scale
            pooled = (features * sizes[row][:, None]).sum(0) / sizes[row].sum()
            mean = model.mean.linear.weight @ pooled + model.mean.linear.bias
        rows.append(
            oracle.velocity(
                published,
                [members.tolist() for members in model.pathways.index],
                model.pathways.background.tolist(),
                x[row],
                t[row],
                y,
                heads,
                graph_heads,
                model.theta,
                mean,
            )
        )
    return torch.stack(rows)


def fast(model: RNAFM, x: Tensor, t: Tensor, means: Tensor, sizes: Tensor) -> Tensor:
    return model.velocity(x, t, model.encode_image(means, sizes))
