"""The mixture head: its sum, its start, its choice, and its place in a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import flow_cohort
import numerics
import numpy as np
import polars as pl
import pytest
import torch
from slide2rna.data.statistics import gene_statistics
from slide2rna.flow.conditional_mean import ConditionalMean
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.mixture_head import MixtureHead
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.training import fit, mixture_fit
from slide2rna.training.linear_fit import BagPart, Targets
from slide2rna.training.mean_fit import MeanFit
from slide2rna.training.mixture_fit import fit_mixture, start_from_ridge

CPU = torch.device("cpu")
FEATURES, CLUSTERS, GENES, RANK = 5, 4, 7, 3


def head() -> MixtureHead:
    torch.manual_seed(0)
    made = MixtureHead(FEATURES, GENES, RANK).double().eval()
    for value in (made.network[-1].weight, made.network[-1].bias, made.states):
        torch.nn.init.normal_(value)
    sd = torch.linspace(0.2, 1.4, GENES).double()
    sd[-1] = 0
    made.set_units(torch.linspace(0.1, 8, GENES).double(), sd)
    return made


def bag(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, CLUSTERS, FEATURES, generator=generator, dtype=torch.float64)
    return features, torch.randint(1, 9, (rows, CLUSTERS), generator=generator).double()


def test_the_bulk_is_that_of_a_loop_over_tiles() -> None:
    """Each cluster stands for as many tiles as its size says, and tiles add up in linear scale."""
    made, (features, sizes) = head(), bag()
    found = made(features, sizes).detach().numpy()
    state = {name: value.detach().numpy() for name, value in made.state_dict().items()}
    for row in range(len(features)):
        total, tiles = np.zeros(GENES), 0
        for y, size in zip(features[row].numpy(), sizes[row].numpy(), strict=True):
            inner = state["network.0.weight"] @ y + state["network.0.bias"]
            inner = inner / (1 + np.exp(-inner))
            h = state["states"] @ y + state["network.3.weight"] @ inner + state["network.3.bias"]
            z = state["response.weight"] @ h + state["response.bias"]
            x = state["amount"] * np.log(1 + np.exp(state["gain"] * z)) / np.log(2)
            assert made.levels(torch.from_numpy(y)).detach().numpy() == pytest.approx(
                np.log2(1 + x)
            )
            for _ in range(int(size)):
                total, tiles = total + x + 1, tiles + 1
        # A sum of x + 1 over shares is one of x, as the shares add up to 1.
        assert found[row] == pytest.approx(np.log2(total / tiles))


def test_padding_subsets_of_genes_and_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, (features, sizes) = head(), bag()
    whole = made(features, sizes)
    wider = torch.cat([features, torch.full((6, 2, FEATURES), 30.0, dtype=torch.float64)], dim=1)
    more = torch.cat([sizes, torch.zeros(6, 2, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(made(wider, more), whole)
    some = torch.tensor([5, 0, 2])
    torch.testing.assert_close(made(features, sizes, some), whole[:, some])
    monkeypatch.setattr("slide2rna.flow.mixture_head.CHUNK", 2 * CLUSTERS * GENES)
    torch.testing.assert_close(made(features, sizes), whole)


def test_gradients_are_those_of_differences() -> None:
    made, (features, sizes) = head(), bag(rows=2)
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: made(y, sizes), (features,))
    for weight in made.parameters():
        (gradient,) = torch.autograd.grad(made(features, sizes).square().sum(), weight)
        place = tuple(0 for _ in weight.shape)
        slope = numerics.slope(lambda: made(features, sizes).square().sum(), weight, place)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_amounts_are_never_negative_and_a_constant_gene_has_its_constant() -> None:
    made, (features, _) = head(), bag()
    levels = made.levels(100 * features)
    assert levels.isfinite().all()
    assert (levels >= 0).all()
    torch.testing.assert_close(levels[..., -1], torch.full_like(levels[..., -1], 8))


def cohort(n: int, seed: int, kind: str) -> tuple[BagPart, np.ndarray]:
    """Slides of two tissues: expression is a mixture of theirs, or linear in the mean."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.02, 0.6, n)
    tissue = np.arange(12) < np.round(12 * share)[:, None]
    features = rng.normal(0, 0.4, (n, 12, FEATURES))
    features[..., 0] += 2 * tissue
    mean = features.mean(axis=1)
    level = np.linspace(4, 9, GENES)
    if kind == "mixture":
        exact = np.log2(1 + tissue.mean(axis=1)[:, None] * 2**level)
    else:
        exact = 6 + mean @ np.random.default_rng(9).normal(size=(FEATURES, GENES))
    values = np.maximum(exact + rng.normal(0, 0.3, (n, GENES)), 0)
    part = BagPart(
        torch.from_numpy(features).float(),
        torch.ones(n, 12),
        mean,
        [f"S{row}" for row in range(n)],
    )
    return part, values


def ridge(kind: str) -> tuple[MeanFit, GeneScale, tuple[BagPart, BagPart], Targets]:
    """A least-squares fit in z-scores of such a cohort, without a pooled head."""
    train, values = cohort(120, 1, kind)
    val, values_val = cohort(40, 2, kind)
    scale = GeneScale()
    scale.register_genes(GENES)
    mean, sd = gene_statistics(values, train.units)
    scale.gene_mean.copy_(torch.from_numpy(mean))
    scale.gene_sd.copy_(torch.from_numpy(sd))
    z, z_val = ((part - mean) / sd for part in (values, values_val))
    design = np.column_stack([train.mean, np.ones(len(z))])
    solution = np.linalg.lstsq(design, z, rcond=None)[0]
    linear = ConditionalMean(FEATURES, 12, GENES)
    with torch.no_grad():
        linear.linear.weight.copy_(torch.from_numpy(solution[:-1].T))
        linear.linear.bias.copy_(torch.from_numpy(solution[-1]))
    basis = np.linalg.svd(z, full_matrices=False)[2].T
    left_out, predicted = (part.mean @ solution[:-1] + solution[-1] for part in (train, val))
    made = MeanFit(linear.eval(), 0, left_out, False, predicted, [], basis)
    return made, scale, (train, val), Targets(z, z_val, np.ones(GENES))


def test_it_starts_from_the_ridge_to_first_order() -> None:
    """Close clusters: the bulk's slope is the ridge's; the gap falls with its square."""
    made, scale, (train, _), _ = ridge("linear")
    far = start_from_ridge(made, train, scale, GENES)
    with torch.no_grad():
        gap = far(train.features, train.sizes) - (
            scale.gene_mean + scale.gene_sd * made.mean(train.features, train.sizes)
        )
    assert float(gap.mean(dim=0).abs().max()) < 0.02  # set on average, however far the clusters
    with torch.no_grad():
        made.mean.linear.bias.zero_()
    errors = []
    for step in (0.1, 0.05):
        near = dataclasses.replace(
            train, features=step * train.features, mean=step * np.asarray(train.mean)
        )
        started = start_from_ridge(made, near, scale, GENES)
        # Without the average correction, as units alone give it.
        started.set_units(scale.gene_mean, scale.gene_sd)
        with torch.no_grad():
            z = made.mean(near.features, near.sizes)
            wanted = scale.gene_mean + scale.gene_sd * z
            gap = started(near.features, near.sizes) - wanted
        assert float(gap.abs().max()) < 0.2 * float((scale.gene_sd * z).abs().max())
        errors.append(float(gap.abs().max()))
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.25)


@pytest.mark.parametrize("kind", ["mixture", "linear"])
def test_it_is_the_mean_only_where_val_is_clearly_better(kind: str) -> None:
    """What is linear in the mean needs more states than the one that it has here."""
    made, scale, parts, z = ridge(kind)
    found = fit_mixture(parts, z, scale, made, RANK if kind == "mixture" else 1, 1)
    (row,) = found.tried
    assert found.mixture is not None
    assert (row["step"], row["chosen"]) == ("mixture", found.mixture_is_mean)
    assert found.mixture_is_mean is found.saw_train is (kind == "mixture")
    with torch.no_grad():
        predicted = scale.standardise(found.mixture(parts[1].features, parts[1].sizes)).numpy()
    loss = np.square(predicted - z.val).mean()
    assert row["val_loss"] == pytest.approx(loss, rel=1e-5)
    before = np.square(made.val - z.val).mean()
    if kind == "mixture":
        assert loss < 0.8 * before
        assert found.val == pytest.approx(predicted, abs=1e-5)
        # The ridge's left-out prediction, moved by what the head changes.
        with torch.no_grad():
            now = scale.standardise(found.mixture(parts[0].features, parts[0].sizes)).numpy()
            linear = made.mean(parts[0].features, parts[0].sizes).numpy()
        assert found.left_out == pytest.approx(made.left_out + now - linear, abs=1e-4)
    else:
        assert found.val is made.val
        assert found.left_out is made.left_out


def test_training_is_repeatable_and_takes_genes_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    made, scale, parts, z = ridge("mixture")
    monkeypatch.setattr(mixture_fit, "GENES", 3)
    first, second, other = (
        fit_mixture(parts, z, scale, made, RANK, seed)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    states = [found.mixture.state_dict() for found in (first, second, other)]  # type: ignore[union-attr]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["response.bias"], states[2]["response.bias"])
    assert first.mixture_is_mean
    started = start_from_ridge(made, parts[0], scale, RANK)
    assert (states[0]["response.bias"] != started.response.bias).all()


def test_one_vector_per_slide_and_rank_0_have_none() -> None:
    made, scale, parts, z = ridge("mixture")
    assert fit_mixture(parts, z, scale, made, 0, 1) is made  # type: ignore[arg-type]
    single = tuple(
        dataclasses.replace(part, features=part.features[:, :1], sizes=part.sizes[:, :1])
        for part in parts
    )
    assert fit_mixture(single, z, scale, made, RANK, 1) is made  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of one cohort, where the mixture head is forced to be the mean or not to be."""
    folder = tmp_path_factory.mktemp("mixture")
    made = flow_cohort.make(folder / "c", {"train": 60, "val": 20, "test": 10}, genes=30, seed=2)
    out = {}
    with pytest.MonkeyPatch.context() as patch:
        for chosen in (True, False):
            patch.setattr(mixture_fit, "clearly_better", lambda *losses, now=chosen: now)
            for target in ("zscore", "normal_scores"):
                settings = flow_cohort.settings(epochs=1, learning_rate=1e-12)
                settings["model"] |= {"skip": "ridge", "target": target, "mixture": 4}
                name = f"{target}-{chosen}"
                fit.fit_fold(made.inputs, folder / name, settings, 1, CPU)
                out[name] = folder / name
    return out


@pytest.mark.parametrize("target", ["zscore", "normal_scores"])
def test_a_model_keeps_its_mixture_head_whether_or_not_it_is_the_mean(
    folders: dict[str, Path], target: str
) -> None:
    models = {}
    for chosen in (True, False):
        model, meta = checkpoint.load_model(folders[f"{target}-{chosen}"])
        assert isinstance(model, RNAFM)
        assert model.mixture is not None
        assert meta["fitted_shape"]["mixture_rank"] == len(model.mixture.states) == 4
        assert meta["fitted_shape"]["mixture_is_mean"] is model.mixture_is_mean is chosen
        models[chosen] = model
        search = pl.read_parquet(folders[f"{target}-{chosen}"] / "search.parquet")
        assert search.filter(pl.col("step") == "mixture")["chosen"].to_list() == [chosen]
    own, other = models[True], models[False]
    assert own.mixture is not None
    assert other.mixture is not None
    state = other.mixture.state_dict()
    for name, value in own.mixture.state_dict().items():
        assert torch.equal(value, state[name])
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(5, 6, 12, generator=generator)
    sizes = torch.ones(5, 6)
    with torch.no_grad():
        bulk = own.mixture(own.condition.scale_features(means), sizes)
        z = own.fitted_mean(means, sizes)
    if target == "zscore":
        torch.testing.assert_close(own.restore_mean(z), bulk, atol=1e-4, rtol=1e-4)
    else:
        # The mean's own scale is the mixture head's, whatever share val gives to it.
        own.own_weight.fill_(1)
        with torch.no_grad():
            z = own.fitted_mean(means, sizes)
        possible = torch.minimum(bulk.clamp(min=own.mean_table[0]), own.mean_table[-1])
        torch.testing.assert_close(own.restore_mean(z), possible, atol=5e-3, rtol=5e-3)
    assert not torch.allclose(other.fitted_mean(means, sizes), z)


def test_the_network_of_a_model_without_a_mixture_head_starts_the_same() -> None:
    """The head's own initial weights are drawn last."""
    states = []
    for rank in (0, 4):
        torch.manual_seed(1)
        states.append(small(rank).state_dict())
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name
    assert small(0).mixture is None


def small(rank: int) -> RNAFM:
    from map_models import member

    model = member().model
    shape = {"mixture_rank": rank} if rank else None
    settings = flow_cohort.settings()["model"] | {"skip": "ridge"}
    torch.manual_seed(1)
    return RNAFM(model.pathways, FEATURES, CLUSTERS, settings, "linear", None, shape)  # type: ignore[arg-type]
