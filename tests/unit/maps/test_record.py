"""The record of maps vouches for what is there: interruptions, lost files, and other names."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from map_models import gene_table, member, pathway_table, predictor
from slide2rna.commands import maps
from slide2rna.core.errors import ConfigError, SlideError, UserError
from slide2rna.data import training_record
from slide2rna.features.feature_file import Features
from slide2rna.maps import figure, map_slide
from slide2rna.maps import targets as map_targets
from slide2rna.maps.map_slide import MapOptions
from slide2rna.maps.targets import Targets
from slide2rna.maps.windows import WindowShape
from slide2rna.package import training_slides
from slide2rna.predict import encode_slide, predict
from slide2rna.studies.shift import decision
from slide2rna.studies.shift.reference import TrainingReference
from slide_factory import picture, write_slide

OPTIONS = MapOptions(WindowShape.of(3, 2), draws=0)


def of(*genes: str) -> Targets:
    return map_targets.choose_targets(gene_table(), pathway_table(), list(genes), [])


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", picture(1600, 1400))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


FILES = ["features.h5", "maps.geojson", "maps.json", "maps.parquet"]


def test_an_interrupted_run_leaves_no_record(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = predictor(1)
    first = map_slide.map_slide(slide, model, of("ERBB2"), OPTIONS, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    real, drawn = figure.draw, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        drawn.append(args[2])
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(figure, "draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            map_slide.map_slide(slide, model, of("G03", "G04"), OPTIONS, tmp_path)
    assert drawn == ["G03", "G04"]
    assert names(tmp_path) == ["features.h5", "maps.geojson", "maps.parquet"]
    assert map_slide.map_slide(slide, model, of("ERBB2"), OPTIONS, tmp_path) == first
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_an_interruption_before_the_first_write_loses_nothing(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = predictor(1)
    map_slide.map_slide(slide, model, of("ERBB2"), OPTIONS, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slide2rna.maps.window_predictions.combine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        map_slide.map_slide(slide, model, of("G03"), OPTIONS, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_pictures_of_earlier_names_go_and_other_files_stay(slide: Path, tmp_path: Path) -> None:
    model = predictor(1)
    map_slide.map_slide(slide, model, of("ERBB2", "G03"), OPTIONS, tmp_path)
    (tmp_path / "mine.png").write_bytes(b"a picture of the user's")
    map_slide.map_slide(slide, model, of("G03"), OPTIONS, tmp_path)
    assert names(tmp_path) == sorted([*FILES, "G03.png", "mine.png"])


@pytest.mark.parametrize("lost", ["maps.geojson", "maps.parquet", "G03.png"])
def test_a_lost_file_is_made_again(slide: Path, tmp_path: Path, lost: str) -> None:
    model = predictor(1)
    map_slide.map_slide(slide, model, of("G03"), OPTIONS, tmp_path)
    before = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    map_slide.map_slide(slide, model, of("G03"), OPTIONS, tmp_path)
    assert (tmp_path / lost).read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", '{"maps": 3}'])
def test_a_record_that_is_none_is_replaced(slide: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "maps.json").write_text(content)
    map_slide.map_slide(slide, predictor(1), of("G03"), OPTIONS, tmp_path)
    assert json.loads((tmp_path / "maps.json").read_text())["maps"][0]["name"] == "G03"


def test_a_gene_and_a_set_of_one_name_have_maps_of_their_own(slide: Path, tmp_path: Path) -> None:
    sets = pathway_table().with_columns(
        pathway=pl.col("pathway").replace("GO:3", "G03"), name=pl.col("name").replace("GO:3", "G03")
    )
    model = replace(predictor(1), pathway_table=sets)
    targets = map_targets.choose_targets(gene_table(), sets, ["G03"], ["G03"])
    report_json = map_slide.map_slide(slide, model, targets, OPTIONS, tmp_path)
    assert [row["picture"] for row in report_json["maps"]] == ["G03.png", "G03_pathway.png"]
    assert (tmp_path / "G03.png").read_bytes() != (tmp_path / "G03_pathway.png").read_bytes()
    table = pl.read_parquet(tmp_path / "maps.parquet").filter(pl.col("n_windows") > 0)
    first = json.loads((tmp_path / "maps.geojson").read_text())["features"][0]["properties"]
    for kind, title in (("gene", "G03"), ("pathway", "G03 (gene set)")):
        own = table.filter(pl.col("kind") == kind)
        assert own.height == report_json["n_tiles"] - report_json["n_tiles_without"]
        mean = own["mean"][0]
        assert first["measurements"][f"{title}: mean"] == pytest.approx(mean, abs=1e-5)


def test_a_training_slide_is_announced(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notes, real = [], figure.draw
    known = pl.DataFrame(
        [{"name": training_record.digest("slide", "a"), "train": [0], "n_tiles": 3, "mean": [0.0]}],
        schema=training_slides.SCHEMA,
    )
    model = replace(predictor(2), cohort_slides=known)
    monkeypatch.setattr("slide2rna.package.predictor.load", lambda folder, device: model)
    monkeypatch.setattr(figure, "draw", lambda *args: notes.append(args[3]) or real(*args))
    options = ["--genes", "G03", "--window", "3", "--draws", "0", "--out", str(tmp_path)]
    with caplog.at_level(logging.WARNING):
        maps.main([str(slide), "--model", "m", *options])
    words = " 1 of 2 fold models"
    said = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert len(said) == 1
    assert "fold model" in said[0]
    report_json = json.loads((tmp_path / "a" / "maps.json").read_text())
    assert (report_json["facts"]["trained_folds"], report_json["facts"]["trained_as"]) == (
        1,
        "name",
    )
    assert report_json["warnings"][0] == said[0]
    assert [note.splitlines()[0] for note in notes] == said
    caplog.clear()
    new = {"trained_folds": None, "trained_as": None}
    assert not predict.slide_warnings(new, {"shifted": False, "words": ""}, 2)


def test_the_whole_slide_is_judged() -> None:
    rng = np.random.default_rng(0)
    law = TrainingReference(
        feature_mean=np.zeros(6),
        feature_scale=np.ones(6),
        clusters=rng.normal(size=(50, 6)).astype(np.float16),
        gene_mean=np.zeros(4),
        gene_sd=np.ones(4),
        components=np.eye(4)[:2],
        precision=np.eye(2),
        cal_bag=np.sort(rng.random(30)),
        cal_expression=np.sort(rng.random(30)),
        train_bag=np.sort(rng.random(40)),
        about={"genes": list("ABCD")},
    )
    model = predictor(1)
    members: Any = [replace(member(number), reference=law) for number in (0, 1)]
    model = replace(model, fold_models=members)
    features = rng.normal(size=(9, 6)).astype(np.float32)
    whole = encode_slide.bag(features, model, "a")
    tiles = Features(features, np.zeros((9, 2), np.int64), np.zeros((9, 3), np.float32))
    read = encode_slide.EncodedSlide("a", tiles, None, {})
    windows = [np.arange(4), np.arange(9)]
    options = MapOptions(WindowShape.of(3, 2), draws=0)
    maps_made, gaps, shift = map_slide._predict_windows(
        read, model, whole, windows, of("G03"), options, 1
    )
    assert (maps_made["mean"].shape, gaps) == ((9, 1), None)
    wanted = [{"fold": number} | law.judge(*whole) for number in (0, 1)]
    assert shift == decision.decide(wanted, model.about["alpha"])
    assert shift["n_cal"] == 30
    assert shift["train_distance"] == pytest.approx(np.median(law.train_bag))


def test_paths_without_a_slide_are_one_line(slide: Path, tmp_path: Path) -> None:
    arguments = ["--model", "no", "--out", str(tmp_path / "out"), "--genes", "G03"]
    for path, message in ((slide.parent, "folder"), ("no", "no:? ?.*no such")):
        with pytest.raises(SlideError, match=message) as error:
            maps.main([str(path), *arguments])
        assert "sheet" not in str(error.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("out", ["file", "file/below", "closed"])
def test_an_unwritable_folder_stops_the_maps_at_once(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "file").write_text("mine")
    if out == "closed":
        monkeypatch.setattr(Path, "mkdir", _denied)
    monkeypatch.setattr("slide2rna.package.predictor.load", lambda folder, device: predictor(1))
    monkeypatch.setattr(
        encode_slide, "encode_slide", lambda *args, **kwargs: pytest.fail("work was begun")
    )
    with pytest.raises(ConfigError) as error:
        maps.main([str(slide), "--model", "m", "--genes", "G03", "--out", str(tmp_path / out)])
    assert isinstance(error.value, UserError)
    cause = "nothing can be written" if out == "closed" else "file: is a file, not a folder"
    assert cause in str(error.value)
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


def _denied(*args: Any, **kwargs: Any) -> None:
    raise PermissionError(13, "Permission denied")
