"""The laws of windows, and their mixture per tile."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from map_models import BAGS, DIM, GENES, SAMPLING, Member, gene_table, member, pathway_table
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.maps import targets, window_predictions
from slide2rna.maps.window_predictions import WindowMoments, combine, window_moments
from slide2rna.maps.windows import WindowShape, bag_blocks, sliding
from slide2rna.models.regressor import Regressor
from slide2rna.sampling import draw

torch.set_num_threads(1)
SETTINGS = {"bags": BAGS, "sample": SAMPLING}
CELLS = np.array(list(itertools.product(range(7), range(5))))
FEATURES = np.random.default_rng(0).normal(size=(len(CELLS), DIM)).astype(np.float32)
WINDOWS = sliding(CELLS, WindowShape(3, 2, 3))
TARGETS = targets.choose_targets(gene_table(), pathway_table(), ["G03", "ERBB2"], ["GO:2"])


def laws(draws: int = 9, number: int = 0, **changes: object) -> WindowMoments:
    settings = {"bags": BAGS, "sample": SAMPLING | changes}
    return window_moments(member(number), FEATURES, WINDOWS, TARGETS, settings, 1, "a", draws)


def test_a_tile_has_the_mixture_of_all_values_over_it() -> None:
    """Equal numbers of values per window and model, pooled by hand."""
    rng = np.random.default_rng(1)
    windows = [np.array([0, 1]), np.array([1, 2]), np.array([1])]
    values = rng.normal(size=(3, len(windows), 50, 2)) + rng.normal(size=(3, len(windows), 1, 2))
    found = combine(
        [WindowMoments(own.mean(axis=1), own.var(axis=1)) for own in values], windows, 4
    )
    assert found["n_windows"].tolist() == [1, 3, 1, 0]
    for tile, over in enumerate([[0], [0, 1, 2], [1]]):
        pooled = values[:, over].reshape(-1, 2)
        assert found["mean"][tile] == pytest.approx(pooled.mean(axis=0))
        assert found["sd"][tile] == pytest.approx(pooled.std(axis=0))
        per_model = values[:, over].mean(axis=(1, 2))
        assert found["sd_models"][tile] == pytest.approx(per_model.std(axis=0))
    assert np.isnan(found["mean"][3]).all()


def test_points_are_those_of_sampling() -> None:
    model = member().model
    ((_, means, sizes),) = bag_blocks(FEATURES, WINDOWS, BAGS, 1, 1000)
    image = model.encode_image(torch.from_numpy(means), torch.from_numpy(sizes))
    white = draw.noise(1, 0, "a", 2, model.noise_width, "mean")
    found = window_predictions.points(model, image, white).detach()
    for row in (0, 3, len(WINDOWS) - 1):
        wanted, _ = draw.point(model, image[row : row + 1], white)
        assert found[row] == pytest.approx(wanted.numpy(), abs=2e-5)


def test_variance_is_that_of_the_draws_without_guidance() -> None:
    found = laws(guidance=3.0)
    model = member().model
    ((_, means, sizes),) = bag_blocks(FEATURES, WINDOWS, BAGS, 1, 1000)
    with torch.inference_mode():
        image = model.encode_image(torch.from_numpy(means), torch.from_numpy(sizes))
        white = draw.noise(1, 0, "a", 9, model.noise_width, "draws")
        z = draw.draw(model, image[4:5], white[None], SAMPLING | {"guidance": 1.0})
        drawn = model.restore(z)[0].numpy()
    columns = [GENES.index("G03"), GENES.index("ERBB2")]
    assert found.variance[4, :2] == pytest.approx(drawn[:, columns].var(axis=0, ddof=1), rel=1e-3)
    score = ((drawn[:, 3:6] - np.linspace(5, 9, len(GENES))[3:6]) / 0.8).mean(axis=1)
    assert found.variance[4, 2] == pytest.approx(score.var(ddof=1), rel=1e-3)
    assert (laws(draws=0).variance == 0).all()
    assert laws(draws=0).mean == pytest.approx(found.mean, abs=1e-5)


def test_blocks_do_not_matter_but_seed_and_fold_do() -> None:
    small, large = laws(memory_mb=64), laws()
    assert small.mean == pytest.approx(large.mean, abs=1e-4)
    assert small.variance == pytest.approx(large.variance, rel=1e-3)
    other = window_moments(member(0), FEATURES, WINDOWS, TARGETS, SETTINGS, 2, "a", 9)
    assert abs(other.variance - large.variance).max() > 1e-3


def test_a_linear_model_gives_the_window_average_of_its_features() -> None:
    """Known in closed form: what each gene's ridge says of the mean of the tiles in a window."""
    own = member(linear_only=True)
    found = combine(
        [window_moments(own, FEATURES, WINDOWS, TARGETS, SETTINGS, 1, "a", 0)], WINDOWS, len(CELLS)
    )
    weight, bias = (value.detach().numpy() for value in own.model.mean.linear.parameters())
    row = GENES.index("ERBB2")
    z = np.array([FEATURES[tiles].mean(axis=0) @ weight[row] + bias[row] for tiles in WINDOWS])
    value = z * 0.8 + np.linspace(5, 9, len(GENES))[row]
    for tile in (0, 8, 20):
        over = [place for place, tiles in enumerate(WINDOWS) if tile in tiles]
        assert found["mean"][tile, 1] == pytest.approx(value[over].mean(), abs=1e-4)
        assert found["sd"][tile, 1] == pytest.approx(value[over].std(), abs=1e-4)


def test_a_network_without_draws_is_mapped_by_its_points() -> None:
    torch.manual_seed(1)
    network = Regressor("abmil", DIM, BAGS["k"], len(GENES), config.defaults("baselines")["abmil"])
    network.eval().gene_mean.fill_(6)
    own = Member(2, network)
    found = window_moments(own, FEATURES, WINDOWS, TARGETS, SETTINGS, 1, "a", 9)
    assert not found.variance.any()
    ((_, means, sizes),) = bag_blocks(FEATURES, WINDOWS, BAGS, 1, 1000)
    with torch.inference_mode():
        z = network(torch.from_numpy(means), torch.from_numpy(sizes))
    assert found.mean[:, 0] == pytest.approx(z[:, GENES.index("G03")].numpy() + 6, abs=1e-5)


def test_other_features_are_refused() -> None:
    with pytest.raises(StageError, match=r"4 features.* 6"):
        window_moments(member(), FEATURES[:, :4], WINDOWS, TARGETS, SETTINGS, 1, "a", 0)


def test_table_is_tidy_and_null_without_a_window() -> None:
    tiles = pl.DataFrame({"x": [0, 9], "y": [5, 5], "size": [9, 9]})
    values = {"mean": np.array([[1.0, 2, 3], [np.nan] * 3]), "n_windows": np.array([4.0, 0])}
    found = window_predictions.table(
        tiles, values | dict.fromkeys(("sd", "sd_models"), values["mean"]), TARGETS
    )
    assert found["name"].to_list() == ["G03", "ERBB2", "GO:2"] * 2
    assert found["kind"].to_list() == ["gene", "gene", "pathway"] * 2
    assert found["x"].to_list() == [0] * 3 + [9] * 3
    assert found["n_windows"].to_list() == [4] * 3 + [0] * 3
    assert found["mean"].to_list() == [1, 2, 3, None, None, None]
