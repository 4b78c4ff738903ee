"""Cluster encoder: a slide's bag as one vector, the image's part of the condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slide2rna.flow.feature_scale import FeatureScale, FeatureScaling
from slide2rna.flow.layers import ClusterTransformer


class ClusterEncoder(FeatureScale):
    """Cluster means and sizes -> one vector per slide, the image's part of the condition.

    With `weighted`, clusters are a weighted set. Log sizes are added to the attention logits, so
    that attention over clusters equals attention over tiles that each carry their cluster's mean,
    and pooling is weighted by size. Otherwise as published: index embedding and plain mean. In both
    cases padding (size 0) is masked in attention and left out of the pooling.

    If d isn't a multiple of `heads`, a linear layer first projects to the next multiple.
    """

    def __init__(
        self,
        features: int,
        clusters: int,
        hidden: int,
        heads: int,
        layers: int,
        weighted: bool,
        scale: FeatureScaling | None = None,
    ) -> None:
        super().__init__()
        self.weighted = weighted
        width = -(-features // heads) * heads if layers else features
        self.project = nn.Linear(features, width) if width != features else None
        self.cluster_index_emb = (
            None if weighted else nn.Parameter(0.02 * torch.randn(clusters, width))
        )
        self.transformer = ClusterTransformer(width, heads, 4 * hidden, layers)
        self.image_embedder = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, hidden)
        )
        self.register_features(features, **(scale or {}))

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        y = self.scale_features(means)
        if self.project is not None:
            y = self.project(y)
        if self.cluster_index_emb is not None:
            y = y + self.cluster_index_emb
        present = sizes > 0
        share = sizes if self.weighted else present.to(y.dtype)
        share = share / share.sum(dim=1, keepdim=True)
        mask = (share.log() if self.weighted else present)[:, None, None, :]
        y = self.transformer(y, mask)
        return self.image_embedder((y * share[..., None]).sum(dim=1))
