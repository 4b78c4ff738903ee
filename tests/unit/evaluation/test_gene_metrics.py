"""Metrics and the bootstrap against scipy, loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from slide2rna.evaluation.metrics import bootstrap, gene_metrics

seeds = st.integers(0, 2**32 - 1)


def loop_crps(draws: np.ndarray, y: float) -> float:
    pairs = [abs(a - b) for i, a in enumerate(draws) for j, b in enumerate(draws) if i != j]
    return float(np.mean([abs(a - y) for a in draws]) - np.mean(pairs) / 2)


@given(seeds, st.integers(4, 30))
@settings(max_examples=25, deadline=None)
def test_pcc_equals_scipy(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(5, 2, size=(2, n, 7))
    r, flat = gene_metrics.pcc(x, y)
    expected = [stats.pearsonr(x[:, g], y[:, g])[0] for g in range(7)]
    np.testing.assert_allclose(r, expected, atol=1e-10)
    assert not flat.any()


def test_pcc_without_variance_is_zero_and_flagged_and_nan_if_the_truth_has_none() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 3)).astype(np.float32)
    y = x.copy()
    x[:, 0] = 7.3
    y[:, 1] = 7.3
    r, flat = gene_metrics.pcc(x, y)
    assert r[0] == 0
    assert np.isnan(r[1])
    assert r[2] == pytest.approx(1)
    assert flat.tolist() == [True, False, False]


def test_rmse_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 11, 4))
    expected = [
        np.sqrt(np.mean([(a - b) ** 2 for a, b in zip(*c, strict=True)]))
        for c in zip(x.T, y.T, strict=True)
    ]
    np.testing.assert_allclose(gene_metrics.rmse(x, y), expected)


@given(seeds, st.integers(2, 25))
@settings(max_examples=25, deadline=None)
def test_crps_equals_the_double_loop(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    draws, y = rng.normal(size=(5, n)), rng.normal(size=5)
    got = gene_metrics.fair_crps(np.sort(draws, axis=1), y)
    np.testing.assert_allclose(got, [loop_crps(d, v) for d, v in zip(draws, y, strict=True)])


def test_crps_is_unbiased_for_few_draws() -> None:
    rng = np.random.default_rng(2)
    draws = np.sort(rng.normal(size=(200_000, 3)), axis=1)
    got = gene_metrics.fair_crps(draws, np.full(200_000, 0.4))
    exact = 0.4 * (2 * stats.norm.cdf(0.4) - 1) + 2 * stats.norm.pdf(0.4) - 1 / np.sqrt(np.pi)
    assert abs(got.mean() - exact) < 4 * got.std() / np.sqrt(200_000)


def test_crps_of_a_mixture_is_unbiased_with_equal_draws_per_slide() -> None:
    rng = np.random.default_rng(3)
    n = 100_000
    strata = np.sort(rng.normal(size=(2, n, 2)) + np.array([0.0, 4.0])[:, None, None], axis=2)
    pool = np.sort(strata.transpose(1, 0, 2).reshape(n, 4), axis=1)
    got = gene_metrics.fair_crps(pool, np.full(n, 1.0), strata)
    a, b = rng.normal(size=(2, 2_000_000)) + 4 * rng.integers(0, 2, size=(2, 2_000_000))
    exact = np.abs(a - 1).mean() - np.abs(a - b).mean() / 2
    assert abs(got.mean() - exact) < 4 * got.std() / np.sqrt(n) + 0.004
    naive = gene_metrics.fair_crps(pool, np.full(n, 1.0))
    assert abs(naive.mean() - exact) > 0.1


def test_crps_needs_two_draws_of_a_slide() -> None:
    with pytest.raises(ValueError, match="two draws"):
        gene_metrics.fair_crps(np.zeros((3, 1)), np.zeros(3))


def test_climatology_equals_crps_of_the_train_profiles() -> None:
    rng = np.random.default_rng(4)
    train, y = rng.normal(3, 1, size=(17, 5)), rng.normal(3, 1, size=(6, 5))
    y[0, 0], train[3, 1] = train[2, 0], train[2, 1]
    ordered = np.sort(train.T, axis=1)
    expected = [gene_metrics.fair_crps(ordered, row) for row in y]
    np.testing.assert_allclose(gene_metrics.climatology_crps(train, y), expected)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("n", [20, 99, 100])
def test_intervals_cover_exactly_nominal_for_a_perfect_model(level: float, n: int) -> None:
    # The k-th of n uniform order statistics has mean k/(n+1), which is its coverage, and
    # interpolation is linear in it: the mean of the ends gives the coverage in closed form.
    means = np.arange(1, n + 1) / (n + 1)
    low, high = gene_metrics.central_interval(means[None], level)
    assert high[0] - low[0] == pytest.approx(level, abs=1e-12)
    assert low[0] == pytest.approx((1 - level) / 2, abs=1e-12)


def test_numpys_default_quantiles_would_cover_less() -> None:
    means = np.arange(1, 101) / 101
    low, high = np.quantile(means, [0.05, 0.95])
    assert high - low == pytest.approx(0.9 * 99 / 101, abs=1e-12)


def test_intervals_that_so_few_draws_cannot_give_are_refused() -> None:
    assert gene_metrics.attainable(0.9, 19)
    assert not gene_metrics.attainable(0.9, 18)
    with pytest.raises(ValueError, match="too few"):
        gene_metrics.central_interval(np.zeros((2, 10)), 0.9)


def test_pit_is_uniform_for_a_perfect_model_with_ties() -> None:
    rng = np.random.default_rng(5)
    n = 20_000
    # Half of the values are clipped to 0, in draws and truth alike.
    draws = np.sort(np.maximum(rng.normal(size=(n, 30)), 0), axis=1)
    y = np.maximum(rng.normal(size=n), 0)
    values = gene_metrics.pit(draws, y, rng.random(n))
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert stats.kstest(gene_metrics.pit(draws, y, np.zeros(n)), "uniform").pvalue < 1e-6


def test_nll_equals_scipy_above_the_floor() -> None:
    rng = np.random.default_rng(6)
    mean, y, variance = rng.normal(size=8), rng.normal(size=8), rng.uniform(0.1, 2, 8)
    expected = -stats.norm.logpdf(y, mean, np.sqrt(variance))
    np.testing.assert_allclose(gene_metrics.gaussian_nll(mean, variance, y, 1e-3), expected)
    silent = gene_metrics.gaussian_nll(np.zeros(1), np.zeros(1), np.zeros(1), 0.5)
    np.testing.assert_allclose(silent, -stats.norm.logpdf(0, 0, 0.5))


def test_spearman_equals_scipy_and_is_zero_for_a_constant() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 5, size=(2, 40, 3)).astype(float)
    assert gene_metrics.spearman(a[:, 0], b[:, 0]) == pytest.approx(
        stats.spearmanr(a[:, 0], b[:, 0])[0]
    )
    expected = [stats.spearmanr(a[:, g], b[:, g])[0] for g in range(3)]
    np.testing.assert_allclose(gene_metrics.spearman_columns(a, b), expected)
    assert gene_metrics.spearman(np.ones(9), np.arange(9.0)) == 0


def test_fisher_weights_by_n_minus_3_and_leaves_out_small_folds() -> None:
    r = np.array([[0.2], [0.6], [0.99]])
    combined, weight = gene_metrics.fisher_combine(r, np.array([10, 20, 3]))
    expected = np.tanh((7 * np.arctanh(0.2) + 17 * np.arctanh(0.6)) / 24)
    assert combined[0] == pytest.approx(expected)
    assert weight[0] == 24
    assert np.isnan(gene_metrics.fisher_combine(np.array([[0.5]]), np.array([3]))[0][0])
    with_nan = gene_metrics.fisher_combine(np.array([[np.nan], [0.6]]), np.array([10, 20]))[0][0]
    assert with_nan == pytest.approx(0.6)


def test_fdr_equals_the_definition_and_keeps_nan() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    got = gene_metrics.benjamini_hochberg(p)
    np.testing.assert_allclose(got[[0, 3, 2, 4]], [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5])
    assert np.isnan(got[1])


def test_bootstrapped_pcc_and_rmse_equal_a_loop_over_resamples() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(900, 1, size=(2, 13, 5))
    y = y + x
    counts = bootstrap.resample_counts(rng, 13, 20)
    r = bootstrap.PccBootstrap(counts, y)(x)
    error = bootstrap.bootstrap_rmse(counts, x - x.mean(0), y - y.mean(0))
    drawn = np.concatenate([counts[:1], counts[1:] * 12 / 13]).round().astype(int)
    assert drawn.sum(axis=1).tolist() == [13] + [12] * 20
    for row, count in enumerate(drawn):
        rows = np.repeat(np.arange(13), count)
        np.testing.assert_allclose(r[row], gene_metrics.pcc(x[rows], y[rows])[0], atol=2e-5)
        expected = gene_metrics.rmse((x - x.mean(0))[rows], (y - y.mean(0))[rows])
        np.testing.assert_allclose(error[row], expected, rtol=2e-5)
    np.testing.assert_allclose(counts.sum(axis=1), 13, rtol=1e-6)


def test_a_resample_without_variance_scores_zero() -> None:
    counts = np.array([[1, 1, 1, 1], [4, 0, 0, 0]], dtype=np.float32)
    x = np.arange(4.0)[:, None]
    assert bootstrap.PccBootstrap(counts, x)(x)[:, 0].tolist() == pytest.approx([1.0, 0.0])


def test_interval_holds_the_truth_where_percentiles_lie_beside_it() -> None:
    rng = np.random.default_rng(9)
    truth, folds, hits, percentile_hits = 1.0, 5, 0, 0
    for _ in range(150):
        sets = []
        for _ in range(folds):
            # RMSE of unit noise, over 40 genes that share some of it, 8 patients a fold.
            y = 0.6 * rng.normal(size=(8, 1)) + 0.8 * rng.normal(size=(8, 40))
            counts = bootstrap.resample_counts(rng, 8, 200)
            sets.append(bootstrap.bootstrap_rmse(counts, np.zeros_like(y), y).mean(axis=1))
        resamples = np.mean(sets, axis=0)
        low, high = bootstrap.interval(resamples)
        hits += low <= truth <= high
        a, b = np.quantile(resamples[1:], [0.025, 0.975])
        percentile_hits += a <= truth <= b
    assert hits / 150 > 0.84
    assert percentile_hits < hits


def test_interval_always_holds_the_value_and_stays_within_bounds_for_r() -> None:
    resamples = np.concatenate([[0.97], np.linspace(0.5, 0.99, 100)])[:, None]
    low, high = bootstrap.interval_r(resamples)
    assert -1 < low[0] <= 0.97 <= high[0] < 1
    low, high = bootstrap.interval(np.concatenate([[5.0], np.linspace(1, 2, 50)]))
    assert low <= 5.0 <= high


def test_correlations_with_p_values_equal_scipy() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(2, 40, 300))
    y += rng.uniform(-2, 2, 300) * x
    x[:, 5] = 3.0
    r, p = gene_metrics.pcc_test(x, y)
    assert (r[5], p[5]) == (0, 1)
    known = np.arange(300) != 5
    expected = stats.pearsonr(x[:, known], y[:, known], axis=0)
    np.testing.assert_allclose(r[known], expected.statistic, rtol=0, atol=1e-10)
    np.testing.assert_allclose(p[known], expected.pvalue, rtol=1e-7, atol=1e-12)


def test_pooled_ranks_equal_scipy() -> None:
    values = np.random.default_rng(11).integers(0, 50, 400).astype(np.float32)
    got = gene_metrics.ranks(values)
    np.testing.assert_allclose(got + 200.5, stats.rankdata(values))
