"""The batched network against the plain one in oracle.py, with every weight drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numerics import difference, operations
from slide2rna.core import config
from slide2rna.flow.padded_sets import MAX_BUCKETS
from slide2rna.flow.velocity import RNAFM
from slide2rna.published import weight_names
from velocity_models import CASES, build, fast, inputs, pathways, plain

torch.set_num_threads(1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"skip": "none", "cluster_weights": False},
        {"skip": "gaussian", "graph": False, "blocks": 0, "cluster_layers": 0},
        {"features": 18},
    ],
    ids=["default", "published", "bare", "projected"],
)
def test_equals_oracle(case: str, changes: dict[str, object]) -> None:
    changes = dict(changes)
    model = build(pathways(*CASES[case]), d=int(str(changes.pop("features", 16))), **changes)
    with torch.no_grad():
        args = inputs(model)
        expected = plain(model, weight_names.to_published(model), *args)
        assert expected.abs().max() > 0.05
        assert difference(fast(model, *args), expected) < 1e-10
        single = build(pathways(*CASES[case]), d=args[2].shape[-1], **changes).float()
        args32 = [value.float() for value in args]
        expected32 = plain(single, weight_names.to_published(single), *args32)
        assert difference(fast(single, *args32), expected32) < 1e-5


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
# In float32, matrix kernels of processors differ: 1.2e-5 was measured in the worst case.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("case", ["ragged", "one-gene", "crowded", "no-background", "one-set"])
def test_gradients_equal_oracle(
    case: str, dtype: torch.dtype, tolerance: float, recompute: bool
) -> None:
    exact = build(pathways(*CASES[case]), cluster_weights=False).to(dtype)
    args = tuple(value.to(dtype) for value in inputs(exact))
    weight = torch.randn(args[0].shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    weight /= len(weight)  # a mean over rows, as in training
    published = {
        name: value.requires_grad_() for name, value in weight_names.to_published(exact).items()
    }
    x_plain = args[0].clone().requires_grad_()
    (plain(exact, published, x_plain, *args[1:]) * weight).sum().backward()

    model = build(pathways(*CASES[case]), cluster_weights=False).to(dtype)
    model.recompute = recompute
    x, t, means, sizes = args
    x = x.clone().requires_grad_()
    (fast(model, x, t, means, sizes) * weight).sum().backward()
    assert x.grad is not None
    assert x_plain.grad is not None
    assert model.theta is not None
    assert exact.theta is not None
    assert difference(x.grad, x_plain.grad) < tolerance
    assert difference(model.theta.grad, exact.theta.grad) < tolerance
    # Our gradients, brought into the published layout by the same map as the weights.
    grads = build(pathways(*CASES[case]), cluster_weights=False).to(dtype)
    with torch.no_grad():
        for mine, source in zip(grads.parameters(), model.parameters(), strict=True):
            mine.copy_(source.grad if source.grad is not None else torch.zeros_like(source))
    ours = weight_names.to_published(grads)
    assert ours.keys() == published.keys()
    for name, value in published.items():
        assert value.grad is not None, name
        assert difference(ours[name], value.grad) < tolerance, name


@pytest.mark.parametrize("slides", [1, 3])
@pytest.mark.parametrize("skip", ["ridge", "gaussian", "none"])
def test_guided_velocity_equals_both_branches(slides: int, skip: str) -> None:
    """Eq. 14, for one slide's draws (where the norm takes the modulation) and for several."""
    model = build(pathways(*CASES["ragged"]), skip=skip)
    _, _, means, sizes = inputs(model, rows=slides)
    x = torch.randn(6, 20, dtype=torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64)
    image = model.encode_image(means, sizes)
    conditional = model.velocity(x, t, image)
    null = model.velocity(x, t, model.null_condition(slides))
    for scale in (0.0, 1.0, 2.0):
        expected = null + scale * (conditional - null)
        with torch.no_grad():
            assert difference(model.velocity(x, t, image, scale), expected) < 1e-10
    assert difference(conditional, null) > 1e-3


def _break_mask(model: RNAFM) -> None:
    assert model.pathway_graph is not None
    model.pathway_graph.mask = torch.ones_like(model.pathway_graph.mask)


def _break_divisor(model: RNAFM) -> None:
    model.final_layer.divisor = torch.ones_like(model.final_layer.divisor)


def _break_gather(model: RNAFM) -> None:
    model.gene_embedder.gather = model.gene_embedder.gather.roll(1)


def _break_order(model: RNAFM) -> None:
    model.final_layer.order = model.final_layer.order.roll(1)


@pytest.mark.parametrize("damage", [_break_mask, _break_divisor, _break_gather, _break_order])
def test_oracle_catches_damage(damage) -> None:  # type: ignore[no-untyped-def]
    model = build(pathways(*CASES["ragged"]))
    with torch.no_grad():
        args = inputs(model)
        expected = plain(model, weight_names.to_published(model), *args)
        assert difference(fast(model, *args), expected) < 1e-10
        damage(model)
        assert difference(fast(model, *args), expected) > 1e-3


def test_condition_is_shared_by_draws() -> None:
    model = build(pathways(*CASES["ragged"]))
    x, t, means, sizes = inputs(model, rows=3)
    draws = torch.randn(12, x.shape[1], dtype=torch.float64)
    with torch.no_grad():
        image = model.encode_image(means, sizes)
        grouped = model.velocity(draws, t, image)
        repeated = model.velocity(draws, t.repeat_interleave(4), image.repeat_interleave(4, dim=0))
    assert torch.allclose(grouped, repeated, atol=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_padding_clusters_change_nothing(weighted: bool) -> None:
    model = build(pathways(*CASES["one-set"]), clusters=5, cluster_weights=weighted)
    _, _, means, sizes = inputs(model, rows=2)
    sizes[:, 3:] = 0
    other = means.clone()
    other[:, 3:] = 1e3
    with torch.no_grad():
        assert torch.equal(model.encode_image(means, sizes), model.encode_image(other, sizes))


def test_weighted_pooling_ignores_cluster_order() -> None:
    model = build(pathways(*CASES["one-set"]))
    _, _, means, sizes = inputs(model, rows=2)
    turn = torch.tensor([4, 2, 0, 1, 3])
    with torch.no_grad():
        one = model.encode_image(means, sizes)
        other = model.encode_image(means[:, turn], sizes[:, turn])
    assert torch.allclose(one, other, atol=1e-12)


def test_weighted_attention_equals_attention_over_tiles() -> None:
    """A cluster of size 3 counts as three tiles that each carry its mean."""
    model = build(pathways(*CASES["one-set"]))
    means = torch.randn(1, 3, 16, dtype=torch.float64)
    sizes = torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64)
    tiles = means.repeat_interleave(torch.tensor([3, 2, 1]), dim=1)
    with torch.no_grad():
        one = model.encode_image(means, sizes)
        other = model.encode_image(tiles, torch.ones(1, 6, dtype=torch.float64))
    assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_operations_do_not_grow_with_pathways(guidance: float) -> None:
    """7 blocks and as many buckets as there can be; a guided velocity is two forwards at most."""
    rng = np.random.default_rng(0)
    counts, buckets = [], []
    for p in (24, 380, 3000):
        sizes = rng.lognormal(2, 1, p).astype(int).clip(1, 300)
        sets = [rng.choice(4000, size, replace=False).tolist() for size in sizes]
        settings = config.defaults("model", hidden=8, blocks=7, heads=4, graph_heads=2)
        model = RNAFM(pathways(sets, 4320), 16, 5, settings).eval()
        assert model.layout.waste <= 0.15
        x, t = torch.randn(1, 4320), torch.rand(1)
        bags = torch.randn(1, 5, 16), torch.ones(1, 5)

        def forward(model=model, x=x, t=t, bags=bags) -> None:  # type: ignore[no-untyped-def]
            model.velocity(x, t, model.encode_image(*bags), guidance)

        counts.append(operations(forward))
        buckets.append(len(model.layout.shapes))
    per_bucket = (counts[2] - counts[0]) / max(1, buckets[2] - buckets[0])
    assert max(buckets) <= MAX_BUCKETS
    assert per_bucket < 20
    assert max(counts) < 600 * guidance


def test_start_is_the_standard_normal_field() -> None:
    """At the zero start the skip carries N(0, 1) to N(0, 1); without it the field is zero."""
    sets = pathways(*CASES["ragged"])
    settings = config.defaults("model", hidden=16, blocks=1, heads=4, graph_heads=2)
    x, t = torch.randn(3, 20), torch.tensor([0.0, 0.3, 1.0])
    model = RNAFM(sets, 8, 5, settings).eval()
    image = model.encode_image(torch.randn(3, 5, 8), torch.ones(3, 5))
    k = (2 * t - 1) / (t**2 + (1 - t) ** 2)
    assert torch.allclose(model.velocity(x, t, image), k[:, None] * x, atol=1e-6)
    published = RNAFM(sets, 8, 5, settings | {"skip": "none"}).eval()
    assert not published.velocity(x, t, image[:, :16]).any()


def test_initial_weights_follow_true_sizes() -> None:
    sets = pathways([[0, 1, 2, 3], [4]], 6)
    model = RNAFM(sets, 8, 5, config.defaults("model", hidden=64, blocks=0, heads=4))
    for number, place in enumerate(model.layout.order):
        weights = weight_names.to_published(model)[f"gene_embedder.gene_count_ebd.{place}.0.weight"]
        bound = len(sets.index[place]) ** -0.5
        assert 0.8 * bound < weights.abs().max() <= bound, number


def test_parameter_groups() -> None:
    model = build(pathways(*CASES["ragged"]), cluster_weights=False)
    groups = model.parameter_groups()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(p)] for p in groups["sd"]] == ["theta"]
    decayed = {names[id(p)] for p in groups["decay"]}
    assert {"gene_embedder.second", "final_layer.ada.weight", "blocks.0.mlp.fc1.weight"} <= decayed
    assert not {name for name in decayed if "bias" in name or name.endswith("_ebd")}
    assert {"null", "condition.cluster_index_emb"} <= {names[id(p)] for p in groups["plain"]}
    frozen = {name for name in names.values() if name.startswith("mean.")}
    assert frozen == {"mean.linear.weight", "mean.linear.bias"}
    assert sum(map(len, groups.values())) == len(names) - len(frozen)


def test_full_size_takes_a_step() -> None:
    """7 blocks, 20,820 genes, K = 100, d = 1024: one training step and one draw."""
    from slide2rna.flow import path
    from slide2rna.sampling import draw
    from slide2rna.training import objective

    rng = np.random.default_rng(0)
    sizes = rng.lognormal(3.7, 0.8, 300).astype(int).clip(10, 500)
    sets = [rng.choice(18_500, size, replace=False).tolist() for size in sizes]
    settings = config.defaults("model", hidden=256)
    model = RNAFM(pathways(sets, 20_820), 1024, 100, settings)
    assert model.layout.waste <= 0.15
    part = objective.TensorPart(
        torch.randn(1, 100, 1024), torch.rand(1, 100), torch.randn(1, 20_820)
    )
    optimiser = objective.optimiser(model, config.defaults("train", learning_rate=1e-3))
    before = model.final_layer.out_bias[0].detach().clone()
    loss = objective.train_step_loss(model, part, 0.1, torch.Generator().manual_seed(0))
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    assert not torch.equal(before, model.final_layer.out_bias[0])
    with torch.inference_mode():
        image = model.eval().encode_image(part.means, part.sizes)
    z = draw.draw(
        model,
        image,
        torch.randn(1, 1, model.noise_width),
        config.defaults("sample", steps=2, guidance=2.0),
    )
    assert z.shape == (1, 1, 20_820)
    assert torch.isfinite(path.loss(z[0], torch.zeros(1, 20_820), model.active))
