"""A training slide is recognised by its name or by its tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import packaged
import polars as pl
import pytest
from slide2rna.data import fold_rows, training_record
from slide2rna.features import bag_file, feature_file
from slide2rna.package import predictor, training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict, slide_page


@pytest.fixture(scope="module")
def model(packed: packaged.Packaged) -> Predictor:
    return predictor.load(packed.model, "cpu")


@pytest.fixture(scope="module")
def trained(packed: packaged.Packaged) -> dict[str, int]:
    """Folds whose train part has a slide, from the splits."""
    ids, _, _ = bag_file.open_bags(packed.source.bags)
    folder = packed.source.folder
    counts = dict.fromkeys(ids, 0)
    for fold in packed.source.folds:
        rows = fold_rows.read_fold_rows(ids, folder / "slides.parquet", folder / "splits.tsv", fold)
        for name in rows.of("train").slide_ids:
            counts[name] += 1
    return counts


def encoded(packed: packaged.Packaged, slide: str, name: str) -> encode_slide.EncodedSlide:
    """A slide of the cohort by its bag's clusters, each as many tiles as it has, out of order."""
    ids, means, sizes = bag_file.open_bags(packed.source.bags)
    row = ids.index(slide)
    tiles = np.repeat(means[row], sizes[row].astype(int), axis=0)[::-1]
    found = feature_file.Features(tiles, np.zeros((len(tiles), 2), int), None)
    return encode_slide.EncodedSlide(name, found, None, {"n_tiles": len(tiles), "n_rejected": 0})


def test_slides_of_the_cohort_are_known_by_name(model: Predictor, trained: dict[str, int]) -> None:
    assert {model.trained_folds(name) for name in trained} == set(trained.values()) > {0}
    assert all(model.trained_folds(name) == count for name, count in trained.items())
    assert model.trained_folds("another") == 0
    assert training_slides.match_by_name(model.cohort_slides, "another") is None
    assert not set(trained) & set(model.cohort_slides["name"])


def test_a_renamed_slide_is_recognised_and_no_other(
    packed: packaged.Packaged, model: Predictor, trained: dict[str, int]
) -> None:
    ids, means, sizes = bag_file.open_bags(packed.source.bags)
    for row, name in enumerate(ids):
        match = training_slides.match_by_tiles(model.cohort_slides, means[row], sizes[row])
        assert match == trained[name]
        moved = means[row] + 0.1 * np.linspace(-1, 1, packaged.DIM)
        assert training_slides.match_by_tiles(model.cohort_slides, moved, sizes[row]) is None
    assert training_slides.match_by_tiles(training_slides.empty_table(), means[0], sizes[0]) is None


@pytest.mark.parametrize("name", ["own", "other"])
def test_the_prediction_says_it_first(
    packed: packaged.Packaged, model: Predictor, trained: dict[str, int], name: str
) -> None:
    slide = max(trained, key=lambda key: trained[key])
    called = slide if name == "own" else "other"
    found = predict.predict(model, encoded(packed, slide, called), draws=2)
    count = trained[slide]
    assert found.warnings[0].startswith("This slide ")
    assert f" {count} of {packaged.FOLDS} fold models" in found.warnings[0]
    assert (found.facts["trained_folds"], found.facts["trained_as"]) == (count, "tiles")
    shown = slide_page.context(found, model.about)
    assert shown["seen"]["heading"].startswith("Warning: this slide ")
    assert shown["seen"]["words"] not in shown["warnings"]


def test_another_slide_of_the_name_is_only_suspected(
    model: Predictor, trained: dict[str, int], tmp_path: Path
) -> None:
    slide = max(trained, key=lambda key: trained[key])
    path = packaged.features_of(tmp_path / f"{slide}.h5", seed=77)
    found = predict.predict(model, encode_slide.encode_slide(path, model), draws=2)
    assert found.warnings[0].startswith("A slide of this name ")
    new = predict.predict(
        model, encode_slide.encode_slide(packaged.features_of(tmp_path / "n.h5"), model)
    )
    assert new.facts["trained_folds"] is None
    assert not any("fold models" in text for text in new.warnings)


def test_a_slide_of_the_cohort_that_no_fold_trained_on() -> None:
    known = pl.DataFrame(
        {
            "name": [training_record.digest("slide", "S")],
            "train": [[]],
            "n_tiles": [1],
            "mean": [[0.0]],
        },
        schema=training_slides.SCHEMA,
    )
    assert training_slides.match_by_name(known, "S") == 0
    assert "no fold model" in training_slides.in_sample_note(0, 5).lower()
    assert " 1 of 1 fold model" in training_slides.in_sample_note(1, 1)


def test_a_model_without_the_list_still_loads(packed: packaged.Packaged, tmp_path: Path) -> None:
    assert training_slides.read_table(tmp_path).is_empty()
    assert training_slides.read_table(packed.model).height == len(packed.made.slide_ids)
