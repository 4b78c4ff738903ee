"""Abstention: weights, orders, their null and the table, on errors that are known."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import shift_tables
import synthetic_cohort
from evaluated import SETTINGS
from scipy import stats
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.evaluation import evaluate
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import folds
from slide2rna.studies.shift import abstention, answered_scores
from slide2rna.studies.shift.answered_scores import SHARES, FoldSamples
from synthetic_models import add_model


def asked(
    number: int, n: int = 40, genes: int = 50, seed: int = 0, knows: float = 1.0
) -> FoldSamples:
    """Errors of sd 0.2 to 2; the order `bag` knows them, `spread` is drawn."""
    rng = np.random.default_rng([seed, number])
    size = rng.uniform(0.2, 2, n)
    truth = 5 + rng.normal(size=(n, genes))
    point = truth + size[:, None] * rng.normal(size=truth.shape)
    orders = {"bag": knows * size + (1 - knows) * rng.random(n), "spread": rng.random(n)}
    names = [f"{number}-{i}" for i in range(n)]
    sets = np.ones((genes, 1), bool)
    return FoldSamples(number, truth, point, size / 2, names, orders, sets)


def table_of(parts: list[FoldSamples], resamples: int = 60, permutations: int = 99) -> pl.DataFrame:
    rows = abstention.abstention_rows(parts, ["all"], resamples, permutations, 1)
    return pl.DataFrame(rows, schema=abstention.SCHEMA).with_columns(
        pl.selectors.float().fill_nan(None)
    )


def one(table: pl.DataFrame, order: str, metric: str, share: float | None) -> dict:
    place = pl.col("share").is_null() if share is None else (pl.col("share") - share).abs() < 1e-9
    rows = table.filter(pl.col("order") == order, pl.col("metric") == metric, place)
    assert rows.height == 1
    return rows.row(0, named=True)


def test_weights_keep_the_smallest_and_split_the_edge() -> None:
    order = np.array([3.0, 1.0, 2.0, 4.0])
    found = answered_scores.answered_weights(np.ones((1, 4)), order, np.array([1.0, 0.5, 0.375]))
    np.testing.assert_allclose(found[0], [[1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 0.5, 0]])
    twice = answered_scores.answered_weights(np.array([[0.0, 2, 1, 1]]), order, np.array([0.5]))
    np.testing.assert_allclose(twice[0, 0], [0, 2, 0, 0])
    ties = answered_scores.answered_weights(np.ones((2, 4)), np.zeros((2, 4)), np.array([0.25]))
    np.testing.assert_allclose(ties[:, 0], [[1, 0, 0, 0]] * 2)


def test_curves_are_the_plain_scores_of_the_answered() -> None:
    fold = asked(0)
    table = table_of([fold])
    for share in (1.0, 0.5):
        rows = np.argsort(fold.orders["bag"])[: round(share * 40)]
        truth, point = fold.truth[rows], fold.point[rows]
        r, _ = gene_metrics.pcc(point, truth)
        wanted = {"pcc": r.mean(), "rmse": gene_metrics.rmse(point, truth).mean()}
        wanted["crps"] = fold.crps[rows].mean()
        for metric, value in wanted.items():
            assert one(table, "bag", metric, share)["value"] == pytest.approx(value, rel=1e-4)


def test_an_order_that_knows_the_errors_gains_and_a_drawn_one_does_not() -> None:
    table = table_of([asked(i) for i in range(3)])
    for metric in ("rmse", "crps", "pcc"):
        gain = one(table, "bag", metric, None)
        assert gain["value"] > gain["null_high"]
        assert gain["low"] > 0
        assert gain["p"] == pytest.approx(0.01)
        drawn = one(table, "spread", metric, None)
        assert drawn["p"] > 0.02
        assert abs(drawn["value"]) < 0.5 * gain["value"]
    for metric in ("rmse", "crps"):
        assert one(table, "oracle", metric, None)["of_oracle"] == pytest.approx(1)
        assert 0.8 < one(table, "bag", metric, None)["of_oracle"] < 1.02
        assert one(table, "random", metric, None)["of_oracle"] == pytest.approx(0, abs=1e-9)
    assert one(table, "bag", "pcc", None)["of_oracle"] is None
    worse = table_of([replace(part, orders={"bag": -part.orders["bag"]}) for part in [asked(0)]])
    assert one(worse, "bag", "rmse", None)["p"] == 1


def test_gain_is_the_mean_improvement_over_the_shares() -> None:
    table = table_of([asked(0), asked(1)])
    for metric, sign in abstention.SIGNS.items():
        values = [one(table, "bag", metric, share)["value"] for share in SHARES]
        want = sign * (np.mean(values[1:]) - values[0])
        assert one(table, "bag", metric, None)["value"] == pytest.approx(want)


def test_p_of_a_drawn_order_is_uniform() -> None:
    p = [
        one(table_of([asked(0, 20, 8, seed)], 10, 19), "spread", "crps", None)["p"]
        for seed in range(150)
    ]
    assert (np.array(p) <= 0.1).mean() == pytest.approx(0.1, abs=0.075)
    assert np.mean(p) == pytest.approx(0.525, abs=0.075)


def repeated(seed: int, patients: int = 15, each: int = 5) -> FoldSamples:
    """Patients whose samples are alike in error and in an order that knows nothing of it."""
    rng = np.random.default_rng(seed)
    size, order = np.repeat([rng.uniform(0.2, 2, patients), rng.random(patients)], each, axis=1)
    truth = rng.normal(size=(patients * each, 4))
    point = truth + size[:, None]
    names = [f"P{i // each}" for i in range(patients * each)]
    return FoldSamples(0, truth, point, size, names, {"bag": order}, np.ones((4, 1), bool))


def test_p_is_uniform_where_patients_have_several_samples() -> None:
    p = np.array(
        [one(table_of([repeated(i)], 5, 39), "bag", "crps", None)["p"] for i in range(150)]
    )
    assert (p <= 0.05).mean() <= stats.binom.ppf(0.999, 150, 0.05) / 150
    assert (p <= 0.2).mean() == pytest.approx(0.2, abs=0.1)


def test_a_patients_samples_are_answered_together() -> None:
    found = answered_scores.patient_means(np.array([1.0, 5, 3, 2]), ["b", "a", "b", "a"])
    assert found.tolist() == [2, 3.5, 2, 3.5]
    fold = replace(repeated(0, 4, 2), orders={"bag": np.array([0.0, 9, 4, 4.1, 1, 2, 3, 3])})
    # Means 4.5, 4.05, 1.5, 3: half of the weight is the last two patients.
    table = table_of([fold], 5, 9)
    assert one(table, "bag", "crps", 0.5)["value"] == pytest.approx(fold.crps[4:].mean())
    best = np.sort(fold.crps[::2])[:2].mean()
    assert one(table, "oracle", "crps", 0.5)["value"] == pytest.approx(best, rel=1e-5)


def test_orders_that_cannot_differ_are_ties() -> None:
    for metric in ("crps", "rmse", "pcc"):
        assert one(table_of([repeated(1, 1, 9)], 5, 39), "bag", metric, None)["p"] == 1


def test_small_folds_have_no_correlation_to_show() -> None:
    table = table_of([asked(0, 6), asked(1, 6)])
    assert one(table, "bag", "pcc", 0.3)["value"] is None
    assert one(table, "bag", "pcc", 0.3)["note"] == abstention.TOO_FEW_PATIENTS
    assert one(table, "bag", "pcc", None)["value"] is not None
    assert one(table, "bag", "rmse", 0.3)["value"] is not None
    tiny = table_of([asked(0, 3)])
    assert tiny.filter(pl.col("metric") == "pcc", pl.col("share").is_null()).is_empty()
    assert one(tiny, "bag", "rmse", None)["p"] is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), 45, 80, draws=15)


def test_the_stage_scores_the_runs_own_files(
    made: synthetic_cohort.Synthetic, repo: Path, tmp_path: Path
) -> None:
    evaluation = made.folder / "evaluation" / synthetic_cohort.RUN
    evaluated.run(made, evaluation, **(SETTINGS | {"bootstrap": 20}))
    folder = shift_tables.add_shift(made)
    table = pl.read_parquet(shift_tables.add_abstention(made, evaluation))
    assert set(table["order"]) == {"bag", "expression", "spread", "oracle", "random"}
    assert table["n_patients"].unique().to_list() == [45]
    summary = pl.read_parquet(evaluation / "summary.parquet").filter(
        pl.col("protocol") == "clean", pl.col("model") == "flow", pl.col("gene_set") == "all"
    )
    everyone = table.filter(pl.col("gene_set") == "all")
    for metric in ("pcc", "rmse", "crps"):
        want = summary.filter(pl.col("metric") == metric)["value"][0]
        # The summary's CRPS is a mean over patients, this one over folds.
        close = {"crps": 5e-3}.get(metric, 1e-5)
        for order in ("bag", "oracle"):
            assert one(everyone, order, metric, 1.0)["value"] == pytest.approx(want, rel=close)
    sets = {name for name in table["gene_set"].unique() if name != "all"}
    assert len(sets) == 1
    main = runpy.run_path(str(repo / "scripts/shift.py"))["main"]
    of = made.inputs
    judged = [str(folder / f"fold-{i}.parquet") for i in range(3)]
    command = ["abstention", "--draws", *map(str, of.draws), "--evaluation", str(evaluation)]
    for name in ("bags", "expression", "slides", "splits", "cohort"):
        command += [f"--{name}", str(getattr(of, name))]
    command += ["--run", synthetic_cohort.RUN, "--out", str(tmp_path / "t.parquet")]
    command += ["--settings", '{"bootstrap": 30, "permutations": 40}']
    main([*command, "--shift", *judged])
    assert pl.read_parquet(tmp_path / "t.parquet").equals(table)
    with pytest.raises(StageError, match=r"fold 2"):
        main([*command, "--shift", *judged[:2]])


def test_points_alone_have_neither_crps_nor_spread(made: synthetic_cohort.Synthetic) -> None:
    paths = add_model(made, "abmil", 0.5)
    inputs = replace(made.inputs, draws=paths)
    evaluation = made.folder / "evaluation" / "points"
    settings = config.defaults("evaluate", **(SETTINGS | {"bootstrap": 10}))
    evaluate.evaluate(inputs, "points", evaluation, settings, 1, 1)
    shift_tables.add_shift(made, paths, "points")
    table = pl.read_parquet(shift_tables.add_abstention(made, evaluation, paths, "points"))
    assert set(table["order"]) == {"bag", "expression", "oracle", "random"}
    assert set(table["metric"]) == {"pcc", "rmse"}
    fold = folds.load_fold(synthetic_cohort.load(made), paths[0])
    assert not fold.has("draws")
