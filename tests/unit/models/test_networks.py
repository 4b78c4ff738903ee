"""The baseline networks: against slow transcriptions, padding, order, gradients, over-fitting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from slide2rna.models import pooling, registry
from torch import Tensor, nn
from torch.nn import functional as F

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


def test_every_network_has_its_settings() -> None:
    assert set(NETWORKS) == set(config.defaults("baselines")) == set(SMALL)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_has_no_influence(name: str) -> None:
    model = build(name).train()
    means, sizes = bag()
    outputs, gradients = [], []
    for content in (0.0, 1e6, float("nan"), float("inf")):
        filled = torch.where((sizes > 0)[..., None], means, content)
        torch.manual_seed(3)
        model.zero_grad()
        out = model(filled, sizes)
        out.square().sum().backward()
        outputs.append(out.detach())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for out, gradient in zip(outputs[1:], gradients[1:], strict=True):
        assert torch.equal(out, outputs[0])
        assert all(map(torch.equal, gradient, gradients[0]))
    model.eval()
    full = model(means, sizes)
    for row, there in enumerate((sizes > 0).sum(1).tolist()):
        alone = model(means[row : row + 1], sizes[row : row + 1])
        torch.testing.assert_close(alone[0], full[row])
        if name == "abmil":  # takes a bag without its padding, too
            cut = model(means[row : row + 1, :there], sizes[row : row + 1, :there])
            torch.testing.assert_close(cut[0], full[row])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_clusters(name: str) -> None:
    means, sizes = bag()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    positions = [{"position": False}, {}] if name in ("trnasformer", "sequoia") else [{}]
    for own in positions:
        model = build(name, **own).eval()
        same = torch.allclose(model(means, sizes), model(means[:, order], sizes[:, order]))
        assert same == (getattr(model, "position", None) is None)


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_dont_weight(name: str) -> None:
    model, (means, sizes) = build(name).eval(), bag()
    assert torch.equal(model(means, sizes), model(means, sizes * 7))
    assert torch.equal(model(means, sizes), model(means, (sizes > 0).float()))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("clusters", [1, 3, 120])
def test_shapes(name: str, clusters: int) -> None:
    model = build(name, clusters)
    means, sizes = bag(2, clusters)
    for mode in (True, False):
        out = model.train(mode)(means, sizes)
        assert out.shape == (2, G)
        assert out.isfinite().all()
    assert model(means[:1], sizes[:1]).shape == (1, G)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = build(name, dropout=0.0) if name != "sequoia" else build(name, width=10)
    model.train()(*bag()).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 1e-9, key


@pytest.mark.parametrize("name", NETWORKS)
def test_deterministic_in_eval_and_by_seed_in_training(name: str) -> None:
    model, batch = build(name), bag()
    assert torch.equal(model.eval()(*batch), model(*batch))
    model.train()
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        runs.append(torch.stack([model(*batch) for _ in range(8)]))
    assert torch.equal(runs[0], runs[1])
    drawn = hasattr(model, "ks") or any(isinstance(part, nn.Dropout) for part in model.modules())
    assert torch.equal(runs[0], runs[2]) != drawn


@pytest.mark.parametrize("name", NETWORKS)
def test_overfits_random_profiles(name: str) -> None:
    wider = {
        "he2rna": {"layers": [128, 128], "dropout": 0.0, "learning_rate": 3e-3},
        "trnasformer": {"hidden": 48, "heads": 6, "dropout": 0.0, "learning_rate": 2e-3},
        "sequoia": {"width": 32, "learning_rate": 2e-3},
        "abmil": {"hidden": 128, "dropout": 0.0, "learning_rate": 5e-3},
    }.get(name, {"dropout": 0.0})
    settings = config.defaults("baselines", **{name: SMALL[name] | wider})[name]
    torch.manual_seed(0)
    model = NETWORKS[name](16, K, G, settings)
    means, sizes = bag(20, features=16)
    means, target = means.float(), torch.randn(20, G)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    for _ in range(500):
        optimiser.zero_grad()
        F.mse_loss(model(means, sizes), target).backward()
        optimiser.step()
    model.eval()
    assert F.mse_loss(model(means, sizes), target) < 0.1 * target.var()


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


def slow_top_mean(scores: Tensor, there: Tensor, ks: list[int]) -> Tensor:
    """Bag by bag, gene by gene, in Python."""
    out = torch.zeros(len(scores), scores.shape[2], dtype=scores.dtype)
    for b, bag_scores in enumerate(scores.tolist()):
        kept = [row for row, flag in zip(bag_scores, there[b].tolist(), strict=True) if flag]
        for g in range(scores.shape[2]):
            ranked = sorted((row[g] for row in kept), reverse=True)
            out[b, g] = sum(sum(ranked[:k]) / min(k, len(ranked)) for k in ks) / len(ks)
    return out


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


@pytest.mark.parametrize("ks", [[1], [3], [6], [1, 6], [2, 3, 5]])
def test_top_mean_against_loops_with_gradients(ks: list[int]) -> None:
    _, sizes = bag()
    scores = torch.randn(3, K, G, dtype=torch.double, requires_grad=True)
    fast, slow = pooling.top_mean(scores, sizes > 0, ks), slow_top_mean(scores, sizes > 0, ks)
    torch.testing.assert_close(fast, slow)
    assert torch.autograd.gradcheck(lambda x: pooling.top_mean(x, sizes > 0, ks), scores)
    half = pooling.top_mean(scores.detach().bfloat16(), sizes > 0, ks)
    torch.testing.assert_close(half.double(), slow.detach(), atol=0.03, rtol=0.03)


def test_ks_for_few_clusters() -> None:
    assert pooling.clip_ks([1, 2, 5, 10, 20, 50, 100], 16) == [1, 2, 5, 10, 16]
    assert pooling.clip_ks([1, 2, 5], 1) == [1]
    assert pooling.clip_ks([1, 2, 5, 10, 20, 50, 100], 100) == [1, 2, 5, 10, 20, 50, 100]


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


def test_heads_that_dont_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"baselines\.trnasformer\.heads.*5 heads.*12"):
        build("trnasformer", heads=5)
