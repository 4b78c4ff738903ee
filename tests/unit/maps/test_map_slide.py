"""A slide's maps as files: what is there, what a rerun does, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from map_models import ColourPredictor, gene_table, pathway_table, predictor
from PIL import Image
from slide2rna.commands import maps
from slide2rna.core import files
from slide2rna.core.errors import ConfigError, SlideError, UserError
from slide2rna.maps import captions, map_slide, targets
from slide2rna.maps.map_slide import MapOptions
from slide2rna.maps.windows import WindowShape
from slide_factory import picture, write_slide

OPTIONS = MapOptions(WindowShape.of(3, 1), draws=4)
ONE = targets.choose_targets(gene_table(), pathway_table(), ["ERBB2"], [])
TARGETS = targets.choose_targets(gene_table(), pathway_table(), ["ERBB2", "G03"], ["GO:1"])


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", picture(2600, 2048))


@pytest.fixture(scope="module")
def made(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:  # type: ignore[type-arg]
    out = tmp_path_factory.mktemp("maps") / "a"
    return out, map_slide.map_slide(slide, predictor(caveat="one patient"), TARGETS, OPTIONS, out)


def test_files(made: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    out, record = made
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        *("ERBB2.png", "G03.png", "GO_1.png", "features.h5"),
        *("maps.geojson", "maps.json", "maps.parquet"),
    ]
    table = pl.read_parquet(out / "maps.parquet")
    assert table.columns == [
        *("slide", "x", "y", "size", "n_windows", "kind", "name", "mean", "sd", "sd_models"),
        "caveat",
    ]
    assert table.height == 3 * record["n_tiles"]
    assert table.select("x", "y", "name").is_unique().all()
    assert set(table["caveat"]) == {"one patient"}
    with_value = table.filter(pl.col("n_windows") > 0)
    assert with_value["mean"].is_not_null().all()
    assert (with_value["sd"] >= with_value["sd_models"] - 1e-6).all()
    assert (
        table.filter(pl.col("n_windows") == 0)["mean"].null_count() == 3 * record["n_tiles_without"]
    )
    features = json.loads((out / "maps.geojson").read_text())["features"]
    assert len(features) == record["n_tiles"] - record["n_tiles_without"]
    first = features[0]["properties"]["measurements"]
    row = with_value.filter(pl.col("name") == "GO:1").row(0, named=True)
    assert first["first, with a comma (GO:1): mean"] == pytest.approx(row["mean"], abs=1e-5)
    for name in ("ERBB2", "G03", "GO_1"):
        with Image.open(out / f"{name}.png") as image:
            assert image.width > 1000
            assert np.asarray(image.convert("RGB")).std() > 10


def test_the_record_says_what_was_done(made: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    out, record = made
    assert record == files.read_json(out / "maps.json")
    assert (record["window"], record["stride"], record["min_tiles"], record["folds"]) == (
        3,
        1,
        2,
        2,
    )
    assert (record["draws_per_fold"], record["seed"], record["slide"]) == (4, 3, "a")
    assert record["shift"]["shifted"] is None  # these models have no distances of their training
    assert [row["name"] for row in record["maps"]] == ["ERBB2", "G03", "GO:1"]
    table = pl.read_parquet(out / "maps.parquet").filter(pl.col("name") == "ERBB2")
    assert record["maps"][0]["low"] >= table["mean"].min() - 1e-5  # type: ignore[operator]
    assert record["maps"][0]["high"] <= table["mean"].max() + 1e-5  # type: ignore[operator]
    assert {"mean", "sd", "sd_models", "n_windows"} <= set(record["definitions"])


def test_other_genes_of_a_slide_need_no_encoder(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ColourPredictor, "asked", 0)
    model, options = predictor(1), MapOptions(WindowShape.of(3, 2), draws=0)
    first = map_slide.map_slide(slide, model, ONE, options, tmp_path)
    stamp = (tmp_path / "maps.parquet").stat().st_mtime_ns
    assert map_slide.map_slide(slide, model, ONE, options, tmp_path) == first
    assert (tmp_path / "maps.parquet").stat().st_mtime_ns == stamp
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "maps.json").unlink()
    map_slide.map_slide(slide, model, ONE, options, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    seventh = targets.choose_targets(gene_table(), pathway_table(), ["G07"], [])
    other = map_slide.map_slide(slide, model, seventh, options, tmp_path)
    assert [row["name"] for row in other["maps"]] == ["G07"]
    assert ColourPredictor.asked == 1
    assert pl.read_parquet(tmp_path / "maps.parquet")["name"].unique().to_list() == ["G07"]


def test_all_tiles_are_mapped_unless_limited(slide: Path, tmp_path: Path) -> None:
    model = predictor(1)
    model.about["tiles"]["max_tiles"] = 10
    options = MapOptions(WindowShape.of(3, 2), draws=0)
    assert map_slide.map_slide(slide, model, ONE, options, tmp_path / "1")["n_tiles"] > 20
    limited = MapOptions(WindowShape.of(8, 4, 2), draws=0, max_tiles=12)
    assert map_slide.map_slide(slide, model, ONE, limited, tmp_path / "2")["n_tiles"] == 12


def test_flat_maps_are_called_flat() -> None:
    row = {"kind": "gene", "r": 0.5, "r_low": 0.1, "r_high": 0.7, "reliability": "weak"}
    row |= {"low": 1.0, "high": 1.1}
    record = captions.describe_reliability(row | {"train_sd": 0.5})
    assert re.search(r"0\.1 log2 units.* 20 % of .*nearly flat", record)
    record = captions.describe_reliability(row | {"train_sd": 0.2})
    assert record.endswith("50 % of the sd between training samples.")
    assert re.search(r"r = 0\.50 .*0\.10 to 0\.70.*weak", record)
    assert "unknown" in captions.describe_reliability(row | {"r": None, "train_sd": None})


def test_features_without_a_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="features"):
        map_slide.map_slide(tmp_path / "a.h5", predictor(1), TARGETS, OPTIONS, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--genes", "ERBB2", "--stride", "9"], "--stride: 9 "),
        (["--genes", "ERBB2", "--draws", "-1"], "--draws: -1 .*give 0"),
        (["--genes", "ERBB2", "--max-tiles", "0"], "--max-tiles: 0 .*give 1"),
        (["--genes", "ERBB2", "--min-tiles", "0"], "--min-tiles: 0 "),
        (["--genes", "ERBB22"], r"ERBB22 \(near: ERBB2, erbb2-AS1\)"),
        ([], "--genes"),
        (["--genes", ""], "--genes"),
        (["--genes", ","], "--genes"),
        (["--genes", "ERBB2", "--threads", "0"], "--threads: 0 .*give 1"),
        (["--genes", "ERBB2", "--window", "40", "--min-tiles", "1600"], "40 x 40"),
    ],
)
def test_command_refuses_in_one_line(
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("slide2rna.package.predictor.load", lambda folder, device: predictor(1))
    with pytest.raises(UserError, match=message) as error:
        maps.main([str(slide), "--model", "m", "--out", str(tmp_path), *options])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.partial*"))


def test_command_writes_into_the_slides_folder(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slide2rna.package.predictor.load", lambda folder, device: predictor(1))
    arguments = ["--genes", "erbb2", "--window", "3", "--draws", "0", "--threads", "1"]
    maps.main([str(slide), "--model", "m", "--out", str(tmp_path), *arguments])
    assert (tmp_path / "a" / "ERBB2.png").is_file()


def test_a_missing_model_says_so(slide: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(tmp_path / "no"), "--out", str(tmp_path), "--genes", "A"]
    with pytest.raises(ConfigError, match="no such folder"):
        maps.main([str(slide), *arguments])
