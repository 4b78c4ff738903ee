"""Reading a model's folder: where it is, that it is whole, and what is kept in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import packaged
import polars as pl
import pytest
from slide2rna.core import config, files
from slide2rna.core.errors import ConfigError, StageError, WeightsError
from slide2rna.features import lite0, registry
from slide2rna.models import checkpoint
from slide2rna.package import fold_models, predictor
from slide2rna.storage import parquet


@pytest.fixture
def copy(packed: packaged.Packaged, tmp_path: Path) -> Path:
    """A copy of the model's folder, and of nothing else."""
    return Path(shutil.copytree(packed.model, tmp_path / "elsewhere"))


def test_a_copy_is_the_same_model(packed: packaged.Packaged, copy: Path) -> None:
    ours, theirs = predictor.load(packed.model, "cpu"), predictor.load(copy, "cpu")
    assert ours.key == theirs.key
    assert ours.genes == theirs.genes == theirs.gene_table["gene"].to_list()
    assert (theirs.n_clusters, theirs.feature_dim) == (packaged.CLUSTERS, packaged.DIM)
    assert theirs.sets.shape == (8, packaged.GENES)
    assert theirs.sets.sum(axis=1).min() == pytest.approx(1)


def test_the_only_run_is_found(packed: packaged.Packaged) -> None:
    folder = packed.source.folder
    for path in (folder, folder / "models", packed.model, packed.model / "predictor.json"):
        assert predictor.find(path) == packed.model


def test_several_runs_are_named(packed: packaged.Packaged, tmp_path: Path) -> None:
    for name in ("uni-flow", "lite0-flow"):
        shutil.copytree(packed.model, tmp_path / "models" / name)
    with pytest.raises(ConfigError, match=r"2 models.*lite0-flow, uni-flow"):
        predictor.find(tmp_path)


def test_runs_that_were_only_trained_are_named(packed: packaged.Packaged, tmp_path: Path) -> None:
    for name in ("uni-flow", "lite0-flow"):
        shutil.copytree(packed.model / "fold-0", tmp_path / "models" / name / "fold-0")
    with pytest.raises(ConfigError, match=r"trained.*lite0-flow, uni-flow"):
        predictor.find(tmp_path)
    assert predictor.find(tmp_path / "models" / "uni-flow") == tmp_path / "models" / "uni-flow"


@pytest.mark.parametrize(("name", "cause"), [("gone", "no such folder"), (".", "no model")])
def test_no_model(tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=f"{cause}.*results/<cohort>/models/<run>"):
        predictor.load(tmp_path / name, "cpu")


def test_fold_models_are_read_when_they_are_asked_for(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = checkpoint.load_model

    def counted(folder: Path, device: object) -> object:
        read.append(folder.name)
        return load(folder, device)

    monkeypatch.setattr(checkpoint, "load_model", counted)
    small = predictor.load(copy, "cpu")
    assert len(small.fold_models) == packaged.FOLDS
    assert read == []
    assert [member.number for member in small.fold_models] == [0, 1]
    assert small.fold_models[-1].number == 1
    assert [member.number for member in small.fold_models[:1]] == [0]
    assert read == ["fold-0", "fold-1"]
    assert small.fold_models[0].reference is not None
    monkeypatch.setattr(fold_models, "CACHE_BYTES", 0)
    large = predictor.load(copy, "cpu")
    assert len([*large.fold_models, *large.fold_models]) == 4
    assert read[2:] == ["fold-0", "fold-1"] * 2


@pytest.mark.parametrize(
    ("lost", "kind", "text"),
    [
        ("genes.parquet", StageError, r"genes\.parquet"),
        ("conformal.parquet", StageError, r"conformal\.parquet"),
        ("fold-1/model.safetensors", StageError, r"fold-1"),
        ("familiar/fold-1.safetensors", StageError, r"fold-1"),
    ],
)
def test_missing_files_are_named(copy: Path, lost: str, kind: type[Exception], text: str) -> None:
    (copy / lost).unlink()
    with pytest.raises(kind, match=text):
        predictor.load(copy, "cpu")


def test_a_broken_file_of_familiar_is_named(copy: Path) -> None:
    (copy / "familiar/fold-1.safetensors").write_bytes(b"zz")
    packaged.sign(copy)
    with pytest.raises(WeightsError, match=r"fold-1\.safetensors"):
        predictor.load(copy, "cpu")


def test_weights_of_another_training_are_refused(copy: Path) -> None:
    """The tables and intervals beside them were made for others."""
    shutil.copyfile(copy / "fold-0/model.safetensors", copy / "fold-1/model.safetensors")
    model = predictor.load(copy, "cpu")
    assert model.fold_models[0].number == 0
    with pytest.raises(StageError, match=r"fold-1.*package"):
        model.fold_models[1]


def test_the_encoders_weights_are_compared(copy: Path) -> None:
    about = files.read_json(copy / predictor.ABOUT)
    for encoder, known, text in (
        ("uni", "uni hub MahmoodLab/UNI", "only the page"),
        ("uni", "uni 0123456789abcdef", None),
        ("uni", None, "aren't recorded"),
        ("color", "color", None),
    ):
        files.write_json(
            about | {"encoder": encoder, "encoder_identity": known}, copy / "predictor.json"
        )
        note = predictor.load(copy, "cpu").weights_note()
        assert (note is None) == (text is None)
        assert text is None or text in str(note)


def test_another_format_is_refused(copy: Path) -> None:
    about = files.read_json(copy / predictor.ABOUT)
    files.write_json(about | {"format": 99}, copy / predictor.ABOUT)
    with pytest.raises(StageError, match="version's format"):
        predictor.load(copy, "cpu")
    (copy / predictor.ABOUT).write_text("{")
    with pytest.raises(StageError, match=r"predictor\.json: not readable as JSON"):
        predictor.load(copy, "cpu")


def test_factors_of_other_genes_are_refused(copy: Path) -> None:
    path = copy / predictor.CONFORMAL
    parquet.write(pl.read_parquet(path).reverse(), path)
    packaged.sign(copy)
    with pytest.raises(StageError, match=r"genes.*fold \d"):
        _ = predictor.load(copy, "cpu").factors


def test_refused_levels_have_no_factors(packed: packaged.Packaged) -> None:
    found = predictor.load(packed.model, "cpu").factors
    assert set(found) == {0, 1}
    for levels in found.values():
        assert set(levels) == {0.5, 0.8}
        assert all(own.shape == (2, packaged.GENES) for own in levels.values())


@pytest.mark.parametrize("what", ["about", "table", "familiar"])
def test_the_key_knows_what_predictions_depend_on(copy: Path, what: str) -> None:
    before = predictor.load(copy, "cpu").key
    if what == "about":
        about = files.read_json(copy / predictor.ABOUT)
        files.write_json(about | {"seed": 2}, copy / predictor.ABOUT)
    elif what == "table":
        table = pl.read_parquet(copy / "genes.parquet").with_columns(pl.col("mean") + 1)
        parquet.write(table, copy / "genes.parquet")
    else:
        shutil.copyfile(copy / "familiar/fold-0.safetensors", copy / "familiar/fold-1.safetensors")
    packaged.sign(copy)
    assert predictor.load(copy, "cpu").key != before


def test_other_weights_of_the_encoder_are_refused(copy: Path) -> None:
    about = files.read_json(copy / predictor.ABOUT)
    features = config.defaults("features", encoder="lite0")
    about |= {"tiles": packaged.SETTINGS["tiles"]}
    identity = registry.load(features).identity
    for known, fits in ((identity, True), (None, True), ("lite0 0123456789abcdef", False)):
        own = about | {"features": features, "encoder": "lite0", "encoder_identity": known}
        files.write_json(own, copy / predictor.ABOUT)
        model = predictor.load(copy, "cpu")
        if fits:
            assert model.encoder(1).identity == identity
        else:
            with pytest.raises(WeightsError, match="lite0 0123"):
                model.encoder(1)


def test_a_new_slide_is_encoded_by_all_encoders_of_the_training(copy: Path) -> None:
    about = files.read_json(copy / predictor.ABOUT) | {"tiles": packaged.SETTINGS["tiles"]}
    both = config.defaults("features", encoder=["lite0", "color"])
    swapped = config.defaults("features", encoder=["color", "lite0"])
    own = {"encoder": "lite0-color", "encoder_identity": registry.identity(both)}
    for features, fits in ((both, True), (swapped, False)):
        files.write_json(about | own | {"features": features}, copy / predictor.ABOUT)
        model = predictor.load(copy, "cpu")
        if fits:
            encoder = model.encoder(1, {"lite0": str(lite0.weights_path())})
            assert (encoder.name, encoder.dim) == ("lite0-color", 236)
            continue
        with pytest.raises(WeightsError, match=r"color \+ lite0 .* training used lite0 .* \+ c"):
            model.encoder(1)


def test_a_package_of_before_lacks_the_keys_of_revision_and_rule(copy: Path) -> None:
    about = files.read_json(copy / predictor.ABOUT) | {"tiles": packaged.SETTINGS["tiles"]}
    old = {"encoder": "lite0", "batch": 8, "level": "tile", "scale": "zscore"}
    own = {"features": old, "encoder": "lite0", "encoder_identity": None}
    files.write_json(about | own, copy / predictor.ABOUT)
    assert predictor.load(copy, "cpu").encoder(1).dim == 230


def test_fold_models_alone(packed: packaged.Packaged, tmp_path: Path) -> None:
    """As slide2rna convert leaves them, or a run that was trained and never packaged."""
    for name in ("fold-0", "fold-1"):
        shutil.copytree(packed.model / name, tmp_path / name)
    whole = predictor.load(packed.model, "cpu")
    for path in (tmp_path, tmp_path / "fold-0"):
        bare = predictor.load(path, "cpu")
        assert len(bare.fold_models) == packaged.FOLDS
        assert bare.genes == whole.genes
        assert bare.about["packaged"] is False
        assert bare.n_clusters == packaged.CLUSTERS
        assert set(bare.gene_table["reliability"]) == {"unknown"}
        assert bare.factors == {}
        assert bare.gene_table.select("mean", "sd").equals(whole.gene_table.select("mean", "sd"))
        # The order of a set's genes is free.
        sets = [{*row["genes"]} for row in bare.pathway_table.iter_rows(named=True)]
        assert sets == [{*row["genes"]} for row in whole.pathway_table.iter_rows(named=True)]
    with pytest.raises(ConfigError, match=r"slides.*\.h5 features"):
        bare.check_slides()
    first = files.read_json(tmp_path / "fold-0" / "model.json")
    files.write_json(first | {"one_step": True}, tmp_path / "fold-0" / "model.json")
    student = predictor.load(tmp_path, "cpu").about["sample"]
    assert (student["solver"], student["steps"], student["guidance"]) == ("exponential", 1, 1.0)
    meta = json.loads((tmp_path / "fold-1" / "model.json").read_text())
    files.write_json(meta | {"genes": meta["genes"][::-1]}, tmp_path / "fold-1" / "model.json")
    with pytest.raises(StageError, match="genes"):
        predictor.load(tmp_path, "cpu")


def test_own_features_leave_slides_out(packed: packaged.Packaged) -> None:
    with pytest.raises(ConfigError, match="features from files"):
        predictor.load(packed.model, "cpu").check_slides()


FILES = ("genes.parquet", "pathways.parquet", "conformal.parquet", "known_slides.parquet")
OF_FOLDS = ("fold-0/model.json", "fold-0/model.safetensors", "familiar/fold-1.safetensors")


@pytest.mark.parametrize("name", [*FILES, *OF_FOLDS])
def test_a_changed_file_is_named(copy: Path, name: str) -> None:
    """One bit, which Parquet, JSON and safetensors would read as data."""
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StageError) as caught:
        _ = predictor.load(copy, "cpu").fold_models[0]
    assert caught.value.where == str(path)


def test_a_strange_file_is_named(copy: Path) -> None:
    shutil.copyfile(copy / "genes.parquet", copy / "more.parquet")
    with pytest.raises(StageError, match=r"more\.parquet"):
        predictor.load(copy, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"folds": [0, 0]}, {"folds": []}, {"folds": "0"}, {"levels": ["x"]}, {"levels": None},
        {"bags": {"k": 10**9}}, {"bags": None}, {"sample": {"draws": 10**9, "steps": 8}},
        {"dim": -1}, {"alpha": "much"}, {"alpha": float("nan")}, {"seed": -1}, {"seed": 10**30},
        {"cohort": None}, {"run": ["a"]}, {"cohort": "a\u202eb"}, {"caveat": ["x"]}, {"data": "x"},
        {"encoder": {}}, {"encoder_identity": 3}, {"pathway_score": "zz"}, {"tile_mpp": 0},
        {"tiles": {}}, {"tiles": []}, {"features": {}}, {"features": {"encoder": 3}},
        {"bags": {"k": 4, "iterations": "x"}}, {"sample": {"draws": 20, "steps": 3}},
        {"levels": [0.5, float("nan")]}, {"digests": {"../../etc/passwd": "0"}}, {"digests": None},
    ],
)  # fmt: skip
def test_a_strangers_record_is_refused(copy: Path, change: dict[str, object]) -> None:
    about = files.read_json(copy / predictor.ABOUT)
    files.write_json(about | change, copy / predictor.ABOUT)
    with pytest.raises(StageError, match=next(iter(change))):
        predictor.load(copy, "cpu")


def test_a_record_that_is_no_object_is_refused(copy: Path) -> None:
    for text in ("[]", "[" * 200_000, "3", '{"format": 2, "format": 2}', "9" * 5000):
        (copy / predictor.ABOUT).write_text(text)
        with pytest.raises(StageError):
            predictor.load(copy, "cpu")


def test_snakemakes_own_files_are_no_part_of_a_model(copy: Path) -> None:
    (copy / "familiar" / ".snakemake_timestamp").touch()
    assert predictor.load(copy, "cpu").fold_models[0].number == 0
