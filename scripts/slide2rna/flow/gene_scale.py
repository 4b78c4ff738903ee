"""Gene scale of the networks: conversion between expression and the units of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slide2rna.flow import quantile_map

# Normal scores at which `mean_table` is tabulated.
GRID = torch.linspace(-4, 4, 129)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)


class GeneScale(nn.Module):
    """Base class of the networks: the scale of each gene over the train samples, as buffers.

    Targets are z-scores, (x - mean) / sd; or normal scores, through a monotone map of the gene's
    train quantiles (`quantile_map`). A Gaussian in normal scores has the gene's own skewness and
    its pile of zeros, and with the train mean and sd it is the train distribution itself.

    In normal scores, the expected expression isn't the expression at the mean score. `mean_table`
    (129, G) holds E[x] for a Gaussian score of mean `GRID` and the gene's residual sd.
    """

    gene_mean: Tensor
    gene_sd: Tensor
    gene_knots: Tensor
    mean_table: Tensor

    def register_genes(self, genes: int, knots: int = 0) -> None:
        """Register the buffers: mean 0 and sd 1, and `knots` quantiles of normal scores or none."""
        self.register_buffer("gene_mean", torch.zeros(genes))
        self.register_buffer("gene_sd", torch.ones(genes))
        if knots:
            self.register_buffer("gene_knots", torch.zeros(knots, genes))
            self.register_buffer("mean_table", torch.zeros(len(GRID), genes))
        self.uses_normal_scores = knots > 0

    @property
    def active(self) -> Tensor:
        """Return (G,) 1 for genes that vary in training, 0 for those predicted as a constant."""
        return (self.gene_sd > 0).to(self.gene_sd.dtype)

    @property
    def parameter_count(self) -> int:
        """Return the number of parameters, frozen ones among them."""
        return sum(parameter.numel() for parameter in self.parameters())

    def standardise(self, expression: Tensor, position: Tensor | None = None) -> Tensor:
        """Convert log2(x+1) (N, G) to the targets' units; genes without variance become 0.

        `position` (N, G) in [0, 1] spreads tied values over their band of normal scores.
        """
        if self.uses_normal_scores:
            return quantile_map.to_scores(expression, self.gene_knots, position) * self.active
        sd = torch.where(self.gene_sd > 0, self.gene_sd, 1)
        return (expression - self.gene_mean) / sd * self.active

    def restore(self, z: Tensor) -> Tensor:
        """Convert targets (..., G) to log2(x+1), at least 0; without variance, to a constant."""
        if self.uses_normal_scores:
            rows = z.reshape(-1, z.shape[-1])
            return quantile_map.to_values(rows, self.gene_knots).view(z.shape)
        return F.relu(z * self.gene_sd + self.gene_mean)

    def restore_mean(self, z: Tensor) -> Tensor:
        """Convert mean targets (..., G) to expected log2(x+1)."""
        if not self.uses_normal_scores:
            return self.restore(z)
        step = float(GRID[1] - GRID[0])
        rows = z.reshape(-1, z.shape[-1])
        place = ((rows - float(GRID[0])) / step).clamp(0, len(GRID) - 1)
        lower = place.floor()
        first = lower.long()
        low = self.mean_table.gather(0, first)
        high = self.mean_table.gather(0, (first + 1).clamp(max=len(GRID) - 1))
        return torch.lerp(low, high, place - lower).view(z.shape)

    def mean_score(self, expression: Tensor) -> Tensor:
        """Return mean scores (N, G) for an expected expression, the inverse of `restore_mean`."""
        table, rows = self.mean_table.T.contiguous(), expression.T.contiguous()
        above = torch.searchsorted(table, rows).clamp(1, len(GRID) - 1)
        low, high = table.gather(1, above - 1), table.gather(1, above)
        step = torch.where(high > low, high - low, 1)
        share = torch.where(high > low, ((rows - low) / step).clamp(0, 1), 0.5)
        grid = GRID.to(table)
        return torch.lerp(grid[above - 1], grid[above], share).T

    def blend_means(self, scores: Tensor, expression: Tensor, weight: Tensor) -> Tensor:
        """Move mean scores (N, G) so that the expected expression moves towards another estimate.

        Parameters
        ----------
        expression
            (N, G) expected log2(x+1), fitted in the genes' own scale.
        weight
            () its share in the expected expression of the result.
        """
        # An estimate beyond the gene's possible draws would need an infinite score.
        possible = torch.minimum(expression.clamp(min=self.mean_table[0]), self.mean_table[-1])
        return self.mean_score(torch.lerp(self.restore_mean(scores), possible, weight))

    def fit_mean_table(self, sd: Tensor) -> None:
        """Tabulate E[x] for residual sds (G,), by Gauss-Hermite quadrature."""
        total = torch.zeros_like(self.mean_table)
        grid = GRID.to(total)[:, None]
        for node, weight in zip(NODES, WEIGHTS / WEIGHTS.sum(), strict=True):
            total += float(weight) * self.restore(grid + float(node) * sd)
        self.mean_table.copy_(total)
