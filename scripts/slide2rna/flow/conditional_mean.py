"""Conditional mean: each gene's mean given a slide's bag, from a linear model and a pooled head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Softmax-like pools, one per direction of the features; val on two laws is flat between 32 and 64.
POOLS, HIDDEN, DROPOUT = 64, 128, 0.4
# Sd of a pool's projection of standardised features at the start: above 1, rare tiles count.
SHARPNESS = 2.0


class PooledHead(nn.Module):
    """Correction of the linear mean from pools of a slide's clusters.

    Three kinds of pools, each weighted by cluster size: the mean and the variance of every feature,
    and log sum_k share_k exp(w x_k) along learned directions w. The last is the form of bulk RNA,
    the log of a sum over tissue: it sees a niche that hardly moves the mean, and a saturating
    response. The pools feed a small network with `rank` outputs, coordinates on the leading
    components of the train targets, so that thousands of genes share what it learns. A bag of one
    cluster has the mean alone.

    Parameters
    ----------
    features, clusters, genes : d, K, G.
    rank : r, the number of components.
    """

    basis: Tensor
    pool_mean: Tensor
    pool_sd: Tensor

    def __init__(self, features: int, clusters: int, genes: int, rank: int) -> None:
        super().__init__()
        self.directions = nn.Linear(features, POOLS) if clusters > 1 else None
        width = 2 * features + POOLS if clusters > 1 else features
        if self.directions is not None:
            nn.init.normal_(self.directions.weight, std=SHARPNESS * features**-0.5)
            nn.init.zeros_(self.directions.bias)
        last = nn.Linear(HIDDEN, rank)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            *(nn.Linear(width, HIDDEN), nn.SiLU(), nn.Dropout(DROPOUT)),
            *(nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Dropout(DROPOUT)),
            last,
        )
        self.register_buffer("basis", torch.zeros(genes, rank))
        self.register_buffer("pool_mean", torch.zeros(width))
        self.register_buffer("pool_sd", torch.ones(width))

    def pools(self, features: Tensor, sizes: Tensor) -> Tensor:
        """Pool standardised features (B, K, d) with sizes (B, K) to (B, w)."""
        share = sizes / sizes.sum(dim=1, keepdim=True)
        mean = (features * share[..., None]).sum(dim=1)
        if self.directions is None:
            return mean
        variance = ((features - mean[:, None]).square() * share[..., None]).sum(dim=1)
        levels = self.directions(features) + share.log()[..., None]
        return torch.cat([mean, variance, levels.logsumexp(dim=1)], dim=1)

    def fit_pools(self, features: Tensor, sizes: Tensor) -> None:
        """Standardise the pools by their values on the train slides."""
        with torch.no_grad():
            pools = self.pools(features, sizes)
            self.pool_mean.copy_(pools.mean(dim=0))
            sd = pools.std(dim=0, correction=0)
            self.pool_sd.copy_(torch.where(sd > 1e-6, sd, 1))

    def scores(self, features: Tensor, sizes: Tensor) -> Tensor:
        """Return the correction's coordinates (B, r) on the components."""
        scores: Tensor = self.network((self.pools(features, sizes) - self.pool_mean) / self.pool_sd)
        return scores

    def forward(self, features: Tensor, sizes: Tensor) -> Tensor:
        """Return the correction (B, G) in the targets' units."""
        return self.scores(features, sizes) @ self.basis.T


class ConditionalMean(nn.Module):
    """Mean of each gene's target given standardised features (B, K, d) and sizes (B, K).

    A linear function of the bag's mean, set in closed form, plus a `PooledHead` if rank > 0.
    """

    def __init__(self, features: int, clusters: int, genes: int, rank: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(features, genes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.head = PooledHead(features, clusters, genes, rank) if rank else None

    def forward(self, features: Tensor, sizes: Tensor) -> Tensor:
        share = sizes / sizes.sum(dim=1, keepdim=True)
        mean: Tensor = self.linear((features * share[..., None]).sum(dim=1))
        return mean if self.head is None else mean + self.head(features, sizes)
