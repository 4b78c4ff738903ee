"""Predictions of a slide against the stages' own, and against formulas written out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import packaged
import polars as pl
import pytest
import torch
import zarr
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, SlideError
from slide2rna.data import fold_rows
from slide2rna.features import clusters, feature_file
from slide2rna.package import predictor
from slide2rna.package.predictor import Predictor
from slide2rna.predict import encode_slide, predict
from slide2rna.sampling import draw, fold_draws
from slide2rna.sampling.draw_summary import QUANTILES
from slide2rna.storage import parquet

torch.set_num_threads(1)
CPU = torch.device("cpu")
EACH = packaged.SETTINGS["sample"]["draws"]


@pytest.fixture(scope="module")
def model(packed: packaged.Packaged) -> Predictor:
    return predictor.load(packed.model, "cpu")


@pytest.fixture(scope="module")
def slide(model: Predictor, tmp_path_factory: pytest.TempPathFactory) -> encode_slide.EncodedSlide:
    return encode_slide.encode_slide(
        packaged.features_of(tmp_path_factory.mktemp("h5") / "one.h5"), model
    )


@pytest.fixture(scope="module")
def found(model: Predictor, slide: encode_slide.EncodedSlide) -> predict.Prediction:
    return predict.predict(model, slide)


@pytest.fixture(scope="module")
def of_stage(
    model: Predictor, slide: encode_slide.EncodedSlide, tmp_path_factory: pytest.TempPathFactory
) -> list[zarr.Group]:
    """What the stage sample leaves of the same slide, by fold."""
    out = tmp_path_factory.mktemp("draws")
    means, sizes = encode_slide.bag(slide.features.features, model, slide.name)
    rows = fold_rows.FoldRows([slide.name], [slide.name], ["test"], [slide.name], np.array([0]))
    stores = []
    for member in model.fold_models:
        fold_draws.sample_fold(
            *(member.model, member.meta, (means[None], sizes[None]), rows),
            *(model.about["sample"], 1, member.number, "flow"),
            *(out / f"{member.number}.zarr", out / f"{member.number}.parquet", CPU),
        )
        stores.append(zarr.open_group(out / f"{member.number}.zarr", mode="r"))
    return stores


def test_a_bag_is_the_stages_bag(model: Predictor, tmp_path: Path) -> None:
    path = packaged.features_of(tmp_path / "S1.h5", tiles=30)
    table = {"slide_id": ["S1"], "status": ["ok"], "reason": [None], "dim": [packaged.DIM]}
    parquet.write(pl.DataFrame(table), tmp_path / "shard-0.parquet")
    settings = model.about["bags"]
    made = clusters.cluster_slides(
        tmp_path,
        [tmp_path / "shard-0.parquet"],
        tmp_path / "b",
        settings,
        config.defaults("features"),
        0,
        1,
        1,
    )
    means, sizes = encode_slide.bag(feature_file.read(path).features, model, "S1")
    assert np.array_equal(means, made.means[0])
    assert np.array_equal(sizes, made.sizes[0])
    means, sizes = encode_slide.bag(feature_file.read(path).features[:2], model, "S1")
    assert sizes.tolist() == [1, 1, 0, 0]
    assert not means[2:].any()


def test_points_are_the_mean_of_the_fold_models(
    found: predict.Prediction, of_stage: list[zarr.Group]
) -> None:
    expected = np.mean([store["point"][0] for store in of_stage], axis=0)
    np.testing.assert_allclose(found.genes["point"].to_numpy(), expected, rtol=1e-5)
    folds = [store["point"][0] for store in of_stage]
    assert np.abs(folds[0] - folds[1]).max() > 0.1


def test_draws_are_pooled_and_never_averaged(
    found: predict.Prediction, of_stage: list[zarr.Group]
) -> None:
    """All draws of all folds together: their moments and order statistics at p (n + 1)."""
    draws = np.concatenate([np.asarray(store["draws"][0], float) for store in of_stage])
    assert len(draws) == packaged.FOLDS * EACH == found.facts["draws"]
    genes = found.genes
    np.testing.assert_allclose(genes["mean"].to_numpy(), draws.mean(axis=0), atol=4e-3)
    np.testing.assert_allclose(genes["sd"].to_numpy(), draws.std(axis=0, ddof=1), atol=4e-3)
    ordered = np.sort(draws, axis=0)
    for name in ("q05", "q50", "q95"):
        rank = QUANTILES[name] * (len(draws) + 1)
        below = int(rank) - 1
        share = rank - int(rank)
        expected = ordered[below] * (1 - share) + ordered[below + 1] * share
        np.testing.assert_allclose(genes[name].to_numpy(), expected, atol=8e-3)
    averaged = np.mean([store["sd"][0] for store in of_stage], axis=0)
    assert (genes["sd"].to_numpy()[1:] > averaged[1:]).mean() > 0.8


def test_interval_ends_are_averaged_over_folds(
    packed: packaged.Packaged, found: predict.Prediction, of_stage: list[zarr.Group]
) -> None:
    factors = pl.read_parquet(packed.model / "conformal.parquet")
    for level in (0.5, 0.8):
        ends = []
        for fold, store in enumerate(of_stage):
            own = factors.filter(fold=fold, level=level)
            sd = np.maximum(store["sd"][0], own["sd_floor"].to_numpy())
            half = own["factor"].to_numpy() * sd
            ends.append([np.maximum(store["point"][0] + sign * half, 0) for sign in (-1, 1)])
        expected = np.mean(ends, axis=0)
        for name, end in zip(("low", "high"), expected, strict=True):
            column = found.genes[f"{name}{100 * level:g}"].to_numpy()
            np.testing.assert_allclose(column, end, rtol=1e-4, atol=1e-4)
    assert found.genes["low90"].is_null().all()
    assert any("90 %" in text for text in found.warnings)


def test_pathway_scores_are_of_the_draws(
    model: Predictor, found: predict.Prediction, of_stage: list[zarr.Group]
) -> None:
    draws = np.concatenate([np.asarray(store["draws"][0], float) for store in of_stage])
    mean, sd = (model.gene_table[name].to_numpy() for name in ("mean", "sd"))
    z = np.where(sd > 0, (draws - mean) / np.where(sd > 0, sd, 1), 0)
    place = {gene: index for index, gene in enumerate(model.genes)}
    for row, known in zip(
        found.pathways.iter_rows(named=True),
        model.pathway_table.iter_rows(named=True),
        strict=True,
    ):
        score = z[:, [place[gene] for gene in known["genes"]]].mean(axis=1)
        assert row["mean"] == pytest.approx(score.mean(), abs=3e-3)
        assert row["sd"] == pytest.approx(score.std(ddof=1), abs=3e-3)
        assert row["q05"] < row["q50"] < row["q95"]
        assert row["z"] == pytest.approx(
            (row["mean"] - known["train_mean"]) / known["train_sd"], rel=1e-6
        )


def test_a_genes_row_has_its_train_and_test_statistics(
    model: Predictor, found: predict.Prediction
) -> None:
    assert found.genes.columns == [
        *("gene", "mean", "sd", "q05", "q50", "q95", "point"),
        *("low50", "high50", "low80", "high80", "low90", "high90"),
        *("r", "r_low", "r_high", "reliability", "train_mean", "train_sd"),
    ]
    assert found.genes["gene"].to_list() == model.genes
    assert found.genes["reliability"].equals(model.gene_table["reliability"])
    assert found.pathways.columns == [
        *("pathway", "name", "n_genes", "mean", "sd", "q05", "q50", "q95"),
        *("train_mean", "train_sd", "z", "r", "r_low", "r_high", "reliability"),
    ]


def test_other_numbers_of_draws_are_said(
    model: Predictor, slide: encode_slide.EncodedSlide
) -> None:
    few = predict.predict(model, slide, draws=5, seed=7)
    assert (few.facts["draws_per_fold"], few.facts["seed"]) == (5, 7)
    assert any("5 draws per fold model" in text for text in few.warnings)
    again = predict.predict(model, slide, draws=5, seed=7)
    assert few.genes.equals(again.genes)
    assert not few.genes.equals(predict.predict(model, slide, draws=5, seed=8).genes)


def test_chunks_change_nothing(
    model: Predictor,
    slide: encode_slide.EncodedSlide,
    found: predict.Prediction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draw, "rows_per_chunk", lambda *_: 7)
    cut = predict.predict(model, slide)
    for name in ("mean", "sd", "q05", "point", "low80"):
        np.testing.assert_allclose(
            cut.genes[name].to_numpy(), found.genes[name].to_numpy(), rtol=1e-4, atol=1e-4
        )


def test_a_far_slide_is_called_strange(model: Predictor, tmp_path: Path) -> None:
    away = packaged.features_of(tmp_path / "away.h5", away=30)
    far = predict.predict(model, encode_slide.encode_slide(away, model))
    assert far.shift["shifted"] is True
    assert far.warnings[0] == far.shift["words"]
    near = predict.predict(
        model, encode_slide.encode_slide(packaged.features_of(tmp_path / "n.h5"), model)
    )
    assert near.shift["shifted"] is False
    assert near.shift["judged_by"] == "train"


def test_networks_without_draws_give_points(packed: packaged.Packaged, tmp_path: Path) -> None:
    made = packaged.make(tmp_path / "cohort")
    packaged.write_regressors(made)
    model = predictor.load(made.model, "cpu")
    found = predict.predict(
        model, encode_slide.encode_slide(packaged.features_of(tmp_path / "a.h5"), model)
    )
    assert found.genes["mean"].equals(found.genes["point"].alias("mean"))
    for name in ("sd", "q05", "q95", "low50", "high80"):
        assert found.genes[name].is_null().all()
    assert found.facts["draws"] == 0
    assert found.pathways["sd"].is_null().all()
    z = model.method.score(found.genes["point"].to_numpy())
    known = model.method.scorable
    np.testing.assert_allclose(found.pathways["mean"].to_numpy()[known], z[known], rtol=1e-5)
    constant = replace(model, gene_table=model.gene_table.with_columns(sd=pl.lit(0.0)))
    unscored = predict.predict(constant, encode_slide.encode_slide(tmp_path / "a.h5", constant))
    assert not constant.method.scorable.any()
    assert unscored.pathways["mean"].is_null().all()


def test_a_student_is_only_asked_for_its_one_step(
    model: Predictor, slide: encode_slide.EncodedSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = model.fold_models[0]
    student = replace(own, meta=own.meta | {"one_step": True})
    asked = replace(model, fold_models=[student, student])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="student"):
        predict.predict(asked, slide, draws=2)
    once = model.about["sample"] | {"steps": 1}
    taught = replace(asked, about=model.about | {"sample": once})
    assert predict.predict(taught, slide, draws=2).facts["draws"] == 4


def test_fold_models_alone_say_what_they_do_not_know(
    packed: packaged.Packaged, found: predict.Prediction, tmp_path: Path
) -> None:
    for name in ("fold-0", "fold-1"):
        shutil.copytree(packed.model / name, tmp_path / name)
    bare = predictor.load(tmp_path, "cpu")
    bare.about["sample"] = packaged.SETTINGS["sample"]
    own = predict.predict(
        bare, encode_slide.encode_slide(packaged.features_of(tmp_path / "one.h5"), bare)
    )
    np.testing.assert_allclose(
        own.genes["mean"].to_numpy(), found.genes["mean"].to_numpy(), rtol=1e-5
    )
    assert set(own.genes["reliability"]) == {"unknown"}
    assert "low50" not in own.genes.columns
    assert own.shift["shifted"] is None
    assert own.warnings
    assert own.pathways["z"].is_null().all()


def test_a_prediction_that_is_not_finite_is_the_slides_failure(
    model: Predictor, slide: encode_slide.EncodedSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = torch.full((1, EACH, packaged.GENES), torch.nan)
    monkeypatch.setattr(draw, "draw", lambda *_: broken)
    with pytest.raises(SlideError, match=r"one: .*fold 0.*finite"):
        predict.predict(model, slide)
