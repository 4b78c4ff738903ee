"""Gene scale of the networks: train mean and sd per gene, and conversion to and from z-scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GeneScale(nn.Module):
    """Base class of the networks: mean and sd of each gene over the train samples, as buffers."""

    gene_mean: Tensor
    gene_sd: Tensor

    def register_genes(self, genes: int) -> None:
        """Register the buffers with mean 0 and sd 1."""
        self.register_buffer("gene_mean", torch.zeros(genes))
        self.register_buffer("gene_sd", torch.ones(genes))

    @property
    def active(self) -> Tensor:
        """Return (G,) 1 for genes that vary in training, 0 for those predicted as a constant."""
        return (self.gene_sd > 0).to(self.gene_sd.dtype)

    @property
    def parameter_count(self) -> int:
        """Return the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def standardise(self, expression: Tensor) -> Tensor:
        """Convert log2(x+1) (N, G) to z; genes without variance become 0."""
        sd = torch.where(self.gene_sd > 0, self.gene_sd, 1)
        return (expression - self.gene_mean) / sd * self.active

    def restore(self, z: Tensor) -> Tensor:
        """Convert z to log2(x+1), clipped at 0; genes without variance get their constant."""
        return F.relu(z * self.gene_sd + self.gene_mean)
