"""Pooling of the baseline networks: means and top scores without the padding.

Bags are padded with clusters of size 0. The published networks have no padding. Here it is left out
of every mean, softmax and ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def present(means: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return bags with zeros for padding, and the mask of the clusters that are present.

    Zeroing the padding, not only masking it, stops a NaN in it from spreading as 0 * NaN.

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
    """Average the clusters that are present, with equal weight: (B, K, h), (B, K) -> (B, h)."""
    share = mask.to(x.dtype)
    return torch.einsum("bkh,bk->bh", x, share / share.sum(dim=1, keepdim=True))


def clip_ks(ks: Sequence[int], clusters: int) -> list[int]:
    """Clip each k to the number of clusters and drop duplicates.

    With duplicates, the mean over all clusters would outweigh the rest of the list.
    """
    return sorted({min(k, clusters) for k in ks})


def top_mean(scores: Tensor, mask: Tensor, ks: Sequence[int]) -> Tensor:
    """Return the mean over `ks` of the mean of the k highest scores, gene by gene.

    A bag with fewer clusters than k is averaged over all its clusters.

    Parameters
    ----------
    scores
        (B, K, G).
    mask
        (B, K) bool, true where a cluster is present.
    ks
        Each from 1 to K.

    Returns
    -------
    Tensor
        (B, G).
    """
    largest = max(ks)
    # Not -inf: these scores get the weight 0 below.
    lowest = torch.finfo(scores.dtype).min
    ranked = scores.masked_fill(~mask[..., None], lowest)
    if largest < scores.shape[1] or len(ks) > 1:
        ranked = ranked.transpose(1, 2).topk(largest, dim=2).values
    else:  # k = K: a mean needs no order
        return mean(scores, mask)
    available = mask.sum(dim=1, keepdim=True)
    rank = torch.arange(largest, device=scores.device)
    weight = torch.zeros(len(scores), largest, device=scores.device)
    for k in ks:
        used = available.clamp(max=k)
        weight += (rank < used) / (used * len(ks))
    return torch.einsum("bgk,bk->bg", ranked, weight.to(ranked.dtype))


def draw_k(ks: Sequence[int]) -> int:
    """Draw one k from torch's global stream, which training reseeds for each epoch."""
    return ks[int(torch.randint(len(ks), ()))]
