"""The packaged model's tables, settings and card against the stages that they come from."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import packaged
import polars as pl
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from slide2rna.core import config, files
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.data import fold_rows
from slide2rna.features import feature_file, registry
from slide2rna.features.torchvision_fix import ensure_torchvision
from slide2rna.package import model_card, package, package_tables, predictor

REPO = Path(__file__).resolve().parents[3]


def train_rows(packed: packaged.Packaged, fold: int) -> tuple[list[str], np.ndarray]:
    """Genes, and measured profiles of a fold's train samples."""
    splits = pl.read_csv(packed.made.inputs.splits, separator="\t")
    names = splits.filter(fold=fold, part="train")["unit"].to_list()
    path = packed.made.inputs.expression
    return fold_rows.gene_names(path), fold_rows.read_expression_matrix(path, names).astype(float)


def test_train_statistics_are_the_folds_mean(packed: packaged.Packaged) -> None:
    table = pl.read_parquet(packed.model / "genes.parquet")
    parts = [train_rows(packed, fold) for fold in range(packaged.FOLDS)]
    assert table["gene"].to_list() == parts[0][0]
    for name, expected in (
        ("mean", np.mean([rows.mean(axis=0) for _, rows in parts], axis=0)),
        ("sd", np.mean([rows.std(axis=0, ddof=1) for _, rows in parts], axis=0)),
    ):
        np.testing.assert_allclose(table[name].to_numpy(), expected, rtol=1e-5, atol=1e-6)
    evaluated = pl.read_parquet(
        packed.source.folder / "evaluation" / packed.source.run / "genes.parquet"
    )
    for name in ("r", "r_low", "r_high", "fdr", "covered90"):
        assert table[name].equals(evaluated[name])


def test_a_measured_score_of_the_train_part_is_placed(packed: packaged.Packaged) -> None:
    """Computed here gene by gene: mean z over a set, by the folds' mean statistics."""
    genes = pl.read_parquet(packed.model / "genes.parquet")
    sets = pl.read_parquet(packed.model / "pathways.parquet")
    place = {gene: index for index, gene in enumerate(genes["gene"])}
    mean, sd = genes["mean"].to_numpy(), genes["sd"].to_numpy()
    for row in sets.iter_rows(named=True):
        members = [place[gene] for gene in row["genes"]]
        moments = []
        for fold in range(packaged.FOLDS):
            _, values = train_rows(packed, fold)
            z = np.zeros(len(values))
            for gene in members:
                if sd[gene] > 0:
                    z += (values[:, gene] - mean[gene]) / sd[gene] / len(members)
            moments.append([z.mean(), z.std(ddof=1)])
        expected = np.mean(moments, axis=0)
        assert [row["train_mean"], row["train_sd"]] == pytest.approx(expected, abs=1e-5)
        assert row["n_genes"] == len(members)


def test_factors_are_those_of_whole_folds(packed: packaged.Packaged) -> None:
    kept = pl.read_parquet(packed.model / "conformal.parquet")
    made = packed.source.table("conformal_factors").filter(pl.col("site").is_null())
    assert kept.equals(made.select(kept.columns))
    assert set(kept["fold"]) == {0, 1}


def test_no_path_of_this_machine_is_inside(packed: packaged.Packaged) -> None:
    texts = [
        path.read_text() for path in packed.model.glob("*.*") if path.suffix in (".json", ".md")
    ]
    assert len(texts) == 2
    assert not any(str(packed.source.folder) in text or "/tmp/" in text for text in texts)
    about = json.loads(texts[0] if texts[0].startswith("{") else texts[1])
    assert {"genes.parquet", "fold-0/model.json"} <= about["digests"].keys()
    for name, digest in about["digests"].items():
        assert digest == files.sha256sum(packed.model / name)


def test_the_same_run_gives_the_same_bytes(packed: packaged.Packaged, tmp_path: Path) -> None:
    copy = tmp_path / "cohort"
    shutil.copytree(packed.source.folder, copy)
    features = {"features": config.defaults("features", encoder="files")}
    source = package_tables.FinishedRun(
        copy, *(getattr(packed.source, name) for name in ("run", "encoder", "sets", "folds"))
    )
    package.package_run(source, packaged.SETTINGS | features, 1)
    for path in sorted(packed.model.rglob("*.*")):
        again = source.model / path.relative_to(packed.model)
        assert files.sha256sum(again) == files.sha256sum(path), path.name


def test_training_references_are_those_of_the_shift_stage(packed: packaged.Packaged) -> None:
    for fold in range(packaged.FOLDS):
        kept = load_file(packed.model / "familiar" / f"fold-{fold}.safetensors")
        made = load_file(packed.source.shift(fold))
        assert all(np.array_equal(kept[name], made[name]) for name in made)


def test_identity_is_the_encoders_own(tmp_path: Path) -> None:
    ensure_torchvision()
    import timm

    for name in ("lite0", "color"):
        settings = config.defaults("features", encoder=name)
        assert package.encoder_identity(settings, tmp_path) == registry.load(settings).identity
    weights = tmp_path / "weights.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), weights)
    settings = config.defaults("features", encoder="resnet10t", weights=str(weights))
    assert package.encoder_identity(settings, tmp_path) == registry.load(settings).identity
    gone = settings | {"weights": str(tmp_path / "gone.pth")}
    assert package.encoder_identity(gone, tmp_path) is None
    # Of weights from the hub the record of their first load counts.
    files.write_json({"identity": "resnet10t abc", "encoders": {}}, tmp_path / "weights.json")
    assert package.encoder_identity(settings | {"weights": None}, tmp_path) == "resnet10t abc"
    provided = config.defaults("features", encoder="files")
    assert package.encoder_identity(provided, tmp_path / "files") is None


@pytest.mark.parametrize(
    "lost", ["evaluation/{run}/genes.parquet", "evaluation/{run}/samples.parquet"]
)
def test_a_missing_table_is_named(packed: packaged.Packaged, tmp_path: Path, lost: str) -> None:
    copy = tmp_path / "cohort"
    shutil.copytree(packed.source.folder, copy)
    (copy / lost.format(run=packed.source.run)).unlink()
    (copy / "models" / packed.source.run / predictor.ABOUT).unlink()
    source = package_tables.FinishedRun(
        copy, packed.source.run, packed.source.encoder, packed.source.sets, [0, 1]
    )
    with pytest.raises(StageError, match="stage evaluate"):
        package.package_run(source, packaged.SETTINGS, 1)
    assert not (source.model / predictor.ABOUT).exists()


def test_the_model_card_gives_scores_and_limits(packed: packaged.Packaged) -> None:
    text = (packed.model / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "slide2rna"
    for null in ("site-mean", "color-ridge", "permuted", "constant"):
        assert f"| {null}:" in body
    summary = packed.source.table("summary").filter(
        protocol="clean", model="flow", gene_set="all", metric="pcc"
    )
    row = summary.row(0, named=True)
    assert f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in body
    assert "**Caveat:** drawn." in body
    assert "| 90 % |" in body
    assert "refused" in body
    assert "medical device" in body
    assert ".h5 files" in body
    assert "um/px" not in body
    assert "12 of 60" in body
    assert "None" not in body
    assert "nan" not in body
    assert "slide2rna predict" in body


def test_encoder_and_resolution_of_provided_features_are_kept(
    packed: packaged.Packaged, tmp_path: Path
) -> None:
    """Encoder and resolution of the training's files, where they all say the same."""
    about = files.read_json(packed.model / predictor.ABOUT)
    assert (about["tiles"], about["made_by"], about["tile_mpp"]) == (None, None, None)
    slides = pl.read_parquet(packed.source.folder / "slides.parquet")
    several = slides.group_by("patient_id").len().filter(pl.col("len") > 1).height
    assert about["data"]["n_patients_several_slides"] == several > 0
    summary = packed.source.table("summary")
    clean = summary.filter(protocol="clean", model=about["model"], gene_set="all", metric="pcc")
    assert about["pcc"]["value"] == clean["value"].item()
    card = (packed.model / "README.md").read_text()
    assert f"{about['pcc']['value']:.3f}" in card
    copy = tmp_path / "cohort"
    shutil.copytree(packed.source.folder, copy)
    source = replace(packed.source, folder=copy)
    folder = copy / "features" / source.encoder
    for name in "ab":
        path = packaged.features_of(folder / f"{name}.h5")
        feature_file.write(path, feature_file.read(path), {"made_by": "uni", "mpp": 1.14})
    features = {"features": config.defaults("features", encoder="files")}
    package.package_run(source, packaged.SETTINGS | features, 1)
    about = files.read_json(source.model / predictor.ABOUT)
    assert (about["tiles"], about["made_by"], about["tile_mpp"]) == (None, "uni", 1.14)
    card = (source.model / "README.md").read_text()
    assert re.search("`uni`.* 1.14 um/px", card)
    path = packaged.features_of(folder / "b.h5")
    feature_file.write(path, feature_file.read(path), {"mpp": 0.5})
    assert package.read_feature_source(source) == {"made_by": None, "mpp": None}


def test_licences_of_encoders() -> None:
    def of(encoder: str, made_by: str | None = None) -> model_card.EncoderLicence:
        return model_card.encoder_licence({"encoder": encoder, "made_by": made_by})

    assert of("uni")["licence"] == "CC-BY-NC-ND-4.0"
    assert of("lite0")["licence"] == "Apache-2.0"
    assert of("files", "uni")["licence"] == of("files", "titan")["licence"] == "CC-BY-NC-ND-4.0"
    assert of("files", "lab's own")["licence"] == of("files")["licence"] == "unknown"
    joint = {"encoder": "uni2-virchow", "features": {"encoder": ["uni2", "virchow"]}}
    both = model_card.encoder_licence(joint)
    assert both["licence"] == "CC-BY-NC-ND-4.0, Apache-2.0"
    assert both["url"] == ", ".join(
        f"https://huggingface.co/{name}" for name in ("MahmoodLab/UNI2-h", "paige-ai/Virchow")
    )
    other = of("vit_small_patch16_224")
    assert other["licence"] == "unknown"
    assert "vit_small_patch16_224" in str(other["url"])


def test_settings_that_are_not_json_are_refused(tmp_path: Path) -> None:
    main = runpy.run_path(str(REPO / "scripts" / "package.py"))["main"]
    arguments = ["--cohort-dir", str(tmp_path), "--run", "r", "--features", "f", "--pathways", "p"]
    with pytest.raises(ConfigError, match="JSON object"):
        main([*arguments, "--folds", "1", "--settings", "{"])
