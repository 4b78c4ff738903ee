"""Several models on the same folds: who is scored, compared with whom, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import zarr
from evaluated import SETTINGS, pick
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.evaluation import evaluate
from slide2rna.evaluation.scoring.labels import clean_rows
from slide2rna.storage import parquet
from synthetic_models import add_model

NETWORKS = ("flow", "he2rna", "abmil", "flow.seed-2", "flow.seed-3")


def run(
    made: synthetic_cohort.Synthetic, out: Path, others: list[Path], **more: list[Path]
) -> dict[str, pl.DataFrame]:
    inputs = replace(made.inputs, others=others)
    settings = config.defaults("evaluate", **SETTINGS)
    evaluate.evaluate(inputs, synthetic_cohort.RUN, out, settings, 1, 2, **more)
    return evaluated.tables(out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), patients=75, genes=120)


@pytest.fixture(scope="module")
def tables(
    made: synthetic_cohort.Synthetic, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    files = [
        *add_model(made, "he2rna", 1.5),
        *add_model(made, "abmil", 1.5, reverse=True),
        *add_model(made, "flow.seed-2", 0.1, draws=True, seed=5),
        *add_model(made, "flow.seed-3", 0.2, draws=True, seed=6),
    ]
    return run(made, tmp_path_factory.mktemp("evaluation"), files[::-1])


def test_every_model_is_scored_by_both_protocols(tables: dict[str, pl.DataFrame]) -> None:
    summary = tables["summary"]
    for protocol in ("clean", "published"):
        rows = summary.filter((pl.col("protocol") == protocol) & (pl.col("metric") == "pcc"))
        assert set(NETWORKS) < set(rows["model"])
    for metric in ("pcc_within_site", "pcc_floor", "genes_fdr05", "rmse_ratio"):
        assert set(NETWORKS) < set(clean_rows(summary).filter(pl.col("metric") == metric)["model"])
    for metric in ("crps", "pcc_one_draw", "pcc_draw_mean"):
        with_draws = set(clean_rows(summary).filter(pl.col("metric") == metric)["model"]) - {
            "constant"
        }
        # The draws of the low-rank ridge are its point plus residuals: scored by CRPS alone.
        with_draws -= {"ridge-lowrank"} if metric == "crps" else set()
        assert with_draws == {"flow", "flow.seed-2", "flow.seed-3"}


def test_the_order_of_slides_in_a_file_does_not_matter(tables: dict[str, pl.DataFrame]) -> None:
    # he2rna and abmil are the same predictions, written in opposite orders.
    summary = clean_rows(tables["summary"]).filter(~pl.col("metric").str.contains(":"))
    columns = ["gene_set", "metric", "value", "low", "high"]
    one, other = (
        summary.filter(pl.col("model") == name).select(columns).sort("gene_set", "metric")
        for name in ("he2rna", "abmil")
    )
    assert one.height > 20
    assert one.equals(other)
    assert (
        pick(clean_rows(tables["summary"]), model="he2rna", metric="pcc_minus:abmil")["value"] == 0
    )


def test_pairs_are_paired_and_one_sided(tables: dict[str, pl.DataFrame]) -> None:
    summary = clean_rows(tables["summary"])
    row = pick(summary, model="flow", metric="pcc_minus:he2rna", gene_set="all")
    assert row["low"] > 0
    back = pick(summary, model="he2rna", metric="pcc_minus:flow", gene_set="all")
    for key, mirrored in (("value", "value"), ("low", "high"), ("high", "low")):
        assert row[key] == pytest.approx(-back[mirrored])
    r = {
        name: pick(summary, model=name, metric="pcc", gene_set="all")["value"]
        for name in ("flow", "he2rna")
    }
    assert row["value"] == pytest.approx(r["flow"] - r["he2rna"])
    sets = summary.filter(pl.col("metric") == "pcc_minus:ridge")
    assert sets.filter(pl.col("model") == "flow").height == 4
    assert sets.filter(pl.col("model") == "he2rna")["gene_set"].to_list() == ["all"]
    assert pick(summary, model="flow.seed-2", metric="crps_minus:flow")["value"] > 0


def test_genes_better_counts_the_genes_of_the_catalogue(tables: dict[str, pl.DataFrame]) -> None:
    summary, genes = clean_rows(tables["summary"]), tables["genes"]
    for null in ("site-mean", "color-ridge", "permuted", "ridge"):
        row = pick(summary, model="flow", metric=f"genes_better:{null}")
        assert row["value"] == (genes[f"fdr_minus_{null}"] < 0.05).sum()
        assert row["n_genes"] == 119
        assert "Williams" in row["note"]
    count = pick(summary, model="flow", metric="genes_better:permuted")["value"]
    assert 30 < count <= 119
    assert pick(summary, model="he2rna", metric="genes_better:permuted")["value"] < count
    compared = set(summary.filter(pl.col("metric").str.starts_with("genes_better"))["metric"])
    assert "genes_better:constant" not in compared
    row = pick(summary, model="flow", metric="genes_fdr05")
    assert row["value"] == (genes["fdr"] < 0.05).sum()


def test_seeds_are_summed_up(tables: dict[str, pl.DataFrame]) -> None:
    summary = clean_rows(tables["summary"])
    r = [
        pick(summary, model=name, metric="pcc", gene_set="T20")["value"]
        for name in ("flow", "flow.seed-2", "flow.seed-3")
    ]
    row = pick(summary, metric="pcc_seeds", gene_set="T20")
    assert row["model"] == "flow"
    assert [row["value"], row["low"], row["high"]] == pytest.approx([np.mean(r), min(r), max(r)])
    assert "3 seeds" in row["note"]


def test_genes_and_pathways_have_columns_of_all_models(tables: dict[str, pl.DataFrame]) -> None:
    genes, pathways = tables["genes"], tables["pathways"]
    for name in (*NETWORKS[1:], "ridge", "site-mean"):
        assert genes[f"r_{name}"].null_count() == 1
        assert pathways[f"r_{name}"].null_count() == 0
        assert (pathways[f"rmse_{name}"] > 0).all()
    last = genes.tail(1).row(0, named=True)
    assert last["site_share"] < 0.3
    assert last["r_within_site"] == pytest.approx(last["r"], abs=0.2)
    known = pathways.filter(pl.col("r").is_not_null())
    assert (known["r_minus_ridge_low"] <= known["r_minus_ridge"]).all()
    expected = known["r"] - known["r_ridge"]
    np.testing.assert_allclose(known["r_minus_ridge"], expected, atol=1e-6)
    assert (pathways["crps"] > 0).all()


def test_genes_name_their_pathways(
    made: synthetic_cohort.Synthetic, tables: dict[str, pl.DataFrame]
) -> None:
    members = pl.read_parquet(made.inputs.pathways)
    for row in tables["genes"].select("gene", "pathways", "n_pathways").iter_rows(named=True):
        expected = members.filter(pl.col("gene") == row["gene"])["name"]
        assert sorted(row["pathways"]) == sorted(expected)
        assert row["n_pathways"] == len(expected)


def test_a_model_without_draws_can_be_evaluated(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=60, genes=40, draws=4)
    paths = add_model(made, "ridge-net", 0.5)
    points = replace(made, inputs=replace(made.inputs, draws=paths))
    tables = run(points, tmp_path / "e", [])
    summary = clean_rows(tables["summary"])
    assert pick(summary, model="ridge-net", metric="pcc", gene_set="all")["value"] > 0.1
    assert not set(summary["metric"]) & {"crps", "pcc_one_draw", "point_spread"}
    steps = tables["summary"].filter(pl.col("metric").str.starts_with("pcc_step"))
    assert steps["metric"].n_unique() == 3
    assert tables["calibration"].is_empty()
    assert "nominal" in tables["calibration"].columns
    for name, columns in (
        ("genes", ("crps", "covered90", "width90")),
        ("samples", ("crps", "covered90")),
        ("examples", ("low90", "high90")),
        ("pathways", ("crps", "covered90", "r_draw_mean")),
    ):
        for column in columns:
            assert tables[name][column].dtype == pl.Float64
            assert tables[name][column].null_count() == tables[name].height
    assert tables["samples"]["rmse"].null_count() == 0


def test_searches_are_gathered(made: synthetic_cohort.Synthetic, tmp_path: Path) -> None:
    paths = []
    for label in ("he2rna", "flow.no-graph"):
        for fold in (1, 0):
            path = tmp_path / f"models/lite0-{label}-go-bp/fold-{fold}/search.parquet"
            rows = {
                "step": ["network", "network"],
                "configuration": [0, 1],
                "settings": [json.dumps({"lr": 1}), "{}"],
                "epochs": [3, 4],
                "best_epoch": [2, 4],
                "val_loss": [0.5, 0.4],
                "seconds": [1.0, 2.0],
                "chosen": [False, True],
            }
            parquet.write(pl.DataFrame(rows), path)
            paths.append(path)
    table = run(made, tmp_path / "e", [], searches=paths)["search"]
    assert table["model"].to_list() == ["flow.no-graph"] * 4 + ["he2rna"] * 4
    assert table["fold"].to_list() == [0, 0, 1, 1] * 2
    assert table["val_loss"].to_list() == [0.5, 0.4] * 4
    assert set(table["run"]) == {synthetic_cohort.RUN}
    parquet.write(pl.DataFrame({"epochs": [1]}), paths[0])
    with pytest.raises(StageError, match="column step"):
        evaluate.search_table(paths, "lite0", "go-bp")


def test_files_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=30, genes=30, draws=4)
    paths = add_model(made, "he2rna", 0.5)
    with pytest.raises(StageError, match=r"he2rna.*\[0, 1\].*flow.*\[0, 1, 2\]"):
        run(made, tmp_path / "e", paths[:2])
    with pytest.raises(StageError, match="second"):
        run(made, tmp_path / "e", [*paths, paths[0]])
    store = zarr.open_group(paths[1])
    ids = list(store.attrs["slide_ids"])
    store.attrs["slide_ids"] = ["other", *ids[1:]]
    with pytest.raises(
        StageError,
        match=f"slides of flow .*{ids[0]};.* max_failed_slides",
    ):
        run(made, tmp_path / "e", paths)
    store.attrs["slide_ids"] = ids
    store.attrs["genes"] = list(store.attrs["genes"])[::-1]
    with pytest.raises(StageError, match="genes"):
        run(made, tmp_path / "e", paths)
    del store.attrs["model"]
    with pytest.raises(StageError, match="model"):
        run(made, tmp_path / "e", paths)
