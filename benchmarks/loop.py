"""Reference of model.py: a simple implementation of RNA-FM with a loop over the pathways.

Batched over rows, with torch's own layers, under the names of the published layout, so that
`load_state_dict(convert.to_published(model))` gives it the weights of ours. The cluster-token
transformer is part of every forward, as published. Attention is softmax(q k' + mask) v as in the
oracle, or, with `fused`, torch's own fused attention (and its MultiheadAttention in the graph),
as the published code has it.
"""

from __future__ import annotations

import math

import torch
from slide2rna.flow.layers import Attention, Block, FeedForward, TimeEmbedder
from slide2rna.pathways.membership import Pathways
from torch import Tensor, nn


class Embedder(nn.Module):
    """Eq. 1 to 3: one MLP per set, one after the other."""

    def __init__(self, sets: list[Tensor], background: Tensor, hidden: int) -> None:
        super().__init__()
        self.sets, self.background = sets, background
        self.gene_pathway_ebd = nn.Parameter(torch.zeros(len(sets), hidden))
        self.gene_count_ebd = nn.ModuleList(self._mlp(len(genes), hidden) for genes in sets)
        self.bg_gene_count_ebd = self._mlp(len(background), hidden)
        self.bg_gene_bias = nn.Parameter(torch.zeros(1, 1, hidden))

    @staticmethod
    def _mlp(genes: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(genes, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = [
            mlp(x[:, genes]) + self.gene_pathway_ebd[i]
            for i, (mlp, genes) in enumerate(zip(self.gene_count_ebd, self.sets, strict=True))
        ]
        outside = self.bg_gene_count_ebd(x[:, self.background])
        return torch.stack(tokens, dim=1), outside + self.bg_gene_bias[0]


class PlainAttention(Attention):
    """Attention over (B, N, dim) with all its logits in memory."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, dim = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) / math.sqrt(dim / self.heads)
        mixed = torch.softmax(logits, dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


class GraphAttention(nn.MultiheadAttention):
    """torch's layer for its parameters, computed plainly."""

    def forward(self, x: Tensor, *_: Tensor, attn_mask: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        b, n, dim = x.shape
        qkv = x @ self.in_proj_weight.T + self.in_proj_bias
        q, k, v = qkv.view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) / math.sqrt(dim / self.num_heads) + attn_mask
        mixed = torch.softmax(logits, dim=-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(x.shape)), None


class Graph(nn.Module):
    """Eq. 4 to 7 with a float mask."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int, adjacency: Tensor) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden)
        self.attn = GraphAttention(hidden, heads, batch_first=True)
        self.alpha = nn.Parameter(torch.tensor(0.1))
        self.norm2 = nn.LayerNorm(hidden)
        width = mlp_ratio * hidden
        self.mlp = nn.Sequential(nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, hidden))
        blocked = torch.zeros(adjacency.shape).masked_fill(~adjacency, -torch.inf)
        self.register_buffer("blocked", blocked, persistent=False)
        self.blocked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.alpha * self.attn(normed, normed, normed, attn_mask=self.blocked)[0]
        return x + self.mlp(self.norm2(x))


class Clusters(nn.Module):
    """The cluster-token transformer without weights."""

    def __init__(self, dim: int, heads: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(dim, heads, qkv_bias=False), FeedForward(dim, width)])
            for _ in range(layers)
        )

    def forward(self, y: Tensor) -> Tensor:
        for layer in self.layers:
            attention, feed = layer.children()
            y = y + attention(y)
            y = y + feed(y)
        return y.mean(1)


class Heads(nn.Module):
    """A head per set with its own adaLN."""

    def __init__(self, sizes: list[int], hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.linear = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self.adaLN_modulation = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden)) for _ in sizes
        )

    def forward(self, tokens: Tensor, c: Tensor) -> list[Tensor]:
        values = []
        for i, (linear, ada) in enumerate(zip(self.linear, self.adaLN_modulation, strict=True)):
            shift, scale = ada(c).chunk(2, dim=1)
            values.append(linear(self.norm(tokens[:, i]) * (1 + scale) + shift))
        return values


class Background(nn.Module):
    """The head of the background token."""

    def __init__(self, hidden: int, genes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))
        self.fc = nn.Linear(hidden, genes)

    def forward(self, token: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.ada(c).chunk(2, dim=1)
        return self.fc(self.norm(token) * (1 + scale) + shift)


class LoopModel(nn.Module):
    """x (B, G), t (B,), bags (B, K, d) -> velocity (B, G)."""

    def __init__(
        self,
        pathways: Pathways,
        features: int,
        clusters: int,
        settings: dict[str, int],
    ) -> None:
        super().__init__()
        h, heads, ratio = settings["hidden"], settings["heads"], settings["mlp_ratio"]
        self.sets = [torch.from_numpy(genes) for genes in pathways.index]
        self.background = torch.from_numpy(pathways.background)
        self.gene_embedder = Embedder(self.sets, self.background, h)
        adjacency = torch.from_numpy(pathways.adjacency)
        self.pathway_graph = Graph(h, settings["graph_heads"], ratio, adjacency)
        self.t_embedder = TimeEmbedder(h)
        self.cluster_index_emb = nn.Parameter(torch.zeros(clusters, features))
        self.transformer = Clusters(features, heads, 4 * h, settings["cluster_layers"])
        self.image_embedder = nn.Sequential(
            nn.Linear(features, features), nn.SiLU(), nn.Linear(features, h)
        )
        self.blocks = nn.ModuleList(Block(h, heads, ratio) for _ in range(settings["blocks"]))
        self.final_layer = Heads([len(genes) for genes in self.sets], h)
        self.bg_head = Background(h, len(self.background))
        self.fuse(False)

    def to_device(self, device: torch.device) -> LoopModel:
        """Bring the lists of genes, which are no parameters, to the device."""
        self.sets[:] = [genes.to(device) for genes in self.sets]
        self.background = self.gene_embedder.background = self.background.to(device)
        return self

    def fuse(self, fused: bool = True) -> LoopModel:
        """Take torch's fused attention, or the plain one."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.__class__ = Attention if fused else PlainAttention
            elif isinstance(module, nn.MultiheadAttention):
                module.__class__ = nn.MultiheadAttention if fused else GraphAttention
        return self

    def forward(self, x: Tensor, t: Tensor, bags: Tensor) -> Tensor:
        image = self.image_embedder(self.transformer(bags + self.cluster_index_emb))
        c = self.t_embedder(t) + image
        tokens, outside = self.gene_embedder(x)
        tokens = self.pathway_graph(tokens)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.average([*self.final_layer(tokens, c), self.bg_head(outside, c)], x)

    def average(self, values: list[Tensor], x: Tensor) -> Tensor:
        """Average by gene (Eq. 8): two scatters per set."""
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for genes, value in zip([*self.sets, self.background], values, strict=True):
            index = genes.expand(len(x), -1)
            total.scatter_add_(1, index, value.to(x.dtype))
            count.scatter_add_(1, index, torch.ones_like(value, dtype=x.dtype))
        return total / count


def guided(
    model: LoopModel, x: Tensor, t: Tensor, bags: Tensor, empty: Tensor, scale: float
) -> Tensor:
    """Return one guided evaluation (Eq. 14): both branches in full."""
    unconditional = model(x, t, empty)
    return unconditional + scale * (model(x, t, bags) - unconditional)
