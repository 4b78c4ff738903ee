"""Network layers without gene sets: time embedding, cluster transformer, graph, DiT blocks.

Module names follow the state_dict of the published code, so that conversion only renames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 256


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Apply an adaLN modulation: x (1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Apply LayerNorm without affine, then adaLN: x (S, N, h), shift and scale (S, 1, h).

    All draws of one slide share a condition, so the affine step of the norm can do the modulation.
    """
    shape = x.shape[-1:]
    if len(x) == 1 and not torch.is_grad_enabled():
        weight, bias = (value.flatten().to(x.dtype) for value in (1 + scale, shift))
        return F.layer_norm(x, shape, weight, bias, eps)
    return modulate(F.layer_norm(x, shape, eps=eps), shift, scale)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that starts at 0 (adaLN-Zero)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split (B, N, parts * h) into `parts` tensors of (B, heads, N, h / heads)."""
    b, n, width = x.shape
    return x.view(b, n, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


class Attention(nn.Module):
    """Self-attention over (B, N, dim); `mask` is boolean (true = may attend) or additive."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = _split_heads(self.qkv(x), 3, self.heads)
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


class TimeEmbedder(nn.Module):
    """Time embedding, t (B,) -> (B, h): sinusoids of 1000 t, cosines first, then an MLP."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        half = FREQUENCIES // 2
        # In float32 throughout, as in the published code: at 1000 rad the last bit matters.
        rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("rates", rates, persistent=False)
        self.rates: Tensor

    def forward(self, t: Tensor) -> Tensor:
        angles = 1000 * t[:, None] * self.rates
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


class FeedForward(nn.Module):
    """LayerNorm, linear, exact GELU, linear."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, width), nn.GELU(), nn.Linear(width, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ClusterTransformer(nn.Module):
    """Layers of attention without a preceding norm, then a pre-norm MLP, both residual."""

    def __init__(self, dim: int, heads: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(dim, heads, qkv_bias=False), FeedForward(dim, width)])
            for _ in range(layers)
        )

    def forward(self, y: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            attention, feed = layer.children()
            y = y + attention(y, mask)
            y = y + feed(y)
        return y


class PathwayGraph(nn.Module):
    """Pre-norm masked attention between pathways that share genes, and an FFN (Eq. 4-7).

    Parameters
    ----------
    adjacency
        (P, P) bool, symmetric with a true diagonal. All heads and rows share this mask of P^2
        bytes.
    """

    def __init__(
        self, hidden: int, heads: int, mlp_ratio: int, dropout: float, adjacency: Tensor
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden)
        self.attn = Attention(hidden, heads, qkv_bias=True)
        self.alpha = nn.Parameter(torch.tensor(0.1))
        self.drop = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(hidden)
        self.width = mlp_ratio * hidden
        self.mlp = nn.Sequential(
            nn.Linear(hidden, self.width), nn.GELU(), nn.Linear(self.width, hidden)
        )
        self.register_buffer("mask", adjacency, persistent=False)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.alpha * self.drop(self.attn(self.norm1(x), self.mask))
        return x + self.mlp(self.norm2(x))


# oneDNN's linear product with a fused GELU, the operation that torch.compile would use.
_PRODUCT_GELU = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


class Mlp(nn.Module):
    """Linear, tanh GELU, linear."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, width)
        self.fc2 = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self._widen(x))

    def _widen(self, x: Tensor) -> Tensor:
        weight, bias = self.fc1.weight, self.fc1.bias
        unfused = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)
        sampling = not (unfused or torch.compiler.is_compiling())
        if sampling and _PRODUCT_GELU and x.device.type == "cpu" and x.dtype == torch.float32:
            fused: Tensor = _PRODUCT_GELU(x, weight, bias, "gelu", [], "tanh")
            return fused
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")


class Block(nn.Module):
    """A DiT block with adaLN-Zero.

    The condition has one row per slide: tokens are (S * D, P, h), the condition (S, h).
    """

    def __init__(self, hidden: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attn = Attention(hidden, heads, qkv_bias=True)
        self.mlp = Mlp(hidden, mlp_ratio * hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), zero_linear(hidden, 6 * hidden))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        shape, grouped = z.shape, (len(c), -1, z.shape[-1])
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            self.adaLN_modulation(c).unsqueeze(1).chunk(6, dim=-1)
        )
        z = z.view(grouped)
        modulated = modulated_norm(z, shift1, scale1, 1e-6)
        z = torch.addcmul(z, gate1, self.attn(modulated.view(shape)).view(grouped))
        modulated = modulated_norm(z, shift2, scale2, 1e-6)
        return torch.addcmul(z, gate2, self.mlp(modulated)).view(shape)
