"""The published protocol's scores against plain loops over the pooled slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import zarr
from evaluated import pick
from evaluated import run_small as run
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring.published_protocol import PooledMoments, best_means


def test_pooled_moments_equal_the_concatenated_slides() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(9, 1, size=(30, 8)).astype(np.float32)
    x = (y + rng.normal(size=y.shape)).astype(np.float32)
    x[:, 1], y[:, 2], y[:, 3] = 4.0, 4.0, 0.01
    pooled = PooledMoments(y.mean(axis=0, dtype=np.float64))
    for rows in (slice(0, 11), slice(11, 30)):
        pooled.add(x[rows], y[rows])
    r, _ = gene_metrics.pcc(x, y)
    np.testing.assert_allclose(pooled.pcc(), r, atol=1e-9)
    assert pooled.pcc()[1] == 0
    expected = gene_metrics.rmse(x, y) / y.mean(axis=0, dtype=np.float64)
    expected[2:4] = np.nan
    np.testing.assert_allclose(pooled.nrmse(y.mean(axis=0)), expected, rtol=1e-6)


def test_best_takes_the_highest_or_the_lowest() -> None:
    values = np.array([0.3, np.nan, 0.1, 0.2])
    assert best_means(values, [2], 1.0) == [(pytest.approx(0.2), 3), (pytest.approx(0.25), 2)]
    assert best_means(values, [2, 1], -1.0)[1:] == [
        (pytest.approx(0.15), 2),
        (pytest.approx(0.1), 1),
    ]
    assert best_means(np.array([np.nan]), [], 1.0)[0][1] == 0


def test_steps_equal_a_plain_loop(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=60, genes=50, draws=20)
    tables = run(made, tmp_path / "e", top=[20])
    summary = tables["summary"].filter(pl.col("protocol") == "published")
    cohort = synthetic_cohort.load(made)
    owner = dict(cohort.slides.select("slide_id", "sample_id").iter_rows())
    truth, point, one = [], [], []
    for path in made.inputs.draws:
        store = zarr.open_group(path, mode="r")
        for i, (slide, part) in enumerate(
            zip(store.attrs["slide_ids"], store.attrs["parts"], strict=True)
        ):
            if part == "test":
                truth.append(cohort.truth[cohort.row[owner[slide]]])
                point.append(store["point"][i])
                one.append(store["draws"][i, 0].astype(np.float32))
    y, x, drawn = np.array(truth)[:, 1:], np.array(point)[:, 1:], np.array(one)[:, 1:]
    assert len(y) == 72
    r, r_one = ([np.corrcoef(p[:, g], y[:, g])[0, 1] for g in range(49)] for p in (x, drawn))
    genes = tables["genes"]
    folds_of = np.array([len(folds) for folds in genes["in_T20"]])[1:]
    expected = {
        ("pcc", "all"): np.mean(r),
        ("pcc", "T20"): np.mean(np.sort(r)[-20:]),
        ("pcc_one_draw", "T20"): np.mean(np.sort(r_one)[-20:]),
        ("pcc_step:1-pooled-slides", "all"): np.mean(r),
        ("pcc_step:1-pooled-slides", "T20"): np.average(r, weights=folds_of),
        ("pcc_step:2-test-ranked", "T20"): np.mean(np.sort(r)[-20:]),
        ("pcc_step:3-one-draw", "T20"): np.mean(np.sort(r_one)[-20:]),
        ("nrmse", "T20"): np.mean(np.sort(gene_metrics.rmse(x, y) / cohort.truth.mean(0)[1:])[:20]),
    }
    for (metric, gene_set), value in expected.items():
        row = pick(summary, model="flow", metric=metric, gene_set=gene_set)
        assert row["value"] == pytest.approx(value, abs=1e-5), metric
        assert row["low"] is None
        assert row["high"] is None
    clean = tables["summary"].filter(pl.col("protocol") == "clean")
    for gene_set in ("all", "T20"):
        first = pick(summary, model="flow", metric="pcc_step:0-clean", gene_set=gene_set)
        assert first["value"] == pick(clean, model="flow", metric="pcc", gene_set=gene_set)["value"]
    assert set(summary.filter(pl.col("metric") == "pcc")["model"]) == {
        "flow", "constant", "site-mean", "color-ridge", "ridge", "ridge-lowrank", "permuted"
    }  # fmt: skip


def test_a_set_that_is_too_small_for_clean_has_no_clean_step(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=30, genes=60, draws=20)
    summary = run(made, tmp_path / "e", top=[2])["summary"]
    first = pick(summary, metric="pcc_step:0-clean", gene_set="T2")
    assert first["value"] is None
    assert pick(summary, metric="pcc_step:2-test-ranked", gene_set="T2")["value"] > 0
