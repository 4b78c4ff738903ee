"""tRNAsformer: a vision transformer over clusters, and the mean of the highest scores.

Alsaafin et al., Communications Biology 2023, doi:10.1038/s42003-023-04583-x: tiles are mapped to
384 numbers, a class token goes in front, positions are added, pre-norm encoder blocks follow.
Genes are predicted from the tile tokens: dropout 0.25, one linear map shared by all
tokens, and HE2RNA's mean of the k highest scores. AdamW at 3e-4, weight decay 0.01, batches of 64.

The second task is left out: the class token's head that distinguishes the three types of kidney
cancer of the original training, and its cross-entropy. A cohort here is one cancer and has no such
label. The class token itself stays; clusters exchange information through it.

Other differences: 100 clusters of features, sorted by descending size, instead of one tile from
each of 49 spatial clusters, redrawn 100 times per slide; k up to 100 instead of 49; width and heads
are those of the smallest common vision transformer (384 and 6), and the depth, which the authors
varied, is 4; no halving of the learning rate; padding is masked; features and genes are
standardised by the train part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slide2rna.core.errors import ConfigError
from slide2rna.core.settings import TrnasformerSettings
from slide2rna.flow.layers import Attention, FeedForward
from slide2rna.models import pooling


class TransformerBlock(nn.Module):
    """A pre-norm transformer block over (B, N, h)."""

    def __init__(self, hidden: int, heads: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.attn = Attention(hidden, heads, qkv_bias=True)
        self.feed = FeedForward(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm(x), mask)
        return x + self.feed(x)


class TRNAsformer(nn.Module):
    """Class token and clusters through a transformer; genes from the clusters' tokens.

    Parameters
    ----------
    features, clusters, genes
        d, K and G.
    settings
        Section `baselines.trnasformer`: hidden, blocks, heads, mlp_ratio, position, ks, dropout.
        Without `position` the order of clusters doesn't matter.

    Raises
    ------
    ConfigError
        The heads don't divide the width.
    """

    def __init__(
        self, features: int, clusters: int, genes: int, settings: TrnasformerSettings
    ) -> None:
        super().__init__()
        hidden, heads = settings["hidden"], settings["heads"]
        if hidden % heads:
            raise ConfigError(
                "baselines.trnasformer.heads",
                f"{heads} heads don't divide the width {hidden}",
                "choose a divisor",
            )
        self.embed = nn.Linear(features, hidden)
        self.token = nn.Parameter(0.02 * torch.randn(1, hidden))
        self.position: nn.Parameter | None = None
        if settings["position"]:
            self.position = nn.Parameter(0.02 * torch.randn(clusters, hidden))
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads, settings["mlp_ratio"] * hidden)
            for _ in range(settings["blocks"])
        )
        self.norm = nn.LayerNorm(hidden)
        self.drop = nn.Dropout(settings["dropout"])
        self.head = nn.Linear(hidden, genes)
        self.ks = pooling.clip_ks(settings["ks"], clusters)

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Map bags (B, K, d) and sizes (B, K) to standardised expression (B, G)."""
        means, mask = pooling.present(means, sizes)
        x = self.embed(means)
        if self.position is not None:
            x = x + self.position
        x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)
        attended = F.pad(mask, (1, 0), value=True)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attended)
        ks = [pooling.draw_k(self.ks)] if self.training else self.ks
        return pooling.top_mean(self.head(self.drop(self.norm(x[:, 1:]))), mask, ks)
