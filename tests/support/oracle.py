"""RNA-FM written down plainly: a loop over pathways, one slide at a time, from the equations.

It shares no code with the package. Weights come under the names of the published layout; what the
published model doesn't have is passed in `extras`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def linear(x: Tensor, state: State, name: str) -> Tensor:
    y = x @ state[f"{name}.weight"].T
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def norm(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)


def affine_norm(x: Tensor, state: State, name: str) -> Tensor:
    return norm(x, 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(x: Tensor, qkv: Tensor, heads: int, added: Tensor) -> Tensor:
    """x (N, h), qkv (N, 3h), added (N, N) or (1, N) logits -> (N, h)."""
    h = x.shape[1]
    width = h // heads
    out = torch.empty_like(x)
    for head in range(heads):
        q, k, v = (
            qkv[:, part * h + head * width : part * h + (head + 1) * width] for part in range(3)
        )
        weights = torch.softmax(q @ k.T / math.sqrt(width) + added, dim=-1)
        out[:, head * width : (head + 1) * width] = weights @ v
    return out


def mask(sets: Sequence[Sequence[int]]) -> Tensor:
    """Eq. 4: 0 where two sets share a gene or are the same, -inf elsewhere."""
    added = torch.zeros(len(sets), len(sets), dtype=torch.float64)
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            if i != j and not set(one) & set(other):
                added[i, j] = -math.inf
    return added


def image(
    state: State, means: Tensor, sizes: Tensor, heads: int, weighted: bool, extras: State
) -> Tensor:
    """One slide's clusters (K, d), sizes (K,) -> y_emb (h,)."""
    y = (means - extras["feature_mean"]) / extras["feature_scale"]
    if "project.weight" in extras:
        y = linear(y, extras, "project")
    if not weighted:
        y = y + state["cluster_index_emb"]
    present = sizes > 0
    share = (sizes if weighted else present.to(y.dtype)) / (
        sizes.sum() if weighted else present.sum()
    )
    added = torch.where(present, torch.log(share) if weighted else 0.0 * share, -math.inf)[None]
    layers = sum(name.endswith(".0.qkv.weight") for name in state if name.startswith("transformer"))
    for i in range(layers):
        name = f"transformer.layers.{i}"
        mixed = attention(y, linear(y, state, f"{name}.0.qkv"), heads, added)
        y = y + linear(mixed, state, f"{name}.0.proj")
        inner = linear(affine_norm(y, state, f"{name}.1.net.0"), state, f"{name}.1.net.1")
        y = y + linear(gelu(inner), state, f"{name}.1.net.3")
    pooled = (y * share[:, None]).sum(0)
    return linear(silu(linear(pooled, state, "image_embedder.0")), state, "image_embedder.2")


def time_embedding(state: State, t: Tensor) -> Tensor:
    rates = torch.exp(-math.log(10_000) * torch.arange(128, dtype=torch.float32) / 128)
    angles = 1000 * t * rates.to(t.dtype)
    wave = torch.cat([torch.cos(angles), torch.sin(angles)])
    return linear(silu(linear(wave, state, "t_embedder.mlp.0")), state, "t_embedder.mlp.2")


def velocity(
    state: State,
    sets: Sequence[Sequence[int]],
    background: Sequence[int],
    x: Tensor,
    t: Tensor,
    y_emb: Tensor,
    heads: int,
    graph_heads: int,
    theta: Tensor | None = None,
    mean: Tensor | float = 0,
) -> Tensor:
    """One row: x (G,), t (), y_emb (h,) -> v (G,), linear path; `mean` (G,) is the linear one."""
    c = time_embedding(state, t) + y_emb
    tokens = []
    for i, genes in enumerate(sets):  # Eq. 1, 2
        name = f"gene_embedder.gene_count_ebd.{i}"
        inner = silu(linear(x[list(genes)], state, f"{name}.0"))
        tokens.append(
            linear(inner, state, f"{name}.2") + state["gene_embedder.gene_pathway_ebd"][i]
        )
    z = torch.stack(tokens)
    if "pathway_graph.alpha" in state:  # Eq. 4 to 7
        name = "pathway_graph"
        normed = affine_norm(z, state, f"{name}.norm1")
        qkv = normed @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
        mixed = attention(normed, qkv, graph_heads, mask(sets).to(x.dtype))
        z = z + state[f"{name}.alpha"] * linear(mixed, state, f"{name}.attn.out_proj")
        inner = gelu(linear(affine_norm(z, state, f"{name}.norm2"), state, f"{name}.mlp.0"))
        z = z + linear(inner, state, f"{name}.mlp.2")
    depth = sum(key.startswith("blocks.") and key.endswith("mlp.fc1.weight") for key in state)
    for i in range(depth):
        name = f"blocks.{i}"
        parts = linear(silu(c), state, f"{name}.adaLN_modulation.1").chunk(6)
        moved = norm(z, 1e-6) * (1 + parts[1]) + parts[0]
        mixed = attention(
            moved, linear(moved, state, f"{name}.attn.qkv"), heads, torch.zeros((), dtype=x.dtype)
        )
        z = z + parts[2] * linear(mixed, state, f"{name}.attn.proj")
        moved = norm(z, 1e-6) * (1 + parts[4]) + parts[3]
        inner = gelu_tanh(linear(moved, state, f"{name}.mlp.fc1"))
        z = z + parts[5] * linear(inner, state, f"{name}.mlp.fc2")
    total = [torch.zeros((), dtype=x.dtype) for _ in range(len(x))]
    count = [0] * len(x)
    for i, genes in enumerate(sets):
        shift, scale = linear(silu(c), state, f"final_layer.adaLN_modulation.{i}.1").chunk(2)
        moved = norm(z[i], 1e-6) * (1 + scale) + shift
        values = linear(moved, state, f"final_layer.linear.{i}")
        for value, gene in zip(values, genes, strict=True):
            total[gene] = total[gene] + value
            count[gene] += 1
    if len(background):  # Eq. 3
        outside = x[list(background)]
        inner = silu(linear(outside, state, "gene_embedder.bg_gene_count_ebd.0"))
        token = linear(inner, state, "gene_embedder.bg_gene_count_ebd.2")
        token = token + state["gene_embedder.bg_gene_bias"][0, 0]
        shift, scale = linear(silu(c), state, "bg_head.ada.1").chunk(2)
        values = linear(norm(token, 1e-5) * (1 + scale) + shift, state, "bg_head.fc")
        for value, gene in zip(values, background, strict=True):
            total[gene] = total[gene] + value
            count[gene] += 1
    out = torch.stack([value / max(n, 1) for value, n in zip(total, count, strict=True)])  # Eq. 8
    if theta is None:
        return out
    sd = torch.exp(theta)
    spread = t**2 * sd**2 + (1 - t) ** 2
    k = (t * sd**2 - (1 - t)) / spread
    return k * x + (1 - k * t) * (out + mean)
