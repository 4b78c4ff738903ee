"""The conditional mean: pools, head, units of the targets, and the start of a flow."""

from __future__ import annotations

import math
from pathlib import Path

import flow_cohort
import numerics
import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from slide2rna.core import config
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.flow import quantile_map
from slide2rna.flow.conditional_mean import ConditionalMean, PooledHead
from slide2rna.flow.gene_scale import GRID, GeneScale
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.sampling import draw
from slide2rna.training import fit, targets
from slide2rna.training.head import HeadPart, fit_head
from slide2rna.training.linear_fit import BagPart

CPU = torch.device("cpu")


def head(clusters: int = 4, rank: int = 3, genes: int = 7) -> PooledHead:
    torch.manual_seed(0)
    made = PooledHead(5, clusters, genes, rank).double().eval()
    torch.nn.init.normal_(made.network[-1].weight)
    made.basis.normal_()
    return made


def bag(rows: int = 6, clusters: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, clusters, 5, generator=generator, dtype=torch.float64)
    sizes = torch.randint(1, 9, (rows, clusters), generator=generator).double()
    return features, sizes


def test_pools_are_those_of_loops_over_tiles() -> None:
    """Each cluster stands for as many tiles as its size says."""
    made, (features, sizes) = head(), bag()
    pools = made.pools(features, sizes)
    assert made.directions is not None
    for row in range(len(features)):
        tiles = features[row].repeat_interleave(sizes[row].long(), dim=0)
        along = made.directions(tiles)
        expected = torch.cat(
            [tiles.mean(dim=0), tiles.var(dim=0, correction=0), along.exp().mean(dim=0).log()]
        )
        torch.testing.assert_close(pools[row], expected)


def test_padding_changes_nothing() -> None:
    made, (features, sizes) = head(), bag()
    wider = torch.cat([features, torch.full((6, 2, 5), 3.0, dtype=torch.float64)], dim=1)
    more = torch.cat([sizes, torch.zeros(6, 2, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(made(features, sizes), made(wider, more))


def test_gradients_of_the_head_are_those_of_differences() -> None:
    made, (features, sizes) = head(), bag(rows=2)
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: made(x, sizes), (features,))
    weight = made.directions.weight  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(made(features, sizes).square().sum(), weight)
    for place in ((0, 0), (3, 2)):
        slope = numerics.slope(lambda: made(features, sizes).square().sum(), weight, place)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-5)


def test_one_cluster_has_its_mean_alone() -> None:
    made = head(clusters=1)
    assert made.directions is None
    features, sizes = bag(clusters=1)
    assert torch.equal(made.pools(features, sizes), features[:, 0])


def test_a_head_learns_what_the_mean_does_not_show_and_nothing_of_noise() -> None:
    rng = np.random.default_rng(2)
    spread = rng.uniform(0.2, 2, 260)
    features = torch.tensor(rng.normal(size=(260, 12, 5)) * spread[:, None, None]).float()
    sizes = torch.ones(260, 12)
    units, mean = [f"P{row}" for row in range(260)], features.mean(dim=1).numpy()
    signal = torch.tensor(stats.zscore(spread))[:, None].float()
    noise = torch.tensor(rng.normal(size=(260, 1))).float()
    parts = {}
    for name, scores in (("signal", signal), ("noise", noise)):
        torch.manual_seed(3)
        made = PooledHead(5, 12, 1, 1)
        made.basis.fill_(1)
        train, val = (
            HeadPart(BagPart(features[rows], sizes[rows], mean[rows], units[rows]), scores[rows])
            for rows in (slice(0, 160), slice(160, 210))
        )
        parts[name] = fit_head(made, train, val, 1)
        with torch.no_grad():
            test = made(features[210:], sizes[210:])
        error = float((test - scores[210:]).square().mean() / scores[210:].square().mean())
        assert error < 0.2 if name == "signal" else error < 1.1
    assert parts["signal"].gain > 0.7 * float(signal[160:210].square().sum())
    assert parts["noise"].gain < 0.1 * float(noise[160:210].square().sum())


def skewed(genes: int = 3, samples: int = 400) -> tuple[GeneScale, np.ndarray]:
    """Expression with a pile of zeros, in normal scores."""
    rng = np.random.default_rng(5)
    values = np.maximum(rng.lognormal(0, 0.8, (samples, genes)) - 0.7, 0)
    scale = GeneScale()
    knots = quantile_map.quantile_knots(values)
    scale.register_genes(genes, len(knots))
    scale.gene_knots.copy_(torch.from_numpy(knots))
    scale.gene_mean.copy_(torch.from_numpy(values.mean(axis=0)))
    scale.gene_sd.copy_(torch.from_numpy(values.std(axis=0)))
    return scale, values.astype(np.float32)


def test_a_gaussian_without_knowledge_draws_the_train_marginals() -> None:
    scale, values = skewed()
    drawn = scale.restore(torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1)))
    for gene in range(3):
        share = (values[:, gene] == 0).mean()
        assert (drawn[:, gene] == 0).float().mean() == pytest.approx(share, abs=0.015)
        for level in (0.5, 0.8, 0.95):
            assert np.quantile(drawn[:, gene], level) == pytest.approx(
                np.quantile(values[:, gene], level), rel=0.05, abs=0.02
            )


def test_ties_are_spread_by_sample_and_scores_are_normal() -> None:
    scale, values = skewed()
    names = [f"S{row}" for row in range(len(values))]
    z = targets.targets(scale, values, names, 1)
    for gene in range(3):
        assert stats.kstest(z[:, gene].numpy(), "norm").pvalue > 0.2
    order = np.random.default_rng(0).permutation(len(values))
    moved = [names[i] for i in order]
    assert torch.equal(targets.targets(scale, values[order], moved, 1), z[order])
    assert not torch.equal(targets.targets(scale, values, names, 2), z)
    # The map back forgets where in its band a tie was; the outermost values share a knot.
    low, high = np.quantile(values, [0.005, 0.995], axis=0)
    inside = torch.from_numpy((values > low) & (values < high) | (values == 0))
    restored = scale.restore(z)[inside]
    torch.testing.assert_close(restored, torch.from_numpy(values)[inside], atol=0.03, rtol=0.03)


def test_expected_expression_is_that_of_draws_and_has_an_inverse() -> None:
    scale, _ = skewed()
    sd = torch.tensor([0.3, 0.7, 1.0])
    scale.fit_mean_table(sd)
    white = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(2))
    for mean in (-1.3, 0.0, 0.4, 1.9):
        exact = scale.restore(mean + sd * white).mean(dim=0)
        table = scale.restore_mean(torch.full((1, 3), mean))[0]
        torch.testing.assert_close(table, exact, atol=0.015, rtol=0.015)
    scores = torch.linspace(-1, 2, 13)[:, None].expand(-1, 3)
    torch.testing.assert_close(
        scale.mean_score(scale.restore_mean(scores)), scores, atol=0.02, rtol=0
    )
    assert float(scale.mean_score(torch.full((1, 3), 99.0))[0, 0]) == float(GRID[-1])


def test_a_blend_has_the_expected_expression_between() -> None:
    scale, _ = skewed()
    scale.fit_mean_table(torch.full((3,), 0.6))
    scores, other = torch.zeros(1, 3), torch.full((1, 3), 1.4)
    for weight in (0.0, 0.5, 1.0):
        blended = scale.blend_means(scores, other, torch.tensor(weight))
        expected = torch.lerp(scale.restore_mean(scores), other, weight)
        torch.testing.assert_close(scale.restore_mean(blended), expected, atol=1e-3, rtol=1e-3)


def test_linear_mean_is_of_the_bags_mean() -> None:
    mean = ConditionalMean(5, 4, 7).double()
    torch.nn.init.normal_(mean.linear.weight)
    features, sizes = bag()
    pooled = (features * sizes[..., None]).sum(1) / sizes.sum(1, keepdim=True)
    torch.testing.assert_close(mean(features, sizes), mean.linear(pooled))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of one cohort by target; a training that moves nothing leaves the network out."""
    folder = tmp_path_factory.mktemp("start")
    cohort = flow_cohort.make(folder / "c", {"train": 90, "val": 30, "test": 20}, genes=40, seed=2)
    made = {}
    for target in ("auto", "zscore", "normal_scores"):
        settings = flow_cohort.settings(epochs=1, learning_rate=1e-12)
        settings["model"] |= {"skip": "ridge", "target": target}
        fit.fit_fold(cohort.inputs, folder / target, settings, 1, CPU)
        made[target] = folder / target
    return made


def test_val_chooses_the_units(folders: dict[str, Path]) -> None:
    search = pl.read_parquet(folders["auto"] / "search.parquet")
    assert search["step"].unique(maintain_order=True).to_list() == [
        *("start", "slopes", "head", "mixture", "target", "network"),
    ]
    tried = search.filter(pl.col("step") == "target")
    assert tried.height == 2
    best = tried.sort("val_loss").row(0, named=True)
    assert tried.filter(pl.col("chosen"))["settings"].to_list() == [best["settings"]]
    assert search.filter(pl.col("step") == "network")["chosen"].to_list() == [True]
    for row in search.filter(pl.col("step") == "head").iter_rows(named=True):
        name = config.json.loads(row["settings"])["target"]
        start = search.filter(
            (pl.col("step") == "start") & pl.col("settings").str.contains(f'"{name}"')
        )
        assert row["val_loss"] <= start["val_loss"][0] + 1e-9


@pytest.mark.parametrize("target", ["zscore", "normal_scores"])
def test_a_network_that_adds_nothing_is_left_out(folders: dict[str, Path], target: str) -> None:
    """Draws are the closed form F + s x0, in any number of steps; so are those of its layers."""
    model, meta = checkpoint.load_model(folders[target])
    assert isinstance(model, RNAFM)
    assert (meta["uses_network"], meta["best_epoch"]) == (False, 0)
    assert (len(model.gene_knots) if target == "normal_scores" else 0) == (
        90 if target == "normal_scores" else 0
    )
    generator = torch.Generator().manual_seed(4)
    clusters, features = meta["clusters"], meta["features"]
    means, sizes = torch.randn(3, clusters, features, generator=generator), torch.ones(3, clusters)
    image = model.encode_image(means, sizes)
    white = torch.randn(3, 5, model.noise_width, generator=generator)
    x0 = model.color(white) * model.active
    expected = model.fitted_mean(means, sizes)[:, None] + model.residual_sd() * x0
    for steps in (1, 7):
        options = config.defaults("sample", steps=steps)
        z = draw.draw(model, image, white, options)
        torch.testing.assert_close(z, expected * model.active, atol=2e-5, rtol=1e-5)
    model.uses_network = True
    with torch.inference_mode():
        z = draw.draw(model, model.encode_image(means, sizes), white, config.defaults("sample"))
    torch.testing.assert_close(z, expected * model.active, atol=2e-5, rtol=1e-5)
    point, _ = draw.point(model, image[:1], white[0])
    torch.testing.assert_close(point, model.restore_mean(model.fitted_mean(means, sizes))[0])


def test_the_point_is_the_mean_of_draws(folders: dict[str, Path]) -> None:
    model, meta = checkpoint.load_model(folders["normal_scores"])
    assert isinstance(model, RNAFM)
    means = torch.zeros(1, meta["clusters"], meta["features"])
    image = model.encode_image(means, torch.ones(1, meta["clusters"]))
    white = torch.randn(1, 4000, model.noise_width, generator=torch.Generator().manual_seed(6))
    drawn = model.restore(draw.draw(model, image, white, config.defaults("sample", steps=1)))[0]
    point, _ = draw.point(model, image, white[0, :2])
    error = (drawn.mean(dim=0) - point) / (drawn.std(dim=0) / math.sqrt(4000)).clamp(min=1e-3)
    # Val has scaled the residual sds since the table of means was made.
    assert float(error.abs().median()) < 4


@pytest.mark.parametrize("target", ["zscore", "normal_scores"])
def test_the_mean_has_full_precision_under_autocast(folders: dict[str, Path], target: str) -> None:
    model, meta = checkpoint.load_model(folders[target])
    assert isinstance(model, RNAFM)
    generator = torch.Generator().manual_seed(7)
    means = torch.randn(4, meta["clusters"], meta["features"], generator=generator)
    sizes = torch.ones(4, meta["clusters"])
    expected = model.fitted_mean(means, sizes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.fitted_mean(means, sizes), expected)
        assert model.encode_image(means, sizes).isfinite().all()


def test_the_chosen_blend_is_the_one_that_is_installed(folders: dict[str, Path]) -> None:
    """The CRPS in search.parquet is that of the model's mean and, before scaling, its sds."""
    model, meta = checkpoint.load_model(folders["normal_scores"])
    assert isinstance(model, RNAFM)
    assert model.theta is not None
    cohort_folder = folders["normal_scores"].parent / "c"
    bagged = bag_file.load(cohort_folder / "bags.safetensors")
    rows = fold_rows.read_fold_rows(
        bagged.slide_ids, cohort_folder / "slides.parquet", cohort_folder / "splits.tsv", 0
    ).of("val")
    mean = model.fitted_mean(
        torch.from_numpy(bagged.means[rows.bag]), torch.from_numpy(bagged.sizes[rows.bag])
    )
    sd = (model.theta - meta["log_sd_offset"]).exp().clamp(0.05, 2)
    truth = fold_rows.read_expression_matrix(cohort_folder / "expression.parquet", rows.sample_ids)
    losses = []
    for level in (np.arange(39) + 0.5) / 39:
        gap = truth - model.restore(mean + sd * float(stats.norm.ppf(level))).detach().numpy()
        losses.append(np.maximum(level * gap, (level - 1) * gap).mean())
    search = pl.read_parquet(folders["normal_scores"] / "search.parquet")
    row = search.filter(pl.col("step") == "target").filter(pl.col("chosen")).row(0, named=True)
    assert "normal_scores" in row["settings"]
    assert 2 * np.mean(losses) == pytest.approx(row["val_loss"], rel=1e-3)
