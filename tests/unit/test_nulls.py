"""Null models: closed forms, and that they use no more than they may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic_cohort
from sklearn.linear_model import Ridge as SklearnRidge
from slide2rna import metrics, nulls, patients


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), genes=60, draws=4)


@pytest.fixture(scope="module")
def cohort(made: synthetic_cohort.Synthetic) -> patients.Cohort:
    return synthetic_cohort.load(made)


@pytest.fixture(scope="module")
def fold(made: synthetic_cohort.Synthetic, cohort: patients.Cohort) -> patients.Fold:
    return patients.load_fold(cohort, made.inputs.draws[1])


@pytest.mark.parametrize(("rows", "columns"), [(30, 8), (12, 40)])
@pytest.mark.parametrize("penalty", [0.1, 10.0, 1e4])
def test_ridge_equals_scikit_learn(rows: int, columns: int, penalty: float) -> None:
    rng = np.random.default_rng(rows)
    x, y = rng.normal(3, 2, size=(rows, columns)), rng.normal(size=(rows, 6))
    new = rng.normal(3, 2, size=(5, columns))
    scaled = (x - x.mean(0)) / x.std(0)
    expected = SklearnRidge(alpha=penalty).fit(scaled, y).predict((new - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(nulls.Ridge.fit(x, y).predict(new, penalty), expected, atol=1e-8)


def test_ridge_survives_a_constant_feature() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    x[:, 1] = 4.0
    assert np.isfinite(nulls.Ridge.fit(x, rng.normal(size=(20, 2))).predict(x, 1.0)).all()


def test_bag_mean_weighs_clusters_by_size_and_ignores_padding() -> None:
    means = np.array([[[1.0, 0.0], [4.0, 2.0], [99.0, 99.0]]])
    got = nulls.mean_of_bags(means, np.array([[3.0, 1.0, 0.0]]))
    np.testing.assert_allclose(got, [[1.75, 0.5]])


def test_constant_and_site_mean_are_train_means(
    cohort: patients.Cohort, fold: patients.Fold
) -> None:
    found, absent = nulls.fit_nulls(cohort, fold, seed=1)
    assert set(found) == set(nulls.NAMES)
    assert not absent
    np.testing.assert_allclose(
        found["constant"].test, np.tile(fold.train.truth.mean(0), (len(fold.test.samples), 1)), 1e-5
    )
    site = dict(zip(cohort.slides["sample_id"], cohort.slides["site"], strict=True))
    here = [i for i, sample in enumerate(fold.train.samples) if site[sample] == "west"]
    row = next(i for i, sample in enumerate(fold.test.samples) if site[sample] == "west")
    np.testing.assert_allclose(
        found["site-mean"].test[row], fold.train.truth[here].mean(0), rtol=1e-5
    )


def test_ridge_finds_the_signal_and_permuted_does_not(
    cohort: patients.Cohort, fold: patients.Fold
) -> None:
    found, _ = nulls.fit_nulls(cohort, fold, seed=1)
    strong = slice(40, 60)
    truth = fold.test.truth[:, strong]
    ridge = metrics.pcc(found["ridge"].test[:, strong], truth)[0].mean()
    permuted = metrics.pcc(found["permuted"].test[:, strong], truth)[0].mean()
    assert ridge > 0.3
    assert abs(permuted) < ridge / 2


def test_nulls_never_look_at_test_labels(cohort: patients.Cohort, fold: patients.Fold) -> None:
    before, _ = nulls.fit_nulls(cohort, fold, seed=1)
    test = fold.test
    blind = patients.Part(
        test.slide_ids, test.sites, test.bag_rows, test.samples, test.pool, test.truth * np.nan
    )
    after, _ = nulls.fit_nulls(
        cohort,
        patients.Fold(fold.number, fold.train, fold.val, blind, fold.path, fold.store, fold.rows),
        seed=1,
    )
    for name in nulls.NAMES:
        np.testing.assert_array_equal(before[name].test, after[name].test)


def test_a_cohort_without_colour_says_so(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=30, genes=20, draws=4, color=False)
    cohort = synthetic_cohort.load(made)
    found, absent = nulls.fit_nulls(cohort, patients.load_fold(cohort, made.inputs.draws[0]), 1)
    assert "color-ridge" not in found
    assert "colour" in absent["color-ridge"]
