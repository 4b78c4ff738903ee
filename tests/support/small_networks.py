"""The baseline networks at small sizes, bags with padding, and the slow mean of top scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from slide2rna.core import config
from slide2rna.models import registry
from torch import Tensor, nn

D, K, G = 7, 6, 11
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    name: registry.load(target) for name, target in registry.NETWORKS.items()
}
SMALL: dict[str, dict[str, Any]] = {
    "he2rna": {"layers": [16, 16], "ks": [1, 2, 4, 100]},
    "trnasformer": {"hidden": 12, "blocks": 2, "heads": 3, "ks": [1, 2, 4, 100]},
    "sequoia": {"blocks": 2, "heads": 3, "head_size": 4},
    "abmil": {"hidden": 16, "attention": 8},
}


def build(name: str, clusters: int = K, genes: int = G, features: int = D, **own: Any) -> nn.Module:
    torch.manual_seed(0)
    settings = config.defaults("baselines", **{name: SMALL[name] | own})[name]
    return NETWORKS[name](features, clusters, genes, settings).double()


def bag(rows: int = 3, clusters: int = K, features: int = D) -> tuple[Tensor, Tensor]:
    """Bags with a full first row and padding in the others."""
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(rows, clusters, features, generator=generator).double()
    sizes = torch.randint(1, 50, (rows, clusters), generator=generator).sort(descending=True).values
    for row in range(1, rows):
        sizes[row, max(1, clusters - 2 * row) :] = 0
    return means, sizes.float()


def slow_top_mean(scores: Tensor, there: Tensor, ks: list[int]) -> Tensor:
    """Bag by bag, gene by gene, in Python."""
    out = torch.zeros(len(scores), scores.shape[2], dtype=scores.dtype)
    for b, bag_scores in enumerate(scores.tolist()):
        kept = [row for row, flag in zip(bag_scores, there[b].tolist(), strict=True) if flag]
        for g in range(scores.shape[2]):
            ranked = sorted((row[g] for row in kept), reverse=True)
            out[b, g] = sum(sum(ranked[:k]) / min(k, len(ranked)) for k in ks) / len(ks)
    return out
