"""What a prediction's folder may hold before, and what the file system may refuse."""

from __future__ import annotations

import errno
from pathlib import Path

import packaged
import polars as pl
import pytest
from slide2rna.core import cli
from slide2rna.core.errors import ConfigError
from slide2rna.package import predictor
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict_slides
from slide2rna.predict.predict_slides import PredictOptions
from slide2rna.storage import parquet
from slide_factory import picture, write_slide


@pytest.fixture(scope="module")
def model(packed: packaged.Packaged) -> Predictor:
    return predictor.load(packed.model, "cpu")


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    made = packaged.make(tmp_path_factory.mktemp("colour") / "cohort", encoder="color", dim=6)
    return predictor.load(made.model, "cpu")


def test_files_of_an_earlier_command_do_not_pass_for_new_ones(
    model: Predictor, tmp_path: Path
) -> None:
    path, out = packaged.features_of(tmp_path / "a.h5"), tmp_path / "out"
    predict_slides.predict_slides(model, [path], out, PredictOptions(draws=3, h5ad=True))
    assert "3 draws each" in (out / "a/index.html").read_text()
    predict_slides.predict_slides(model, [path], out, PredictOptions(draws=5, page=False))
    assert sorted(item.name for item in (out / "a").rglob("*") if item.is_file()) == [
        *("genes.parquet", "pathways.parquet", "prediction.json"),
    ]
    predict_slides.predict_slides(model, [path], out, PredictOptions(draws=5))
    assert "5 draws each" in (out / "a/index.html").read_text()
    assert not (out / "a/prediction.h5ad").exists()


def test_another_list_of_slides_is_not_written_over(model: Predictor, tmp_path: Path) -> None:
    cohort = pl.DataFrame({"slide_id": ["S1"], "sample_id": ["S1"], "unit": ["P1"]})
    parquet.write(cohort, tmp_path / "slides.parquet")
    path = packaged.features_of(tmp_path / "a.h5")
    with pytest.raises(ConfigError, match=r"--out"):
        predict_slides.predict_slides(model, [path], tmp_path, PredictOptions(draws=2, page=False))
    assert pl.read_parquet(tmp_path / "slides.parquet").equals(cohort)
    assert not (tmp_path / "a").exists()


def test_a_list_of_an_earlier_version_is_taken_over(model: Predictor, tmp_path: Path) -> None:
    quick = PredictOptions(draws=2, page=False)
    for name in "ab":
        path = packaged.features_of(tmp_path / f"{name}.h5", seed=ord(name))
        predict_slides.predict_slides(model, [path], tmp_path / "out", quick)
        listed = pl.read_parquet(tmp_path / "out/slides.parquet")
        parquet.write(listed.drop("trained_folds"), tmp_path / "out/slides.parquet")
    assert listed["slide"].to_list() == ["a", "b"]
    assert listed["trained_folds"].to_list() == [None, None]


@pytest.mark.parametrize("out", ["file", "file/x"])
def test_out_that_cannot_be_written_to(model: Predictor, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"file: .*--out"):
        predict_slides.predict_slides(model, [tmp_path / "a.h5"], tmp_path / out, PredictOptions())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_is_no_slide(model: Predictor, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    table = predict_slides.predict_slides(
        model, [tmp_path / "scans"], tmp_path / "out", PredictOptions()
    )
    assert table["reason"][0].startswith("is a folder")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a/genes.parquet"),
            "a/genes.parquet: No",
        ),
        (
            OSError("No space left on device (os error 28): a/genes.parquet"),
            "error: No space left on device (os error 28): a/genes.parquet; fix",
        ),
        (
            pl.exceptions.ComputeError("underlying IO error: no room (os error 28)"),
            "error: underlying IO error: no room (os error 28); fix",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "error: a: Permission denied;"),
    ],
)
def test_the_systems_errors_are_a_line(
    error: Exception, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        cli.run(fail, [], stage=False)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert text in said
    assert said.count("\n") == 1


def test_an_error_that_is_not_the_systems_keeps_its_traceback() -> None:
    def fail(_: object) -> None:
        raise OSError("a library's own")

    with pytest.raises(OSError, match="library's own"):
        cli.run(fail, [], stage=False)


def test_kept_features_know_their_slide_and_the_weights(
    colour: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, out = write_slide(tmp_path / "S9.svs", picture()), tmp_path / "out"
    predict_slides.predict_slides(colour, [slide], out, PredictOptions(draws=2, page=False))
    assert encode_slide.slide_name(out / "S9/features.h5") == "S9"
    assert encode_slide.slide_name("x/features.h5") == "features"
    again = predict_slides.predict_slides(
        colour, [out / "S9/features.h5"], tmp_path / "two", PredictOptions(draws=2, page=False)
    )
    assert again["slide"].to_list() == ["S9"]
    one, two = (pl.read_parquet(path / "S9/genes.parquet") for path in (out, tmp_path / "two"))
    assert one.equals(two)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(encode_slide, "extract", never)
    keep = out / "S9/features.h5"
    encode_slide.encode_slide(slide, colour, colour.encoder(1), keep=keep)
    (tmp_path / "weights.bin").write_bytes(b"others")
    with pytest.raises(AssertionError, match="encoded again"):
        encode_slide.encode_slide(
            slide, colour, colour.encoder(1), keep=keep, weights=tmp_path / "weights.bin"
        )
