"""Closed-form models: against oracles, and that they use no more than they may."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_cohort
from sklearn.linear_model import Ridge as SklearnRidge
from slide2rna.data import patients
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import folds
from slide2rna.models import base, registry
from slide2rna.models.ridge import PENALTIES, Ridge, bag_mean, mean_of_bags


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), genes=60, draws=4)


@pytest.fixture(scope="module")
def cohort(made: synthetic_cohort.Synthetic) -> patients.Cohort:
    return synthetic_cohort.load(made)


@pytest.fixture(scope="module")
def fold(made: synthetic_cohort.Synthetic, cohort: patients.Cohort) -> folds.Fold:
    return folds.load_fold(cohort, made.inputs.draws[1])


@pytest.mark.parametrize(("rows", "columns"), [(30, 8), (12, 40)])
@pytest.mark.parametrize("penalty", [0.1, 10.0, 1e4])
def test_ridge_equals_scikit_learn(rows: int, columns: int, penalty: float) -> None:
    rng = np.random.default_rng(rows)
    x, y = rng.normal(3, 2, size=(rows, columns)), rng.normal(size=(rows, 6))
    new = rng.normal(3, 2, size=(5, columns))
    scaled = (x - x.mean(0)) / x.std(0)
    expected = SklearnRidge(alpha=penalty).fit(scaled, y).predict((new - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(Ridge.fit(x, y).predict(new, penalty), expected, atol=1e-8)


def test_ridge_survives_a_constant_feature() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    x[:, 1] = 4.0
    assert np.isfinite(Ridge.fit(x, rng.normal(size=(20, 2))).predict(x, 1.0)).all()


def test_bag_mean_weighs_clusters_by_size_and_ignores_padding() -> None:
    means = np.array([[[1.0, 0.0], [4.0, 2.0], [99.0, 99.0]]])
    got = mean_of_bags(means, np.array([[3.0, 1.0, 0.0]]))
    np.testing.assert_allclose(got, [[1.75, 0.5]])


def predict(name: str, fold: folds.Fold, part: patients.Part, seed: int = 1) -> np.ndarray:
    return registry.fit(name, fold.train, fold.val, seed, fold.number).predict(part)


def test_listing_models_imports_no_torch() -> None:
    code = "import sys; from slide2rna.models import registry; print('torch' in sys.modules)"
    env = {"PYTHONPATH": str(Path(registry.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    assert done.stdout.strip() == "False"
    with pytest.raises(KeyError):
        registry.fit("oracle", None, None, 1, 0)  # type: ignore[arg-type]


def test_constant_and_site_mean_are_train_means(cohort: patients.Cohort, fold: folds.Fold) -> None:
    constant = predict("constant", fold, fold.test)
    assert constant.dtype == np.float32
    expected = np.tile(fold.train.truth.mean(0), (len(fold.test.slide_ids), 1))
    np.testing.assert_allclose(constant, expected, 1e-5)
    site = dict(zip(cohort.slides["sample_id"], cohort.slides["site"], strict=True))
    here = [i for i, sample in enumerate(fold.train.samples) if site[sample] == "west"]
    row = fold.test.sites.index("west")
    got = predict("site-mean", fold, fold.test)
    np.testing.assert_allclose(got[row], fold.train.truth[here].mean(0), rtol=1e-5)
    elsewhere = replace(fold.test, sites=["north"] + [None] * (len(fold.test.slide_ids) - 1))
    np.testing.assert_allclose(predict("site-mean", fold, elsewhere), constant, rtol=1e-5)


def test_ridge_finds_the_signal_and_permuted_does_not(fold: folds.Fold) -> None:
    strong = slice(40, 60)
    truth = fold.test.truth[:, strong]
    r = {}
    for name in ("ridge", "permuted"):
        predicted = fold.test.average(predict(name, fold, fold.test))
        r[name] = gene_metrics.pcc(predicted[:, strong], truth)[0].mean()
    assert r["ridge"] > 0.3
    assert abs(r["permuted"]) < r["ridge"] / 2


def test_ridge_picks_the_penalty_with_the_least_val_error(fold: folds.Fold) -> None:
    """By a loop over penalties and scikit-learn's ridge."""
    train, val = fold.train, fold.val
    mean_of = bag_mean(train)
    x, y = mean_of(train), train.slide_truth()
    mean, sd = x.mean(0), x.std(0)
    varies = train.truth.std(0) > 0
    found = {}
    for penalty in PENALTIES:
        fitted = SklearnRidge(alpha=penalty * len(x)).fit((x - mean) / sd, y)
        off = val.average(fitted.predict((mean_of(val) - mean) / sd)) - val.truth
        found[penalty] = ((off[:, varies] / train.truth.std(0)[varies]) ** 2).mean()
        if found[penalty] == min(found.values()):
            best, expected = penalty, fitted.predict((mean_of(fold.test) - mean) / sd)
    fitted = registry.fit("ridge", train, val, 1, fold.number)
    assert fitted.note == f"penalty {best:.3g} per train slide"
    np.testing.assert_allclose(fitted.predict(fold.test), expected, atol=1e-5)


def test_memoriser_returns_the_seen_profile_or_some_train_profile(fold: folds.Fold) -> None:
    np.testing.assert_array_equal(predict("memoriser", fold, fold.train), fold.train.slide_truth())
    unseen = predict("memoriser", fold, fold.test)
    donors = [np.flatnonzero((fold.train.truth == row).all(axis=1)) for row in unseen]
    assert all(len(found) == 1 for found in donors)
    assert len({int(found[0]) for found in donors}) > len(donors) / 3
    np.testing.assert_array_equal(unseen, predict("memoriser", fold, fold.test))
    assert (unseen != predict("memoriser", fold, fold.test, seed=2)).any()
    # Slides of one sample get one profile.
    owner = fold.test.pool.argmax(axis=0)
    for sample in range(len(fold.test.samples)):
        assert len({row.tobytes() for row in unseen[owner == sample]}) == 1


@pytest.mark.parametrize("name", registry.CLOSED_FORM)
def test_no_model_looks_at_test_labels(name: str, fold: folds.Fold) -> None:
    blind = replace(fold.test, truth=fold.test.truth * np.nan)
    np.testing.assert_array_equal(predict(name, fold, fold.test), predict(name, fold, blind))


@pytest.mark.parametrize("name", registry.CLOSED_FORM)
def test_models_predict_for_slides_of_another_cohort(
    name: str, fold: folds.Fold, tmp_path: Path
) -> None:
    other = synthetic_cohort.make(tmp_path, patients=30, genes=60, draws=4, seed=11)
    theirs = folds.load_fold(synthetic_cohort.load(other), other.inputs.draws[0]).test
    got = predict(name, fold, theirs)
    assert got.shape == (len(theirs.slide_ids), 60)
    assert np.isfinite(got).all()


def test_a_cohort_without_colour_or_sites_says_so(tmp_path: Path, fold: folds.Fold) -> None:
    made = synthetic_cohort.make(tmp_path, patients=30, genes=60, draws=4, color=False)
    plain = folds.load_fold(synthetic_cohort.load(made), made.inputs.draws[0])
    with pytest.raises(base.Unavailable, match="colour"):
        predict("color-ridge", plain, plain.test)
    with pytest.raises(base.Unavailable, match="colour"):
        predict("color-ridge", fold, plain.test)
    alone = replace(plain.train, sites=["west"] * len(plain.train.sites))
    with pytest.raises(base.Unavailable, match="two sites"):
        registry.fit("site-mean", alone, plain.val, 1, 0)


def test_left_out_residuals_equal_refits() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(14, 20)), rng.normal(size=(14, 3))
    ridge = Ridge.fit(x, y)
    # The scaling of the features is that of all rows.
    scaled = (x - ridge.mean_x) / ridge.sd_x
    patient_ids = np.array(["a", "b", "a", "c", "c", "c", *"defghijk"])
    for penalty in (0.5, 30.0):
        found = ridge.left_out_residuals(x, y, penalty, patient_ids.tolist())
        for name in np.unique(patient_ids):
            out = patient_ids == name
            refit = SklearnRidge(alpha=penalty).fit(scaled[~out], y[~out])
            np.testing.assert_allclose(found[out], y[out] - refit.predict(scaled[out]), atol=1e-8)
