"""Mixture head: a gene's bulk expression as the sum over the tissue of a slide's clusters.

Bulk RNA is a sum over tissue. Cluster k holds a share s_k of the tiles and expresses gene g at
x_g(y_k), a function of its features y_k alone. The bulk is

    log2(X_g + 1) = log2 sum_k s_k 2^l_g(y_k),    l_g = log2(x_g + 1).

The shares add up to 1, so the sum of x + 1 is one of x: X_g + 1 = sum_k s_k x_g(y_k) + 1. Since a
level l_g belongs to one place, levels are a map, and the map adds up to the bulk in linear scale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LN2 = math.log(2)
# Units of the network on the features, and dropout, as in the pooled head's.
HIDDEN, DROPOUT = 64, 0.4
# Smallest typical x of a gene: below it the gain would have no bound.
LEAST_AMOUNT = 0.01
# Values (slides x clusters x genes) computed at a time.
CHUNK = 2**24


class MixtureHead(nn.Module):
    """Expression of G genes in tissue of given features, and its sum over a bag's clusters.

    x_g(y) = A_g softplus(c_g (b_g + a_g' h(y))) / log 2, never below 0, with r states h of the
    tissue that all genes share: h(y) = H y + network(y). A softplus grows like a line, so that
    x adds up over states as it does over clusters: with an exponential, clusters far from the
    slide's mean would have impossible amounts. With A_g the gene's typical x and the gain c_g of
    `set_units`, a small change of b + a'h is a change of log2(X + 1) by as many train sds, which is
    what a ridge in z-scores predicts: the head starts from one.

    Parameters
    ----------
    features, genes, rank : d, G, r.

    Attributes
    ----------
    amount, gain : A and c, (G,).
    states : H (r, d), the ridge's, fixed.
    response : a and b.
    """

    amount: Tensor
    gain: Tensor
    states: Tensor

    def __init__(self, features: int, genes: int, rank: int) -> None:
        super().__init__()
        last = nn.Linear(HIDDEN, rank)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(features, HIDDEN), nn.SiLU(), nn.Dropout(DROPOUT), last
        )
        self.response = nn.Linear(rank, genes)
        self.register_buffer("states", torch.zeros(rank, features))
        self.register_buffer("amount", torch.ones(genes))
        self.register_buffer("gain", torch.ones(genes))

    def set_units(self, mean: Tensor, sd: Tensor) -> None:
        """Set A and c for genes of this mean and sd (G,) of log2(x + 1); constant if sd is 0."""
        typical = torch.exp2(mean) - 1
        amount = torch.where(sd > 0, typical.clamp(min=LEAST_AMOUNT), typical)
        slope = 2 * LN2**2 * (1 + amount) * sd
        self.amount.copy_(amount)
        self.gain.copy_(torch.where(sd > 0, slope / amount, 0))

    def amounts(self, features: Tensor, genes: Tensor | None = None) -> Tensor:
        """Return x (..., G) of standardised features (..., d); of `genes` (m,), if given."""
        states = F.linear(features, self.states) + self.network(features)
        parts: tuple[Tensor, ...] = (self.response.weight, self.response.bias)
        parts = (*parts, self.amount, self.gain)
        if genes is not None:
            parts = tuple(part[genes] for part in parts)
        weight, bias, amount, gain = parts
        return amount / LN2 * F.softplus(gain * F.linear(states, weight, bias))

    def levels(self, features: Tensor) -> Tensor:
        """Return log2(x + 1) (..., G) in tissue of standardised features (..., d)."""
        return (1 + self.amounts(features)).log2()

    def forward(self, features: Tensor, sizes: Tensor, genes: Tensor | None = None) -> Tensor:
        """Return log2(X + 1) (B, G) of bags: features (B, K, d), sizes (B, K)."""
        count = len(self.amount) if genes is None else len(genes)
        rows = max(1, CHUNK // (features.shape[1] * count))
        share = sizes / sizes.sum(dim=1, keepdim=True)
        bulk = [
            torch.einsum("bk,bkg->bg", part, self.amounts(of, genes))
            for part, of in zip(share.split(rows), features.split(rows), strict=True)
        ]
        return (1 + torch.cat(bulk)).log2()
