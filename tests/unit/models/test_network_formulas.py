"""Each baseline network against its formulas: loops, published sizes, torch's own layers."""

from __future__ import annotations

import pytest
import torch
from slide2rna.core import config
from small_networks import NETWORKS, D, K, bag, build, slow_top_mean
from torch import Tensor, nn
from torch.nn import functional as F


@pytest.mark.parametrize("name", ["he2rna", "trnasformer", "sequoia", "abmil"])
def test_published_sizes(name: str) -> None:
    """Parameters at the default settings, UNI's 1,024 features, 100 clusters, 20 genes."""
    settings = config.defaults("baselines")[name]
    model = NETWORKS[name](1024, 100, 20, settings)
    d, g = 1024, 20
    block = 2 * 2 * 384 + (384 + 1) * 3 * 384 + (384 + 1) * 384 + 2 * 4 * 384 * 384 + 5 * 384
    head = 2 * (d * 64 + 64) + 2 * 2 * 64 + 128 * 64 + 64
    layer = 16 * head + 1024 * d + d + 2 * d + 2 * (d * d + d)
    expected = {
        "he2rna": 2 * (d * d + d) + (d + 1) * g,
        "trnasformer": (d + 1) * 384 + 384 + 100 * 384 + 4 * block + 2 * 384 + 385 * g,
        "sequoia": 100 * d + 6 * layer + 2 * d + (d + 1) * g,
        "abmil": (d + 1) * 512 + 2 * 513 * 128 + 128 + 513 * g,
    }[name]
    assert sum(p.numel() for p in model.parameters()) == expected


def test_he2rna_against_loops() -> None:
    model, (means, sizes) = build("he2rna", dropout=0.5), bag()
    weights = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert model.ks == [1, 2, 4, 6]  # 100 became the number of clusters

    def scores(row: Tensor) -> Tensor:
        for layer in weights[:-1]:
            row = (layer.weight @ row + layer.bias).clamp(min=0)
        return weights[-1].weight @ row + weights[-1].bias

    table = torch.stack([torch.stack([scores(row) for row in rows]) for rows in means])
    expected = slow_top_mean(table, sizes > 0, [1, 2, 4, 6])
    torch.testing.assert_close(model.eval()(means, sizes), expected)


def test_a_k_is_drawn_in_training() -> None:
    model, (means, sizes) = build("he2rna", dropout=0.0), bag()
    scores = model.head(model.hidden(means))
    answers = [slow_top_mean(scores, sizes > 0, [k]) for k in model.ks]
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        out = model(means, sizes)
        seen.add(next(i for i, answer in enumerate(answers) if torch.allclose(out, answer)))
    assert seen == {0, 1, 2, 3}


def test_linear_mixing_against_all_pairs() -> None:
    """Each cluster with each other one, head by head: n^2 steps."""
    model, (means, sizes) = build("sequoia"), bag()
    mixing = model.layers[0][0]
    heads, size = mixing.shape
    for norm in (mixing.local_norm, mixing.summary_norm):
        nn.init.normal_(norm.scale)
        nn.init.normal_(norm.shift)
    expected = torch.zeros_like(means)
    for b in range(len(means)):
        there = [j for j in range(K) if sizes[b, j] > 0]
        for i in range(K):
            joined = []
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                local = mixing.local.weight[part] @ means[b, i] + mixing.local.bias[part]
                whole = torch.zeros(size, dtype=means.dtype)
                for j in there:
                    one = mixing.summary.weight[part] @ means[b, j] + mixing.summary.bias[part]
                    whole = whole + one / len(there)
                both = []
                for value, norm in ((local, mixing.local_norm), (whole, mixing.summary_norm)):
                    centred = value - value.mean()
                    scaled = centred / (centred.square().mean() + 1e-5).sqrt()
                    both.append(F.gelu(scaled * norm.scale[h] + norm.shift[h]))
                joined.append(F.gelu(torch.cat(both) @ mixing.weight[h] + mixing.bias[h]))
            expected[b, i] = mixing.join.weight @ torch.cat(joined) + mixing.join.bias
    torch.testing.assert_close(mixing(means, sizes > 0), expected)


def test_sequoia_pools_by_the_plain_mean() -> None:
    model, (means, sizes) = build("sequoia", blocks=0), bag()
    rows = [
        (mean[size > 0] + model.position[size > 0]).mean(dim=0)
        for mean, size in zip(means, sizes, strict=True)
    ]
    torch.testing.assert_close(model(means, sizes), model.head(torch.stack(rows)))


def test_abmil_against_a_loop() -> None:
    model, (means, sizes) = build("abmil").eval(), bag()
    linear = model.embed[0]
    for row in range(len(means)):
        hidden, scores = [], []
        for mean, size in zip(means[row], sizes[row], strict=True):
            if size == 0:
                continue
            h = (linear.weight @ mean + linear.bias).clamp(min=0)
            v = torch.tanh(model.value.weight @ h + model.value.bias)
            u = 1 / (1 + torch.exp(-(model.gate.weight @ h + model.gate.bias)))
            hidden.append(h)
            scores.append(torch.exp((model.score.weight[0] * v * u).sum()))
        pooled = sum(h * s for h, s in zip(hidden, scores, strict=True)) / sum(scores)
        expected = model.head.weight @ pooled + model.head.bias
        torch.testing.assert_close(model(means, sizes)[row], expected)


def test_abmil_with_cluster_weights_is_attention_over_tiles() -> None:
    model = build("abmil", cluster_weights=True).eval()
    means = torch.randn(1, 3, D, dtype=torch.double)
    sizes = torch.tensor([[3, 2, 1]])
    tiles = means.repeat_interleave(sizes[0], dim=1)
    clustered, plain = model(means, sizes.double()), model(tiles, torch.ones(1, 6).double())
    torch.testing.assert_close(clustered, plain)
    assert not torch.allclose(clustered, model(means, torch.ones(1, 3).double()))
    padded = torch.cat([means, torch.full((1, 2, D), torch.nan).double()], dim=1)
    there = torch.nn.functional.pad(sizes, (0, 2)).double()
    torch.testing.assert_close(model(padded, there), clustered)


def test_trnasformer_against_torchs_encoder() -> None:
    """The same weights in torch's own pre-norm layers, with the padding cut off."""
    model, (means, sizes) = build("trnasformer").eval(), bag()
    for row in range(len(means)):
        there = int((sizes[row] > 0).sum())
        x = torch.cat([model.token, model.embed(means[row, :there]) + model.position[:there]])[None]
        for block in model.blocks:
            theirs = nn.TransformerEncoderLayer(
                12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.double
            )
            norm, first, _, second = block.feed.net
            theirs.load_state_dict(
                {
                    "self_attn.in_proj_weight": block.attn.qkv.weight,
                    "self_attn.in_proj_bias": block.attn.qkv.bias,
                    "self_attn.out_proj.weight": block.attn.proj.weight,
                    "self_attn.out_proj.bias": block.attn.proj.bias,
                    "linear1.weight": first.weight,
                    "linear1.bias": first.bias,
                    "linear2.weight": second.weight,
                    "linear2.bias": second.bias,
                    "norm1.weight": block.norm.weight,
                    "norm1.bias": block.norm.bias,
                    "norm2.weight": norm.weight,
                    "norm2.bias": norm.bias,
                }
            )
            x = theirs(x)
        scores = model.head(model.norm(x[:, 1:]))
        full = torch.ones(1, there, dtype=torch.bool)
        expected = slow_top_mean(scores, full, [1, 2, 4, 6])
        torch.testing.assert_close(model(means, sizes)[row], expected[0])
