"""Pathway tokens: genes to tokens and back (Eq. 1-3 and 8) in a fixed number of operations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slide2rna.flow.layers import modulate, modulated_norm, zero_linear
from slide2rna.flow.padded_sets import PaddedSets, SegmentMean


def _buffer(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _uniform(shape: tuple[int, ...], fan_in: Tensor | int) -> Tensor:
    """Initialise as PyTorch's Linear, with each set's true fan-in instead of the padded one."""
    bound = torch.as_tensor(fan_in, dtype=torch.float32).clamp(min=1).rsqrt()
    return (2 * torch.rand(shape) - 1) * bound


class GeneEmbedder(nn.Module):
    """A two-layer MLP per pathway and one for the background genes.

    x (B, G) -> tokens (B, P, h) in the layout's order, background token (B, h) or None. First-layer
    weights are padded to the bucket's width. The padded cells receive a zero input, so their
    gradient is zero and they stay zero.
    """

    def __init__(self, layout: PaddedSets, background: np.ndarray, hidden: int) -> None:
        super().__init__()
        self.layout = layout
        p = len(layout.order)
        self.first = nn.ParameterList()
        start = 0
        for n, m in layout.shapes:
            sizes = torch.from_numpy(layout.sizes[start : start + n])
            weight = _uniform((n, hidden, m), sizes[:, None, None])
            padding = torch.arange(m) >= sizes[:, None]
            self.first.append(nn.Parameter(weight.masked_fill(padding[:, None, :], 0)))
            start += n
        sizes = torch.from_numpy(layout.sizes)
        self.first_bias = nn.Parameter(_uniform((p, hidden), sizes[:, None]))
        self.second = nn.Parameter(_uniform((p, hidden, hidden), hidden))
        self.second_bias = nn.Parameter(_uniform((p, hidden), hidden))
        self.gene_pathway_ebd = nn.Parameter(0.02 * torch.randn(p, hidden))
        self.register_buffer("gather", _buffer(layout.gather), persistent=False)
        self.register_buffer("background", _buffer(background), persistent=False)
        self.gather: Tensor
        self.background: Tensor
        self.bg_gene_count_ebd: nn.Sequential | None = None
        if len(background):
            self.bg_gene_count_ebd = nn.Sequential(
                nn.Linear(len(background), hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            self.bg_gene_bias = nn.Parameter(torch.zeros(1, 1, hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        # Rows of x are the columns of every product, so gradients have the layout of the weights.
        rows = F.pad(x.t(), (0, 0, 0, 1)).contiguous()
        cells = self.layout.split(rows.index_select(0, self.gather))
        products = [torch.bmm(w, cell) for w, cell in zip(self.first, cells, strict=True)]
        hidden = F.silu(torch.cat(products) + self.first_bias[:, :, None])
        bias = (self.second_bias + self.gene_pathway_ebd)[:, :, None]
        tokens = torch.baddbmm(bias, self.second, hidden).permute(2, 0, 1).contiguous()
        if self.bg_gene_count_ebd is None:
            return tokens, None
        background = rows.index_select(0, self.background).t()
        return tokens, self.bg_gene_count_ebd(background) + self.bg_gene_bias[0]


class BackgroundHead(nn.Module):
    """Background token and condition -> one value per background gene."""

    def __init__(self, hidden: int, genes: int) -> None:
        super().__init__()
        self.ada = nn.Sequential(nn.SiLU(), zero_linear(hidden, 2 * hidden))
        self.fc = zero_linear(hidden, genes)

    def modulate(self, token: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.ada(c).unsqueeze(1).chunk(2, dim=-1)
        grouped = token.view(len(c), -1, token.shape[-1])
        return modulated_norm(grouped, shift, scale, 1e-5).view(token.shape)


class GeneHeads(nn.Module):
    """A head with adaLN per pathway, the background head, and overlap averaging (Eq. 8).

    `modulate` applies the condition; `forward` is affine in its input. So a guided velocity, whose
    coefficients sum to 1, mixes the modulated tokens of its branches and projects once.
    """

    def __init__(self, layout: PaddedSets, background: np.ndarray, hidden: int) -> None:
        super().__init__()
        self.layout = layout
        p = len(layout.order)
        self.ada = zero_linear(hidden, p * 2 * hidden)
        self.out = nn.ParameterList(
            nn.Parameter(torch.zeros(n, m, hidden)) for n, m in layout.shapes
        )
        self.out_bias = nn.ParameterList(nn.Parameter(torch.zeros(n, m)) for n, m in layout.shapes)
        self.background = BackgroundHead(hidden, len(background)) if len(background) else None
        gene = np.concatenate([layout.gather, background])
        order = np.argsort(gene, kind="stable")[: int((gene < layout.n_genes).sum())]
        counts = np.bincount(gene[order], minlength=layout.n_genes)
        self.register_buffer("gene", _buffer(gene), persistent=False)
        self.register_buffer("order", _buffer(order), persistent=False)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.register_buffer("starts", _buffer(starts), persistent=False)
        divisor = torch.from_numpy(np.maximum(counts, 1)).float()[:, None]
        self.register_buffer("divisor", divisor, persistent=False)
        self.gene: Tensor
        self.order: Tensor
        self.starts: Tensor
        self.divisor: Tensor

    def modulate(self, tokens: Tensor, background: Tensor | None, c: Tensor) -> list[Tensor]:
        """Apply adaLN to the tokens (R, P, h) and to the background token (R, h), if any.

        The condition is (S, h) with R = S * D: modulations are computed once per row of the
        condition, not per draw.
        """
        rows, p, h = tokens.shape
        shift, scale = self.ada(F.silu(c)).view(len(c), 1, p, 2 * h).chunk(2, dim=-1)
        normed = F.layer_norm(tokens, (h,), eps=1e-6).view(len(c), -1, p, h)
        modulated = [modulate(normed, shift, scale).view(rows, p, h)]
        if self.background is not None and background is not None:
            modulated.append(self.background.modulate(background, c))
        return modulated

    def forward(self, modulated: list[Tensor]) -> Tensor:
        """Project modulated tokens to genes (R, G)."""
        rows = len(modulated[0])
        columns = modulated[0].permute(1, 2, 0)
        parts = columns.split([n for n, _ in self.layout.shapes])
        cells = [
            torch.baddbmm(bias[:, :, None], weight, part).view(-1, rows)
            for bias, weight, part in zip(self.out_bias, self.out, parts, strict=True)
        ]
        if self.background is not None:
            cells.append(self.background.fc(modulated[1]).t())
        joined = torch.cat(cells)
        if joined.dtype == torch.bfloat16:
            joined = joined.float()
        return SegmentMean.apply(joined, self.order, self.starts, self.gene, self.divisor).t()
