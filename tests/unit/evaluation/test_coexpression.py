"""Gene-gene correlations and energy scores of draws: oracles, closed forms, and a known cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import zarr
from hypothesis import given
from hypothesis import strategies as st
from slide2rna.core import config, seeds
from slide2rna.evaluation.metrics import coexpression, gene_metrics
from slide2rna.evaluation.metrics.coexpression import CorrelationMatrix
from slide2rna.evaluation.scoring import evaluated, score
from slide2rna.evaluation.uncertainty import coexpression_table


def upper(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.nan_to_num(np.corrcoef(values.T))
    return matrix[np.triu_indices(values.shape[1], 1)]


@given(st.integers(0, 10_000), st.integers(5, 12), st.integers(7, 12), st.booleans())
def test_gsc_is_the_correlation_of_upper_triangles(
    seed: int, n: int, genes: int, flat: bool
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(5, 1, size=(2, n, genes)).astype(np.float32)
    if flat:
        b[:, 0] = 3.0
    expected = np.corrcoef(upper(a), upper(b))[0, 1]
    assert CorrelationMatrix(a).similarity(CorrelationMatrix(b)) == pytest.approx(
        expected, abs=1e-3
    )
    # Neither the patients' order, nor a gene's unit or level.
    order = rng.permutation(n)
    scale = rng.uniform(0.5, 2, genes).astype(np.float32)
    moved = b[order] * scale + 2
    assert CorrelationMatrix(a).similarity(CorrelationMatrix(moved)) == pytest.approx(
        expected, abs=1e-3
    )


def test_gsc_of_a_matrix_with_itself_is_one_and_with_none_zero() -> None:
    values = np.random.default_rng(0).normal(size=(20, 15))
    assert CorrelationMatrix(values).similarity(CorrelationMatrix(values)) == pytest.approx(1)
    assert CorrelationMatrix(values).similarity(CorrelationMatrix(np.ones((20, 15)))) == 0


@pytest.mark.parametrize("slides", [1, 3])
def test_the_energy_score_of_one_gene_is_the_fair_crps(slides: int) -> None:
    rng = np.random.default_rng(slides)
    drawn = rng.normal(1, 2, size=(slides, 12, 1))
    strata = np.sort(drawn, axis=1).transpose(0, 2, 1)
    pooled = np.sort(drawn.ravel())[None]
    expected = gene_metrics.fair_crps(pooled, np.array([0.3]), strata)[0]
    assert coexpression.energy(drawn, np.array([0.3])) == pytest.approx(expected, abs=1e-5)
    profiles = coexpression.energy_of_profiles(drawn[0], np.array([[0.3], [1.2]]))
    for value, y in zip(profiles, (0.3, 1.2), strict=True):
        expected = gene_metrics.fair_crps(np.sort(drawn[0, :, 0]), np.array(y))
        assert value == pytest.approx(float(expected), abs=1e-6)


def test_the_energy_score_has_its_closed_form_and_rewards_the_true_law() -> None:
    """For N(0, I) in two dimensions E|x - x'| is sqrt(pi), so the mean score is half of it."""
    rng = np.random.default_rng(1)
    n, draws = 400, 60
    root = np.linalg.cholesky(np.array([[1, 0.9], [0.9, 1]]))
    scores = {"round": [], "true": [], "independent": [], "narrow": []}  # type: ignore[var-annotated]
    for _ in range(n):
        white = rng.normal(size=(1, draws, 2))
        y = rng.normal(size=2)
        scores["round"].append(coexpression.energy(white, y))
        y = root @ y
        scores["true"].append(coexpression.energy(white @ root.T, y))
        scores["independent"].append(coexpression.energy(white, y))
        scores["narrow"].append(coexpression.energy(0.5 * white @ root.T, y))
    mean = {name: np.mean(values) for name, values in scores.items()}
    error = np.std(scores["round"]) / np.sqrt(n)
    assert mean["round"] == pytest.approx(np.sqrt(np.pi) / 2 / np.sqrt(2), abs=4 * error)
    for other in ("independent", "narrow"):
        less = np.subtract(scores["true"], scores[other])
        assert less.mean() < -2 * less.std() / np.sqrt(n), other


def correlated(rng: np.random.Generator, n: int, draws: int, genes: int) -> tuple:
    """Profiles whose residuals share two factors, and exact draws of them (n, 1, D, g)."""
    loading = rng.normal(size=(2, genes))
    mean = 0.5 * rng.normal(size=(n, 1)) @ rng.normal(size=(1, genes))

    def residual(*shape: int) -> np.ndarray:
        return rng.normal(size=(*shape, 2)) @ loading + rng.normal(size=(*shape, genes))

    return mean + residual(n), mean[:, None, None] + residual(n, 1, draws), mean


def test_draws_of_the_right_law_win_against_their_mean_and_shuffled_draws() -> None:
    rng = np.random.default_rng(2)
    truth, drawn, mean = correlated(rng, 60, 8, 80)
    apart = [coexpression.shuffled(of, rng) for of in drawn]
    for own, alone in zip(drawn, apart, strict=True):
        np.testing.assert_array_equal(np.sort(own, axis=1), np.sort(alone, axis=1))
    ours = coexpression.mean_similarity(truth, list(drawn), 8)
    assert ours > coexpression.mean_similarity(truth, apart, 8) + 0.2
    assert ours > CorrelationMatrix(mean).similarity(CorrelationMatrix(truth)) + 0.2
    energies = [
        np.mean([coexpression.energy(of, y) for of, y in zip(given, truth, strict=True)])
        for given in (drawn, apart)
    ]
    assert energies[0] < energies[1]


def test_slides_are_taken_in_turn() -> None:
    drawn = [np.arange(4.0).reshape(1, 4, 1), 10 + np.arange(8.0).reshape(2, 4, 1)]
    assert [coexpression.draw_per_sample(drawn, i).ravel().tolist() for i in range(4)] == [
        [0, 10],
        [1, 15],
        [2, 12],
        [3, 17],
    ]


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(3).normal(size=12)
    without = np.array([np.delete(x, i).mean() for i in range(12)])
    value, low, high = coexpression_table._jackknife([x.mean()], [without])
    half = 2.200985 * x.std(ddof=1) / np.sqrt(12)  # Student's t with 11 degrees of freedom
    assert (value, low, high) == pytest.approx((x.mean(), x.mean() - half, x.mean() + half))
    two = coexpression_table._jackknife([x.mean(), x.mean() + 2], [without, without])
    assert two[0] == pytest.approx(x.mean() + 1)
    assert two[2] - two[0] == pytest.approx(half / np.sqrt(2) * 2.073873 / 2.200985, rel=1e-5)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> evaluated.Evaluated:
    made = synthetic_cohort.make(
        tmp_path_factory.mktemp("c"), patients=60, genes=90, draws=12, signal=2
    )
    return score.score_run(made.inputs, config.defaults("evaluate", bootstrap=40, top=[50]), 1, 2)


@pytest.fixture(scope="module")
def table(found: evaluated.Evaluated) -> pl.DataFrame:
    return coexpression_table.table(found, 2)


def value(table: pl.DataFrame, **keys: object) -> float:
    rows = table.filter([pl.col(key) == of for key, of in keys.items()])
    assert rows.height == 1, (keys, rows)
    return float(rows["value"][0])


def test_the_table_equals_a_plain_loop(found: evaluated.Evaluated, table: pl.DataFrame) -> None:
    draws, points, energies = [], [], []
    for fold, given_, (mean, sd) in zip(
        found.folds, found.predictions, found.train_moments, strict=True
    ):
        genes = np.flatnonzero(given_.sets["flow"][:, 0])
        truth = fold.test.truth[:, genes]
        raw = [of[:, :, genes].astype(float) for _, of in fold.test_draws()]
        per_draw = []
        for index in range(12):
            one = np.stack([of[index % len(of), index] for of in raw])
            per_draw.append(np.corrcoef(upper(one), upper(truth))[0, 1])
        draws.append(np.mean(per_draw))
        points.append(np.corrcoef(upper(given_.test["ridge"][:, genes]), upper(truth))[0, 1])
        for of, y in zip(raw, truth, strict=True):
            pool = ((of - mean[genes]) / sd[genes]).reshape(-1, len(genes))
            target = (y - mean[genes]) / sd[genes]
            near = np.linalg.norm(pool - target, axis=1).mean()
            slide = np.repeat(np.arange(len(of)), 12)
            pairs = np.linalg.norm(pool[:, None] - pool[None], axis=2)
            same = slide[:, None] == slide[None]
            shares = np.where(same, 1 / (12 * 11), 1 / 12**2) / len(of) ** 2
            np.fill_diagonal(shares, 0)
            energies.append((near - (shares * pairs).sum() / 2) / np.sqrt(len(genes)))
    same = {"gene_set": "all"}
    gsc = value(table, model="flow", kind="draws", metric="gsc", **same)
    assert gsc == pytest.approx(np.mean(draws), abs=1e-4)
    ridge = value(table, model="ridge", kind="point", metric="gsc", **same)
    assert ridge == pytest.approx(np.mean(points), abs=1e-4)
    less = value(table, metric="gsc_minus:ridge/point", **same)
    assert less == pytest.approx(gsc - ridge, abs=1e-6)
    energy = value(table, model="flow", kind="draws", metric="energy", **same)
    assert energy == pytest.approx(np.mean(energies), abs=1e-4)


def test_intervals_are_of_as_many_draws_as_the_value(
    found: evaluated.Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    mean_similarity = coexpression.mean_similarity

    def spied(truth: np.ndarray, drawn: coexpression.Drawn, count: int) -> float:
        counts.append(count)
        return mean_similarity(truth, drawn, count)

    monkeypatch.setattr(coexpression, "mean_similarity", spied)
    notes = dict(
        coexpression_table.table(found, 1)
        .filter(pl.col("metric") == "gsc")
        .select("kind", "note")
        .iter_rows()
    )
    assert set(counts) == {12}
    for kind in ("draws", "shuffled-draws", "train-profiles"):
        assert notes[kind].endswith(
            "jackknife over 10 groups of patients a fold, on at most 20 draws"
        )
    for kind in ("point", "train-matrix"):
        assert notes[kind].endswith("jackknife over 10 groups of patients a fold")


def test_every_row_has_its_interval_and_its_null(table: pl.DataFrame) -> None:
    assert set(table["gene_set"]) == {"all", "T50"}
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table.filter(pl.col("gene_set") == "all")["n_genes"].unique().to_list() == [89]
    kinds = set(table.filter(pl.col("metric") == "gsc")["kind"])
    nulls = {"shuffled-draws", "train-profiles", "train-matrix", "truth-halves"}
    assert kinds == {"draws", "mean", "point"} | nulls
    own = {"gene_set": "all", "kind": "draws"}
    # The law's residuals are independent: shuffling its draws changes nothing.
    assert abs(value(table, metric="gsc_minus:shuffled-draws", **own)) < 0.03
    assert abs(value(table, metric="energy_minus:shuffled-draws", **own)) < 0.003
    for null in ("train-profiles", "ridge/point", "flow/point"):
        row = table.filter(
            (pl.col("metric") == f"energy_minus:{null}") & (pl.col("gene_set") == "all")
        )
        assert row["high"][0] < 0, null


def test_threads_change_nothing(found: evaluated.Evaluated, table: pl.DataFrame) -> None:
    again = coexpression_table.table(found, 1)
    assert again.drop("value", "low", "high").equals(table.drop("value", "low", "high"))
    np.testing.assert_allclose(again["value"], table["value"], rtol=1e-5, atol=1e-7)


def test_points_alone_are_scored_without_draws(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=30, genes=40, draws=5)
    for path in made.inputs.draws:
        del zarr.open_group(path, mode="r+")["draws"]
    settings = config.defaults("evaluate", bootstrap=10, permutations=2, top=[20])
    found = score.score_run(made.inputs, settings, 1, 1)
    table = coexpression_table.table(found, 1)
    assert not table["metric"].str.contains("minus").any()
    assert {"point", "train-profiles"} <= set(table["kind"])
    assert "draws" not in set(table["kind"])


def test_genes_are_a_seeded_choice_of_at_most_so_many(
    found: evaluated.Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coexpression_table, "GENES", 30)
    chosen = [coexpression_table._choose_genes(found, fold, "all") for fold in range(3)]
    for genes in chosen:
        np.testing.assert_array_equal(genes, chosen[0])
    assert len(chosen[0]) == 30
    assert 0 not in chosen[0]  # the gene that never varies
    order = seeds.rng_for(1, "coexpression").permutation(90)
    assert set(chosen[0]) == set(order[order > 0][:30])
