"""The command's files: whole or absent, kept on a rerun, and a bad slide among good ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import packaged
import polars as pl
import pytest
from slide2rna.commands.predict import main
from slide2rna.core import files as core_files
from slide2rna.core.errors import ConfigError, UserError
from slide2rna.package import predictor
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict_slides
from slide2rna.predict import predict as predict_predict
from slide2rna.storage import parquet
from slide_factory import picture, write_slide

REPO = Path(__file__).resolve().parents[3]
QUICK = predict_slides.PredictOptions(page=False, threads=1)
FILES = ["genes.parquet", "pathways.parquet", "prediction.json"]


@pytest.fixture(scope="module")
def model(packed: packaged.Packaged) -> Predictor:
    return predictor.load(packed.model, "cpu")


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads slides: its features are six colour numbers."""
    made = packaged.make(tmp_path_factory.mktemp("colour") / "cohort", encoder="color", dim=6)
    return made.model


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_bad_file_is_named_and_the_others_go_on(
    packed: packaged.Packaged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [packaged.features_of(tmp_path / f"{name}.h5", seed=ord(name)) for name in "ac"]
    (tmp_path / "b.h5").write_text("no h5")
    given = [str(tmp_path / f"{name}.h5") for name in ("a", "b", "c", "gone")]
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        main([*given, "--model", str(packed.model), "--out", str(out), "--no-page"])
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert "error: b: " in said.err
    assert "error: gone: no such file; " in said.err
    assert f"a: {out / 'a' / 'prediction.json'}" in said.out
    table = pl.read_parquet(out / "slides.parquet")
    assert table["slide"].to_list() == ["a", "b", "c", "gone"]
    assert table["status"].to_list() == ["ok", "failed", "ok", "failed"]
    assert str(tmp_path) not in "".join(table["reason"].drop_nulls())
    assert table["n_tiles"].to_list() == [40, None, 40, None]
    for path in paths:
        assert files(out / path.stem) == FILES
    assert not (out / "b").exists()


def test_what_is_written_can_be_read(model: Predictor, tmp_path: Path) -> None:
    path = packaged.features_of(tmp_path / "a.h5")
    predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK)
    genes = pl.read_parquet(tmp_path / "out/a/genes.parquet")
    assert genes["gene"].to_list() == model.genes
    assert set(genes["slide"]) == {"a"}
    assert set(genes["caveat"]) == {"drawn"}
    record = core_files.read_json(tmp_path / "out/a/prediction.json")
    assert record["facts"]["draws"] == 2 * packaged.SETTINGS["sample"]["draws"]
    assert record["shift"]["judged_by"] == "train"
    assert record["model"]["run"] == model.about["run"]
    assert str(tmp_path) not in (tmp_path / "out/a/prediction.json").read_text()


def test_what_is_done_is_kept(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packaged.features_of(tmp_path / "a.h5")
    first = predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK)
    asked: list[str] = []
    predict = predict_predict.predict

    def counted(*arguments: object) -> object:
        asked.append("again")
        return predict(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(predict_slides, "predict", counted)
    assert predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK).equals(first)
    assert asked == []
    (tmp_path / "out/a/genes.parquet").unlink()
    predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK)
    predict_slides.predict_slides(
        model, [path], tmp_path / "out", predict_slides.PredictOptions(page=False, draws=4)
    )
    packaged.features_of(path, seed=5)
    predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK)
    assert len(asked) == 3


def test_an_interrupted_run_goes_on(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [packaged.features_of(tmp_path / f"{name}.h5", seed=ord(name)) for name in "ab"]
    write = parquet.write_stamped

    def stop(table: pl.DataFrame, path: Path, *rest: object) -> None:
        if path.parent.name == "b" and path.name == "pathways.parquet":
            raise KeyboardInterrupt
        write(table, path, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(parquet, "write_stamped", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_slides.predict_slides(model, paths, tmp_path / "out", QUICK)
    assert files(tmp_path / "out/a") == FILES
    assert files(tmp_path / "out/b") == ["genes.parquet"]
    before = (tmp_path / "out/a/prediction.json").stat().st_mtime_ns
    table = predict_slides.predict_slides(model, paths, tmp_path / "out", QUICK)
    assert table["status"].to_list() == ["ok", "ok"]
    assert (tmp_path / "out/a/prediction.json").stat().st_mtime_ns == before
    assert files(tmp_path / "out/b") == FILES


def test_a_damaged_record_is_made_again(model: Predictor, tmp_path: Path) -> None:
    path = packaged.features_of(tmp_path / "a.h5")
    first = predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK)
    record = tmp_path / "out/a/prediction.json"
    whole = record.read_text()
    for damaged in (whole[:-20], whole.replace('"status": "ok"', '"status": "no"')):
        record.write_text(damaged)
        assert predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK).equals(first)
        assert record.read_text() == whole


def test_slides_of_an_earlier_command_stay_listed(model: Predictor, tmp_path: Path) -> None:
    for name in "ba":
        path = packaged.features_of(tmp_path / f"{name}.h5", seed=ord(name))
        assert predict_slides.predict_slides(model, [path], tmp_path / "out", QUICK)[
            "slide"
        ].to_list() == [name]
    assert pl.read_parquet(tmp_path / "out/slides.parquet")["slide"].to_list() == ["a", "b"]


def test_features_of_a_slide_are_kept(
    colour: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_slide(tmp_path / "slide.svs", picture())
    model = predictor.load(colour, "cpu")
    first = predict_slides.predict_slides(model, [slide], tmp_path / "out", QUICK)
    assert first["status"].to_list() == ["ok"]
    assert files(tmp_path / "out/slide") == sorted([*FILES, "features.h5", "tiles.jpg"])
    record = core_files.read_json(tmp_path / "out/slide/prediction.json")
    facts = record["facts"]
    assert (facts["mpp"], facts["width_px"], facts["vendor"]) == (0.5, 2048, "aperio")
    assert facts["n_tiles"] == first["n_tiles"][0] > 10

    def never(*_: object, **__: object) -> None:
        raise AssertionError("features were there")

    monkeypatch.setattr(encode_slide, "extract", never)
    again = predict_slides.predict_slides(
        model, [slide], tmp_path / "out", predict_slides.PredictOptions(page=False, draws=3)
    )
    assert again["n_tiles"].equals(first["n_tiles"])
    with pytest.raises(AssertionError, match="features were there"):
        predict_slides.predict_slides(
            model, [slide], tmp_path / "out", predict_slides.PredictOptions(page=False, mpp=0.4)
        )


def test_a_slide_without_resolution_needs_mpp(colour: Path, tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "slide.svs", picture(), mpp=None, power=None)
    model = predictor.load(colour, "cpu")
    failed = predict_slides.predict_slides(model, [slide], tmp_path / "out", QUICK)
    assert "resolution" in failed["reason"][0]
    assert "--mpp" in failed["reason"][0]
    given = predict_slides.PredictOptions(page=False, threads=1, mpp=0.5)
    assert predict_slides.predict_slides(model, [slide], tmp_path / "out", given)[
        "status"
    ].to_list() == ["ok"]
    facts = core_files.read_json(tmp_path / "out/slide/prediction.json")["facts"]
    assert (facts["mpp"], facts["mpp_source"]) == (0.5, "given")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["a.h5", "x/a.h5"], "a: 2 "),
        (["a.svs"], "features from files"),
        (["a.h5", "--draws", "1"], "--draws 1: .*2"),
        (["a.h5", "--threads", "0"], "--threads 0: "),
        (["a.h5", "--mpp", "0"], "--mpp 0: .*0.05.* 2"),
        (["a.h5", "--mpp", "nan"], "--mpp nan: "),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    packed: packaged.Packaged, tmp_path: Path, arguments: list[str], text: str
) -> None:
    with pytest.raises(UserError, match=text):
        main([*arguments, "--model", str(packed.model), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_page_and_anndata(model: Predictor, tmp_path: Path) -> None:
    path = packaged.features_of(tmp_path / "a.h5", away=30)
    options = predict_slides.PredictOptions(h5ad=True)
    predict_slides.predict_slides(model, [path], tmp_path / "out", options)
    page = (tmp_path / "out/a/index.html").read_text()
    assert "unlike the training slides" in page
    kept = anndata.read_h5ad(tmp_path / "out/a/prediction.h5ad")
    assert kept.shape == (1, packaged.GENES)
    assert kept.var_names.to_list() == model.genes


def test_ctrl_c_leaves_whole_files(packed: packaged.Packaged, tmp_path: Path) -> None:
    """The real signal to the real command, at a moment that nobody chose.

    Python loses an interrupt that comes while it runs a finaliser. Where slides still get finished
    after the signal, it is sent again, as a person would press the keys again.
    """
    paths = [packaged.features_of(tmp_path / f"s{i}.h5", seed=i) for i in range(200)]
    out = tmp_path / "out"
    command = [sys.executable, str(REPO / "scripts" / "predict.py"), *map(str, paths)]
    command += ["--model", str(packed.model), "--out", str(out), "--no-page", "--threads", "1"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 500
    while not (out / "s2" / "prediction.json").exists() and time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)
    while running.poll() is None and time.monotonic() < deadline:
        os.kill(running.pid, signal.SIGINT)
        enough = len(list(out.glob("*/prediction.json"))) + 3
        while running.poll() is None and len(list(out.glob("*/prediction.json"))) < enough:
            time.sleep(0.01)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "same command" in said
    assert "Traceback" not in said
    assert not [path for path in out.rglob("*") if ".partial" in path.name]
    done = [path for path in out.rglob("*.parquet")]
    assert len(done) >= 6
    assert all(pl.read_parquet(path).height for path in done)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        main(["a.h5", "--model", str(tmp_path / "gone"), "--out", str(tmp_path / "out")])


def test_names_of_one_folder_on_some_disks_are_refused(model: Predictor, tmp_path: Path) -> None:
    for first, second in (("a", "A"), ("\u00e9", "e\u0301")):
        paths = [tmp_path / f"{name}.h5" for name in ("c", first, second)]
        with pytest.raises(ConfigError, match="case only"):
            predict_slides.predict_slides(model, paths, tmp_path / "out", QUICK)
