"""A network that predicts one profile per slide, with the statistics that its data need."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slide2rna import models
from slide2rna.config import Settings


class Regressor(nn.Module):
    """A network of `models.NETWORKS` between standardised bags and standardised profiles.

    Parameters
    ----------
    name
        The network's name in the registry.
    features, clusters, genes
        d, K and G.
    settings
        The network's object of the section `baselines`.
    """

    recompute = False

    def __init__(
        self, name: str, features: int, clusters: int, genes: int, settings: Settings
    ) -> None:
        super().__init__()
        self.network: nn.Module = models.load(models.NETWORKS[name])(
            features, clusters, genes, settings
        )
        for buffer, start, size in (
            ("feature_mean", torch.zeros, features),
            ("feature_scale", torch.ones, features),
            ("gene_mean", torch.zeros, genes),
            ("gene_sd", torch.ones, genes),
        ):
            self.register_buffer(buffer, start(size))
        self.feature_mean: Tensor
        self.feature_scale: Tensor
        self.gene_mean: Tensor
        self.gene_sd: Tensor

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """Bags (B, K, d), sizes (B, K) -> z (B, G); genes without variance in train are 0."""
        features = (means - self.feature_mean) / self.feature_scale
        # Padding must not carry what standardising made of it.
        features = features * (sizes > 0)[..., None]
        return self.network(features, sizes) * self.active

    @property
    def active(self) -> Tensor:
        """(G,) 1 for genes that vary in training, 0 for those predicted as their constant."""
        return (self.gene_sd > 0).to(self.gene_sd.dtype)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by treatment: `decay` (matrices), `plain` (biases, norms, tokens)."""
        groups: dict[str, list[nn.Parameter]] = {"decay": [], "plain": []}
        for name, parameter in self.named_parameters():
            matrix = parameter.ndim >= 2 and name.endswith("weight")
            groups["decay" if matrix else "plain"].append(parameter)
        return groups

    def standardise(self, expression: Tensor) -> Tensor:
        """log2(x+1) (N, G) -> z; genes without variance are 0."""
        sd = torch.where(self.gene_sd > 0, self.gene_sd, 1)
        return (expression - self.gene_mean) / sd * self.active

    def restore(self, z: Tensor) -> Tensor:
        """z -> log2(x+1), clipped at 0; genes without variance get their constant."""
        return F.relu(z * self.gene_sd + self.gene_mean)
