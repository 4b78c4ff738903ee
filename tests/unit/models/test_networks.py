"""What every baseline network keeps: padding, order, shapes, gradients, seeds, over-fitting."""

from __future__ import annotations

import pytest
import torch
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from small_networks import NETWORKS, SMALL, G, K, bag, build
from torch import nn
from torch.nn import functional as F


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


def test_heads_that_dont_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"baselines\.trnasformer\.heads.*5 heads.*12"):
        build("trnasformer", heads=5)
