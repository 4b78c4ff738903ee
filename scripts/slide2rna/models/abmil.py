"""ABMIL: gated attention pooling over clusters.

Ilse, Tomczak and Welling, ICML 2018, arXiv:1802.04712, with the published settings for histology:
instances of 512 numbers after ReLU, gated attention of 128, Adam at 1e-4 with weight decay 5e-4.

Differences here: one linear map of the features instead of a learned convolutional network; all
genes from the weighted mean instead of one probability; squared error; batches of 16 slides instead
of one, since bags are padded to one length; a dropout of 0.25, usual in pathology; padding is
masked; features and genes are standardised by the train part. Before attention, clusters have equal
weight whatever their size. With `cluster_weights` the log of a cluster's size is added to its
score, as if each of its tiles were present.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slide2rna.core.settings import AbmilSettings
from slide2rna.models import pooling


class ABMIL(nn.Module):
    """Gated attention pooling and a linear head. The order of clusters doesn't matter.

    Parameters
    ----------
    features, clusters, genes
        d, K (unused: any number of clusters works) and G.
    settings
        Section `baselines.abmil` of the config: hidden, attention, dropout, cluster_weights.
    """

    def __init__(self, features: int, clusters: int, genes: int, settings: AbmilSettings) -> None:
        super().__init__()
        hidden, attention = settings["hidden"], settings["attention"]
        self.weighted = settings["cluster_weights"]
        self.embed = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(settings["dropout"])
        )
        self.value = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention)
        # No bias: the softmax is invariant to it.
        self.score = nn.Linear(attention, 1, bias=False)
        self.head = nn.Linear(hidden, genes)

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Map bags (B, K, d) and sizes (B, K) to standardised expression (B, G)."""
        means, mask = pooling.present(means, sizes)
        h = self.embed(means)
        score = self.score(self.value(h).tanh() * self.gate(h).sigmoid()).squeeze(2)
        if self.weighted:
            score = score + sizes.clamp(min=torch.finfo(sizes.dtype).tiny).log()
        weight = score.masked_fill(~mask, float("-inf")).softmax(dim=1)
        return self.head(torch.einsum("bkh,bk->bh", h, weight.to(h.dtype)))
