"""What the baseline networks share: padding that has no influence, and the mean of the top scores.

Bags are padded with clusters of size 0. The published networks know no padding; here it is left
out of every mean, every softmax and every ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def present(means: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Bags with zeros for padding, and which clusters are there.

    Zeroing the content, and not only masking it, keeps a NaN there from spreading as 0 * NaN.

    Parameters
    ----------
    means
        (B, K, d).
    sizes
        (B, K), 0 for padding; each row has at least one cluster.

    Returns
    -------
    means, mask
        (B, K, d), and (B, K) bool.
    """
    mask = sizes > 0
    return torch.where(mask[..., None], means, 0), mask


def mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the clusters that are there, all counted alike: (B, K, h), (B, K) -> (B, h)."""
    share = mask.to(x.dtype)
    return torch.einsum("bkh,bk->bh", x, share / share.sum(dim=1, keepdim=True))


def usable(ks: Sequence[int], clusters: int) -> list[int]:
    """The list of k for bags of so many clusters: larger ones become that number, once.

    Counted several times, the mean over all clusters would outweigh the rest of the list.
    """
    return sorted({min(k, clusters) for k in ks})


def top_mean(scores: Tensor, mask: Tensor, ks: Sequence[int]) -> Tensor:
    """Mean over `ks` of the mean of the k highest scores, gene by gene.

    A bag with fewer clusters than k gives the mean of those it has.

    Parameters
    ----------
    scores
        (B, K, G).
    mask
        (B, K) bool, true where there is a cluster.
    ks
        Each from 1 to K.

    Returns
    -------
    Tensor
        (B, G).
    """
    most = max(ks)
    # Not -inf: these scores get the weight 0 below.
    lowest = torch.finfo(scores.dtype).min
    ranked = scores.masked_fill(~mask[..., None], lowest)
    if most < scores.shape[1] or len(ks) > 1:
        ranked = ranked.transpose(1, 2).topk(most, dim=2).values
    else:  # k = K: a mean needs no order
        return mean(scores, mask)
    there = mask.sum(dim=1, keepdim=True)
    rank = torch.arange(most, device=scores.device)
    weight = torch.zeros(len(scores), most, device=scores.device)
    for k in ks:
        used = there.clamp(max=k)
        weight += (rank < used) / (used * len(ks))
    return torch.einsum("bgk,bk->bg", ranked, weight.to(ranked.dtype))


def draw(ks: Sequence[int]) -> int:
    """One k, from torch's global stream, which training seeds anew for each epoch."""
    return ks[int(torch.randint(len(ks), ()))]
