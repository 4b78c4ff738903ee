"""Graph encoder: attention of each spot over its neighbours, from the image alone.

It sees neither the noisy expression nor any position, so it runs once per slide, for all draws and
all steps. Edges have a distance in pitches and the cosine of both spots' features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EDGE_FACTS = 2


class NeighbourAttention(nn.Module):
    """Attention of each spot over itself and its neighbours, with a bias from the edge.

    Parameters
    ----------
    hidden : width; a multiple of `heads`.
    heads : number of heads.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.bias = nn.Sequential(nn.Linear(EDGE_FACTS, 16), nn.GELU(), nn.Linear(16, heads))
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, target: Tensor, source: Tensor, edges: Tensor) -> Tensor:
        """Return the update of spots x (n, hidden) from edges (E,) with facts (E, 2)."""
        spots, hidden = x.shape
        q, k, v = self.qkv(self.norm(x)).view(spots, 3, self.heads, -1).unbind(1)
        scale = q.shape[-1] ** -0.5
        own = (q * k).sum(-1) * scale
        score = (q[target] * k[source]).sum(-1) * scale + self.bias(edges)
        # Softmax over a spot and its neighbours; the largest score is subtracted first.
        index = target[:, None].expand_as(score)
        top = own.detach().scatter_reduce(0, index, score.detach(), "amax")
        weight, own_weight = (score - top[target]).exp(), (own - top).exp()
        total = own_weight.index_add(0, target, weight)
        mixed = own_weight[..., None] * v
        mixed = mixed.index_add(0, target, weight[..., None] * v[source])
        return self.out((mixed / total[..., None]).reshape(spots, hidden))


class GraphEncoder(nn.Module):
    """Features of spots (n, d) to conditions (n, hidden), over `layers` rings of neighbours.

    Without layers, or without edges, each spot is encoded alone.
    """

    def __init__(self, features: int, hidden: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(features, hidden)
        self.attention = nn.ModuleList(NeighbourAttention(hidden, heads) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, 2 * hidden),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(2 * hidden, hidden),
            )
            for _ in range(max(layers, 1))
        )

    def forward(self, features: Tensor, target: Tensor, source: Tensor, edges: Tensor) -> Tensor:
        x = F.gelu(self.embed(features))
        for number, mlp in enumerate(self.mlp):
            if number < len(self.attention):
                x = x + self.attention[number](x, target, source, edges)
            x = x + mlp(x)
        return x


def edge_facts(distance: Tensor, cosine: Tensor) -> Tensor:
    """Return the facts (E, 2) of edges: distance in pitches, less one, and cosine."""
    return torch.stack([distance - 1, cosine], dim=-1)
