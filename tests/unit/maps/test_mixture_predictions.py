"""Maps of the mixture head: levels per tile, their sum, files, and what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from map_models import (
    BAGS,
    DIM,
    GENES,
    SAMPLING,
    Member,
    gene_table,
    member,
    pathway_table,
    predictor,
)
from slide2rna.commands import maps
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from slide2rna.features import clusters
from slide2rna.flow.mixture_head import MixtureHead
from slide2rna.maps import mixture_predictions, targets, window_predictions
from slide2rna.maps.windows import WindowShape, sliding
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.package import predictor as package
from slide_factory import picture, write_slide

torch.set_num_threads(1)
SETTINGS: Any = {"bags": BAGS, "sample": SAMPLING}
CELLS = np.array(list(itertools.product(range(7), range(5))))
FEATURES = np.random.default_rng(0).normal(size=(len(CELLS), DIM)).astype(np.float32)
TILES = [np.array([tile]) for tile in range(len(CELLS))]
TARGETS = targets.choose_targets(gene_table(), pathway_table(), ["G03", "ERBB2"], ["GO:2"])
ROWS = [GENES.index("G03"), GENES.index("ERBB2")]
BAG = clusters.bag(FEATURES, BAGS["k"], BAGS["iterations"], 1)


def mixed(number: int = 0, rank: int = 3) -> Member:
    """The small flow of `map_models` with a mixture head of random weights."""
    made = member(number)
    head = MixtureHead(DIM, len(GENES), rank)
    generator = torch.Generator().manual_seed(number)
    head.states.normal_(0, 0.5, generator=generator)
    with torch.no_grad():
        head.response.weight.normal_(0, 0.6, generator=generator)
        head.response.bias.normal_(0, 0.3, generator=generator)
        head.network[-1].weight.normal_(0, 0.3, generator=generator)
    head.set_units(made.model.gene_mean, made.model.gene_sd)
    made.model.mixture = head.eval()
    return made


def maps_of(own: Member, windows: list[np.ndarray]) -> mixture_predictions.MixtureMaps:
    return mixture_predictions.mixture_maps(own, FEATURES, windows, TARGETS, SETTINGS, 1, "a", BAG)


def test_tiles_add_up_to_the_point_of_the_slide() -> None:
    own = mixed()
    found = maps_of(own, TILES)
    image = own.model.encode_image(*(torch.from_numpy(part[None]).float() for part in BAG))
    white = mixture_predictions.draw.noise(1, 0, "a", 2, own.model.noise_width, "mean")
    point = window_predictions.points(own.model, image, white)[0].detach().numpy()[ROWS]
    assert found.point == pytest.approx(point)
    total = np.exp2(found.moments.mean[:, :2]).mean(axis=0)
    assert total == pytest.approx(np.exp2(point), rel=1e-5)
    # The levels alone don't: the gap says by how much.
    head = own.model.mixture
    with torch.no_grad():
        levels = head.levels(torch.from_numpy(FEATURES)).double().numpy()
    alone = np.log2(np.exp2(levels).mean(axis=0))[ROWS]
    assert found.gap == pytest.approx(alone - point, abs=1e-5)
    assert (np.abs(found.gap) > 0.01).all()
    # In the logarithm of x the maps are the levels and a constant.
    shift = np.log2(np.exp2(found.moments.mean[:, :2]) - 1) - np.log2(np.exp2(levels[:, ROWS]) - 1)
    assert shift == pytest.approx(np.tile(shift.mean(axis=0), (len(TILES), 1)), abs=1e-4)


def test_a_window_is_the_sum_of_its_tiles_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, windows = mixed(), sliding(CELLS, WindowShape(3, 2, 3))
    tiles, found = maps_of(own, TILES).moments.mean, maps_of(own, windows).moments
    for row, held in enumerate(windows):
        wanted = np.log2(np.exp2(tiles[held, :2]).mean(axis=0))
        assert found.mean[row, :2] == pytest.approx(wanted, abs=1e-4)
    assert not found.variance.any()
    monkeypatch.setattr(mixture_predictions, "CHUNK", 5 * len(GENES))
    assert maps_of(own, windows).moments.mean == pytest.approx(found.mean, abs=1e-4)


def test_gene_sets_are_scored_on_the_profiles_of_tiles() -> None:
    every = targets.choose_targets(gene_table(), pathway_table(), GENES, ["GO:2"])
    found = mixture_predictions.mixture_maps(
        mixed(), FEATURES, TILES, every, SETTINGS, 1, "a", BAG
    ).moments.mean
    z = (found[:, 3:6] - np.linspace(5, 9, len(GENES))[3:6]) / 0.8
    assert found[:, -1] == pytest.approx(z.mean(axis=1), abs=1e-4)


def test_fold_models_and_windows_add_up_once_averaged() -> None:
    windows = sliding(CELLS, WindowShape(3, 2, 5))
    found = [maps_of(mixed(number), windows) for number in range(3)]
    combined = window_predictions.combine([one.moments for one in found], windows, len(CELLS) + 1)
    point = np.mean([one.point for one in found], axis=0)
    maps_now = mixture_predictions.add_up(combined, point)
    values = maps_now["mean"][:-1]
    assert np.isnan(maps_now["mean"][-1]).all()
    assert np.exp2(values[:, :2]).mean(axis=0) == pytest.approx(np.exp2(point), rel=1e-5)
    assert values[:, 2] == pytest.approx(combined["mean"][:-1, 2])
    assert (values >= 0)[:, :2].all()


def test_a_gene_without_any_amount_is_spread_evenly() -> None:
    flat = {"mean": np.array([[0.0, 2.0], [0.0, 3.0]])}
    found = mixture_predictions.add_up(flat, np.array([1.5]))
    assert found["mean"].tolist() == [[1.5, 2.0], [1.5, 3.0]]


def network() -> Member:
    model = Regressor("abmil", DIM, BAGS["k"], len(GENES), config.defaults("baselines")["abmil"])
    return Member(0, model.eval())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (member(), "--head mixture: .*mixture head"),
        (network(), "mixture head"),
        (
            Member(0, member().model, {"features": DIM, "clusters": 1}),
            "one vector per slide",
        ),
    ],
)
def test_models_without_the_head_are_refused(own: Member, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mixture_predictions.check_head(own)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", picture(2600, 2048))


def with_heads(folds: int = 2) -> Any:
    made = predictor(folds)
    made.fold_models[:] = [mixed(number) for number in range(folds)]  # type: ignore[index]
    return made


def test_the_command_writes_maps_that_add_up(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "load", lambda folder, device: with_heads())
    arguments = [str(slide), "--model", "m", "--out", str(tmp_path), "--threads", "1"]
    arguments += ["--genes", "ERBB2", "G03", "--pathways", "GO:1", "--head", "mixture"]
    maps.main(arguments)
    record = json.loads((tmp_path / "a" / "maps.json").read_text())
    assert (record["head"], record["window"], record["stride"], record["draws_per_fold"]) == (
        *("mixture", 1, 1, 0),
    )
    assert "2^mean is 2^point" in record["definitions"]["mean"]
    table = pl.read_parquet(tmp_path / "a" / "maps.parquet")
    assert (table["n_windows"] == 1).all()
    assert table["sd"].to_numpy() == pytest.approx(table["sd_models"].to_numpy(), abs=1e-4)
    seen = {row["name"]: row["gap"] for row in record["maps"]}
    assert seen["GO:1"] is None
    assert abs(seen["ERBB2"]) > 1e-3
    # What `predict` says of the same tiles.
    model = with_heads()
    features = mixture_predictions_features(tmp_path / "a" / "features.h5")
    from slide2rna.predict import encode_slide
    from slide2rna.predict.pool_folds import pool_folds

    bag = encode_slide.bag(features, model, "a")
    monkeypatch.setattr(type(model), "factors", {})
    point = pool_folds(model, *bag, "a", 0, 3).point
    for gene in ("ERBB2", "G03"):
        levels = table.filter(pl.col("name") == gene)["mean"].to_numpy().astype(float)
        wanted = point[GENES.index(gene)]
        assert np.log2(np.exp2(levels).mean()) == pytest.approx(wanted, abs=1e-5)
        assert (tmp_path / "a" / f"{gene}.png").is_file()
    stamp = (tmp_path / "a" / "maps.parquet").stat().st_mtime_ns
    maps.main(arguments)
    assert (tmp_path / "a" / "maps.parquet").stat().st_mtime_ns == stamp
    maps.main([*arguments[:-2], "--window", "3", "--draws", "0"])
    assert json.loads((tmp_path / "a" / "maps.json").read_text())["head"] == "windows"


def mixture_predictions_features(path: Path) -> np.ndarray:
    from slide2rna.features import feature_file

    return feature_file.read(path).features


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--head", "mixture"], "--head mixture: "),
        (["--head", "mixture", "--draws", "4"], "--draws: "),
    ],
)
def test_the_command_refuses(
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(package, "load", lambda folder, device: predictor(1))
    common = [str(slide), "--model", "m", "--out", str(tmp_path), "--genes", "ERBB2"]
    with pytest.raises(ConfigError, match=message):
        maps.main([*common, *options])
    assert not list(tmp_path.iterdir())


def test_a_packaged_model_keeps_its_head(tmp_path: Path) -> None:
    """A model's folder, read as `slide2rna maps` reads it, gives the same maps."""
    own = mixed()
    settings = {"model": config.defaults(
        *("model",), hidden=16, blocks=1, heads=2, graph_heads=2, cluster_layers=1, factors=3
    )}  # fmt: skip
    meta = {"model": "flow", "genes": GENES, "features": DIM, "clusters": BAGS["k"]}
    shape = {"mixture_rank": 3}
    checkpoint.save_model(
        tmp_path / "fold-0",
        own.model,
        meta | {"settings": settings, "interpolant": "linear", "fitted_shape": shape},
    )
    loaded = package.load(tmp_path, "cpu").fold_models[0]
    assert mixture_predictions.check_head(loaded).states.equal(own.model.mixture.states)
    again = maps_of(loaded, TILES)  # type: ignore[arg-type]
    assert again.moments.mean == pytest.approx(maps_of(own, TILES).moments.mean, abs=1e-6)
