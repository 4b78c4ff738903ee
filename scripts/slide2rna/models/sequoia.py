"""SEQUOIA: a transformer over clusters with linear cost.

Pizurica et al., Nature Communications 2024, doi:10.1038/s41467-024-54182-5. Its linearised
attention is SummaryMixing (Parcollet et al. 2023, arXiv:2307.07421): each cluster is mixed with
one mean over all clusters, instead of being compared with each. As published: the network is as
wide as the features, 6 layers of 16 heads whose three maps have 64 outputs each, a learned
embedding of the cluster's index, the plain mean over clusters, LayerNorm and one linear map to the
genes; AdamW at 1e-3 without weight decay, batches of 16.

Differences here: no pre-training on GTEx, since no other model has it; clusters are sorted by
descending size, which gives the index a meaning; padding is left out of both means; features and
genes are standardised by the train part.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slide2rna.core.settings import SequoiaSettings
from slide2rna.flow.layers import FeedForward
from slide2rna.models import pooling


class HeadNorm(nn.Module):
    """Separate LayerNorm for each head: (..., heads, n)."""

    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(heads, size))
        self.shift = nn.Parameter(torch.zeros(heads, size))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, F.layer_norm(x, x.shape[-1:]), self.scale)


class SummaryMixing(nn.Module):
    """Multi-head mixing of each cluster with a summary of all: (B, K, w) -> (B, K, w).

    For each head, y_i = GELU(C [GELU(norm(F x_i)), GELU(norm(mean_j S x_j))]); the heads' y are
    joined and mapped back to w. C acts on the two halves separately, so its half for the summary is
    computed once per slide, not once per cluster.
    """

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.shape = (heads, size)
        self.local = nn.Linear(width, heads * size)
        self.summary = nn.Linear(width, heads * size)
        self.local_norm = HeadNorm(heads, size)
        self.summary_norm = HeadNorm(heads, size)
        bound = 1 / math.sqrt(2 * size)  # as nn.Linear(2 * size, size) starts
        self.weight = nn.Parameter(torch.empty(heads, 2 * size, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, size).uniform_(-bound, bound))
        self.join = nn.Linear(heads * size, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        local = F.gelu(self.local_norm(self.local(x).unflatten(2, self.shape)))
        # The mean of a linear map is the map of the mean.
        whole = self.summary(pooling.mean(x, mask)).unflatten(1, self.shape)
        whole = F.gelu(self.summary_norm(whole))
        first, second = self.weight.chunk(2, dim=1)
        mixed = torch.einsum("bkhi,hio->bkho", local, first)
        mixed = mixed + (torch.einsum("bhi,hio->bho", whole, second) + self.bias)[:, None]
        return self.join(F.gelu(mixed).flatten(2))


class SEQUOIA(nn.Module):
    """Layers of SummaryMixing and an MLP, both residual; the mean of the clusters; a linear head.

    Parameters
    ----------
    features, clusters, genes
        d, K and G.
    settings
        Section `baselines.sequoia`: width, blocks, heads, head_size, position. With a `width`,
        features are first mapped to it. Without `position` the order of clusters doesn't matter.
    """

    def __init__(self, features: int, clusters: int, genes: int, settings: SequoiaSettings) -> None:
        super().__init__()
        width = settings["width"] or features
        self.project = nn.Linear(features, width) if width != features else None
        self.position: nn.Parameter | None = None
        if settings["position"]:
            self.position = nn.Parameter(torch.randn(clusters, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    SummaryMixing(width, settings["heads"], settings["head_size"]),
                    FeedForward(width, width),
                ]
            )
            for _ in range(settings["blocks"])
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, genes))

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Map bags (B, K, d) and sizes (B, K) to standardised expression (B, G)."""
        x, mask = pooling.present(means, sizes)
        if self.project is not None:
            x = self.project(x)
        if self.position is not None:
            x = x + self.position
        for layer in self.layers:
            mixing, feed = layer.children()
            x = x + mixing(x, mask)
            x = x + feed(x)
        return self.head(pooling.mean(x, mask))
