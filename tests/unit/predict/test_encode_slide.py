"""A slide or features file for a model: what is refused, and what is noted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import packaged
import polars as pl
import pytest
import torch
from slide2rna.core.errors import ConfigError, SlideError
from slide2rna.features import feature_file
from slide2rna.package import predictor
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict
from slide2rna.storage import stamps

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(packed: packaged.Packaged) -> Predictor:
    return predictor.load(packed.model, "cpu")


@pytest.mark.parametrize(
    ("changes", "encoder", "text"),
    [
        ({"dim": 13}, None, "13 numbers per tile, the model takes 12"),
        ({}, "resnet50", "resnet50.* lite0"),
    ],
)
def test_features_of_another_encoder_are_refused(
    model: Predictor, tmp_path: Path, changes: dict[str, int], encoder: str | None, text: str
) -> None:
    path = packaged.features_of(tmp_path / "a.h5", **changes)
    if encoder:
        feature_file.write(path, feature_file.read(path), {"encoder": encoder})
    known = replace(model, about=model.about | {"encoder": "lite0"})
    with pytest.raises(SlideError, match=text):
        encode_slide.encode_slide(path, known)


def test_features_at_another_resolution_are_noted(model: Predictor, tmp_path: Path) -> None:
    path = packaged.features_of(tmp_path / "a.h5")
    found = replace(feature_file.read(path), mpp=1.0)
    slide = encode_slide.EncodedSlide(
        "a", found, None, {"n_tiles": 40, "n_rejected": 0, "tile_mpp": 1.0}
    )
    at_half = replace(model, about=model.about | {"tile_mpp": 0.5})
    said = predict.predict(at_half, slide, draws=2).warnings
    assert any("1 um/px" in text and "0.5" in text for text in said)
    # Features from files: at which resolution those of the training were isn't known.
    older = {"tiles": packaged.SETTINGS["tiles"]}
    without = {key: value for key, value in model.about.items() if key != "tile_mpp"}
    for about in (model.about, without | older):
        said = predict.predict(replace(model, about=about), slide, draws=2).warnings
        assert not any("um/px" in text for text in said)


def test_an_encoder_that_nobody_names_is_noted(model: Predictor, tmp_path: Path) -> None:
    path = packaged.features_of(tmp_path / "a.h5")
    known = replace(model, about=model.about | {"made_by": "uni"})
    for of, text in (
        (known, "Its file names no encoder; the training's features were made by uni."),
        (model, "The encoder of the training's features isn't recorded; yours must be the same."),
    ):
        assert text in predict.predict(of, encode_slide.encode_slide(path, of), draws=2).warnings
    feature_file.write(path, feature_file.read(path), {"encoder": "ctranspath"})
    with pytest.raises(SlideError, match=r"ctranspath.* uni"):
        encode_slide.encode_slide(path, known)
    feature_file.write(path, feature_file.read(path), {"made_by": "uni"})
    said = predict.predict(known, encode_slide.encode_slide(path, known), draws=2).warnings
    assert not any("encoder" in text for text in said)


def test_slides_need_a_model_of_slides(model: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.svs").touch()
    with pytest.raises(ConfigError, match="trained on features from files"):
        encode_slide.encode_slide(tmp_path / "a.svs", model)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT"])
def test_pickled_features_are_not_opened(model: Predictor, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"A{suffix}"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(SlideError) as caught:
        encode_slide.encode_slide(path, model)
    assert "A.h5" in caught.value.remedy


def test_a_slide_that_changed_in_the_middle_has_another_key(
    model: Predictor, tmp_path: Path
) -> None:
    """Same size, same blocks of the stamp: only the time tells."""
    path, table = tmp_path / "a.svs", pl.DataFrame({"x": [0]})
    content = bytearray(8 * stamps.MIB)
    about = {"tiles": packaged.SETTINGS["tiles"], "encoder": "color"}
    of = replace(model, about=model.about | about)

    def key() -> str:
        return encode_slide._key(path, 0.5, table, of, None)

    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    before, stamp = key(), stamps.slide_stamp(path)
    assert key() == before
    content[stamps.MIB + 1] = 1
    path.write_bytes(content)
    assert stamps.slide_stamp(path) == stamp
    os.utime(path, ns=(1, 2))
    assert key() != before
