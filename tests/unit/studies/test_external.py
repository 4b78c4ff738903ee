"""Models of one cohort on another: one model out of all folds, genes and statistics from home."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import evaluated
import external_cohorts
import numpy as np
import polars as pl
import pytest
import zarr
from evaluated import pick
from slide2rna.core import config
from slide2rna.data import patients
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import draw_scores
from slide2rna.report import external_page
from slide2rna.storage import parquet
from slide2rna.studies.external import ensemble, external

SETTINGS = config.defaults("evaluate", bootstrap=60, permutations=20, top=[50, 20])


def run(inputs: external.ExternalInputs, out: Path) -> dict[str, pl.DataFrame]:
    external.evaluate(inputs, "lite0-flow-go-bp", out, SETTINGS, 1, 1)
    return evaluated.tables(out)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> external_cohorts.Pair:
    return external_cohorts.make(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def made(
    pair: external_cohorts.Pair, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    return run(pair.inputs, tmp_path_factory.mktemp("out"))


def opened(pair: external_cohorts.Pair) -> ensemble.Ensemble:
    genes = [f"GENE{i:04d}" for i in range(external_cohorts.GENES)]
    known = set(pl.read_parquet_schema(pair.test.inputs.expression))
    cohort = pair.inputs.cohort(
        pair.inputs.test, [gene for gene in genes if gene in known], pair.inputs.splits
    )
    part = patients.make_part(cohort, cohort.slides)
    return ensemble.load(cohort, pair.inputs.external, genes, part, part)


def expected_points(pair: external_cohorts.Pair) -> np.ndarray:
    """Mean over a patient's slides of the mean over fold models, by plain loops."""
    slides = pl.read_parquet(pair.test.inputs.slides)
    rows = []
    for sample in slides["sample_id"].unique().sort():
        own = slides.filter(pl.col("sample_id") == sample)["slide_id"]
        rows.append(np.mean([np.mean(pair.points[slide], axis=0) for slide in own], axis=0))
    return np.array(rows)


def test_points_are_means_over_fold_models_and_slides(pair: external_cohorts.Pair) -> None:
    found = opened(pair)
    np.testing.assert_allclose(found.read("point", found.test), expected_points(pair), rtol=1e-5)


def test_draws_are_a_mixture_in_equal_shares(pair: external_cohorts.Pair) -> None:
    """Every fold model and slide gives all of its draws, as they are."""
    found = opened(pair)
    stores = [zarr.open_group(path, mode="r") for path in pair.inputs.external]
    row_of = [{slide: i for i, slide in enumerate(store.attrs["slide_ids"])} for store in stores]
    slides = pl.read_parquet(pair.test.inputs.slides)
    seen = 0
    for row, raw in found.test_draws():
        sample = found.test.samples[row]
        own = slides.filter(pl.col("sample_id") == sample)["slide_id"].sort().to_list()
        wanted = [
            store["draws"][rows[slide]]
            for slide in own
            for store, rows in zip(stores, row_of, strict=True)
        ]
        np.testing.assert_array_equal(raw, np.stack(wanted))
        share = found.test.pool[row][found.test.pool[row] > 0]
        np.testing.assert_allclose(share, 1 / (external_cohorts.FOLDS * len(own)), rtol=1e-6)
        seen += len(own)
    assert seen == slides.height > len(found.test.samples)
    assert found.pool_size == external_cohorts.FOLDS * external_cohorts.DRAWS
    moments = draw_scores.draw_moments(found, 1)
    pooled = {row: raw.reshape(-1, raw.shape[2]) for row, raw in found.test_draws()}
    for row, values in pooled.items():
        np.testing.assert_allclose(moments.mean[row], values.astype("f4").mean(axis=0), atol=2e-3)


def test_intervals_are_those_of_the_pool_and_wider_than_of_the_mean_draw(
    pair: external_cohorts.Pair,
) -> None:
    """Averaging draws over fold models would shrink their spread by the root of their number."""
    found = opened(pair)
    for _, raw in found.test_draws():
        pool = raw.reshape(-1, raw.shape[2]).astype("f4")
        averaged = raw.astype("f4").mean(axis=0)
        assert pool.std(axis=0).mean() > 1.3 * averaged.std(axis=0).mean()


def test_summary_equals_plain_loops(
    pair: external_cohorts.Pair, made: dict[str, pl.DataFrame]
) -> None:
    truth = pl.read_parquet(pair.test.inputs.expression).sort("sample_id").drop("sample_id")
    points, y = expected_points(pair), truth.to_numpy()
    genes = range(1, external_cohorts.GENES)  # the first one never varies
    r = np.array([np.corrcoef(points[:, g], y[:, g])[0, 1] for g in genes])
    summary = made["summary"]
    row = pick(summary, model="flow", gene_set="all", metric="pcc")
    assert row["value"] == pytest.approx(r.mean(), abs=1e-4)
    assert row["low"] < row["value"] < row["high"]
    assert row["n_patients"] == 40
    assert pick(summary, model="constant", gene_set="all", metric="rmse_ratio")["value"] == 1
    for null in ("constant", "ridge", "color-ridge", "permuted"):
        assert pick(summary, model="flow", gene_set="all", metric=f"pcc_minus:{null}")["low"] > 0
    assert "sites" in pick(summary, model="site-mean", metric="absent")["note"]
    by_gene = made["genes"].sort("gene")["r"].to_numpy()[1:]
    np.testing.assert_allclose(by_gene, r, atol=1e-5)
    assert set(summary["protocol"]) == {"external"}
    assert summary["caveat"].str.contains("coverage across sites is not claimed").all()


def test_genes_are_ranked_by_all_val_patients_of_the_training_cohort(
    pair: external_cohorts.Pair, made: dict[str, pl.DataFrame]
) -> None:
    predicted, truth = [], []
    table = pl.read_parquet(pair.train.inputs.expression)
    profile = dict(zip(table["sample_id"], table.drop("sample_id").to_numpy(), strict=True))
    for path in pair.train.inputs.draws:
        store = zarr.open_group(path, mode="r")
        of_patient: dict[str, list[np.ndarray]] = {}
        for slide, part, point in zip(
            store.attrs["slide_ids"], store.attrs["parts"], store["point"][:], strict=True
        ):
            if part == "val":
                of_patient.setdefault(slide.rsplit("-", 1)[0], []).append(point)
        predicted += [np.mean(of_patient[name], axis=0) for name in sorted(of_patient)]
        truth += [profile[name] for name in sorted(of_patient)]
    r, _ = gene_metrics.pcc(np.array(predicted), np.array(truth))
    best = np.argsort(-np.nan_to_num(r, nan=-1))[:20]
    chosen = made["genes"].filter(pl.col("in_T20").list.len() > 0)["gene"].to_list()
    assert sorted(chosen) == sorted(f"GENE{i:04d}" for i in best)


def test_the_other_cohorts_expression_changes_nothing_but_the_score(
    tmp_path: Path, made: dict[str, pl.DataFrame]
) -> None:
    pair = external_cohorts.make(tmp_path)
    before = opened(pair)
    point = before.read("point", before.test)
    path = pair.test.inputs.expression
    table = pl.read_parquet(path)
    order = np.random.default_rng(0).permutation(table.height)
    shuffled = table.drop("sample_id")[order].select(pl.all() * 2 + 1)
    parquet.write(pl.concat([table.select("sample_id"), shuffled], how="horizontal"), path)
    after = run(pair.inputs, tmp_path / "out")
    sets = [column for column in made["genes"].columns if column.startswith("in_T")]
    columns = ["gene", *sets, "constant_in_train", "flat_prediction"]
    assert after["genes"].select(columns).equals(made["genes"].select(columns))
    again = opened(pair)
    np.testing.assert_array_equal(again.read("point", again.test), point)
    keys = {"model": "flow", "gene_set": "all", "metric": "pcc"}
    assert pick(after["summary"], **keys)["value"] < 0.2 < pick(made["summary"], **keys)["value"]
    notes = [
        table.filter(pl.col("metric") == "pcc").select("model", "gene_set", "note")
        for table in (after["summary"], made["summary"])
    ]
    assert notes[0].equals(notes[1])


def test_the_nulls_predictions_come_from_the_training_cohort(
    tmp_path: Path, made: dict[str, pl.DataFrame]
) -> None:
    """The error of the constant is that of the mean over the folds of the train means."""
    pair = external_cohorts.make(tmp_path)
    splits = pl.read_csv(pair.train.inputs.splits, separator="\t")
    table = pl.read_parquet(pair.train.inputs.expression)
    means = []
    for fold in range(external_cohorts.FOLDS):
        units = splits.filter((pl.col("fold") == fold) & (pl.col("part") == "train"))["unit"]
        own = table.filter(pl.col("sample_id").is_in(units.implode())).drop("sample_id")
        means.append(own.to_numpy().mean(axis=0))
    truth = pl.read_parquet(pair.test.inputs.expression).drop("sample_id").to_numpy()
    error = np.sqrt(((truth - np.mean(means, axis=0)) ** 2).mean(axis=0))[1:]
    row = pick(made["summary"], model="constant", gene_set="all", metric="rmse")
    assert row["value"] == pytest.approx(error.mean(), rel=1e-4)


def test_genes_that_the_other_cohort_lacks_are_left_out_and_counted(
    tmp_path: Path, made: dict[str, pl.DataFrame]
) -> None:
    pair = external_cohorts.make(tmp_path, missing=30)
    found = run(pair.inputs, tmp_path / "out")
    row = pick(found["summary"], metric="genes_shared")
    assert (row["value"], row["n_genes"]) == (90, 120)
    assert found["genes"].height == 90
    both = found["genes"].join(made["genes"], on="gene", suffix="_whole")
    np.testing.assert_allclose(both["r"].to_numpy()[1:], both["r_whole"].to_numpy()[1:], atol=1e-5)
    np.testing.assert_allclose(both["crps"], both["crps_whole"], atol=1e-5)


def test_files_in_another_order_give_the_same_tables(
    pair: external_cohorts.Pair, made: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    turned = replace(
        pair.inputs, external=pair.inputs.external[::-1], draws=pair.inputs.draws[::-1]
    )
    for name, table in run(turned, tmp_path / "out").items():
        assert table.equals(made[name]), name


def test_models_of_points_alone(tmp_path: Path) -> None:
    pair = external_cohorts.make(tmp_path, draws=0, color=False)
    facts = external.evaluate(pair.inputs, "lite0-abmil-go-bp", tmp_path / "o", SETTINGS, 1, 1)
    assert facts["draws"] == 0
    summary = pl.read_parquet(tmp_path / "o/summary.parquet")
    assert pick(summary, model="flow", gene_set="T20", metric="pcc")["value"] > 0.4
    assert summary.filter((pl.col("model") == "flow") & (pl.col("metric") == "crps")).is_empty()
    assert pl.read_parquet(tmp_path / "o/calibration.parquet").is_empty()
    assert "colour" in pick(summary, model="color-ridge", metric="absent")["note"]
    page = external_page.write(facts, tmp_path / "o").read_text()
    assert 'id="calibration"' not in page


def test_the_page_says_what_was_scored(
    pair: external_cohorts.Pair, made: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    facts = external.evaluate(pair.inputs, "lite0-flow-go-bp", tmp_path, SETTINGS, 1, 1)
    page = external_page.write(facts, tmp_path).read_text()
    for text in (
        "Models of synthetic on synthetic-Q",
        "<b>120 of the 120</b>",
        "mean over the 3 fold models",
        'class="good"',
    ):
        assert text in page
    value = pick(made["summary"], model="flow", gene_set="all", metric="pcc")["value"]
    assert f"<b>{value:.3f}</b>" in page
    # Pictures are text, too, in which any three letters may follow each other.
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "nan" not in text.lower().split("<figure>")[0]
    assert "patient names are in both" not in page
    assert (tmp_path / "figures/models.svg").is_file()


def test_every_unit_is_test_in_every_fold(pair: external_cohorts.Pair) -> None:
    table = pl.read_csv(pair.inputs.splits, separator="\t")
    assert table.height == 40 * external_cohorts.FOLDS
    assert set(table["part"]) == {"test"}
    assert table.group_by("fold").agg(pl.col("unit").n_unique())["unit"].to_list() == [40] * 3
