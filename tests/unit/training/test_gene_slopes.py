"""Slopes of genes, and the common factor on the residual sds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.training.gene_slopes import gene_slopes
from slide2rna.training.linear_fit import BagPart, Targets, fit_ridge, scale_by_slopes
from slide2rna.training.spread import best_factor, gaussian_crps


def test_many_samples_give_each_gene_its_least_squares_slope() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([0.2, 0.6, 1.0, 1.5])
    predicted = rng.normal(size=(20000, 4))
    measured = truth * predicted + 0.5 * rng.normal(size=predicted.shape)
    least_squares = (predicted * measured).sum(0) / np.square(predicted).sum(0)
    assert gene_slopes(predicted, measured) == pytest.approx(least_squares, abs=1e-3)


def test_genes_without_a_slope_of_their_own_share_one() -> None:
    """With few samples and one true slope, the single slopes are noise: the common one is taken."""
    rng = np.random.default_rng(2)
    predicted = rng.normal(size=(30, 500))
    measured = 0.7 * predicted + 2 * rng.normal(size=predicted.shape)
    alone = (predicted * measured).sum(0) / np.square(predicted).sum(0)
    found = gene_slopes(predicted, measured)
    assert np.std(found) < 0.4 * np.std(alone)
    assert np.square(found - 0.7).mean() < 0.1 * np.square(alone - 0.7).mean()


def test_slopes_lower_the_error_of_new_samples_and_keep_correlations() -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 1.2, 200)
    predicted = rng.normal(size=(600, 200))
    measured = truth * predicted + rng.normal(size=predicted.shape)
    slopes = gene_slopes(predicted[:300], measured[:300])
    before, after = (np.square(measured[300:] - s * predicted[300:]).mean() for s in (1.0, slopes))
    best = np.square(measured[300:] - truth * predicted[300:]).mean()
    assert after - best < 0.02 * (before - best)
    assert slopes.min() >= 0


def test_genes_without_predictions_and_perfect_genes_are_no_trap() -> None:
    rng = np.random.default_rng(4)
    predicted = rng.normal(size=(50, 3))
    measured = predicted.copy()
    predicted[:, 1] = 0
    found = gene_slopes(predicted, measured)
    assert np.isfinite(found).all()
    assert found[[0, 2]] == pytest.approx(1)
    assert gene_slopes(np.zeros((5, 2)), measured[:5, :2]).tolist() == [1, 1]


def slopes_of_a_small_cohort(seed: int) -> tuple[float, float, float]:
    """Return the slope in 4000 new patients, the median that is fitted, and one with the mean."""
    rng = np.random.default_rng(seed)
    train, features, genes = 40, 20, 600
    effect = rng.normal(size=(features, genes)) * 0.08
    x = rng.normal(size=(train + 4000, features))
    y = x @ effect + rng.normal(size=(len(x), genes))
    y = (y - y[:train].mean(0)) / y[:train].std(0)
    x -= x[:train].mean(0)
    units = [f"p{row}" for row in range(len(x))]
    bags = torch.empty(0)
    val = slice(train, train + 8)
    parts = tuple(BagPart(bags, bags, x[rows], units[rows]) for rows in (slice(train), val))
    targets = Targets(y[:train], y[val], np.ones(genes))
    linear, _, _ = fit_ridge((parts[0], parts[1]), targets, (), "zscore")
    _, row = scale_by_slopes(linear, targets, units[val])
    new = x[val.stop :] @ linear.weight + linear.bias
    true = (new * y[val.stop :]).sum() / np.square(new).sum()
    with_mean = (linear.left_out * y[:train]).sum() / np.square(linear.left_out).sum()
    return float(true), row["settings"]["median_slope"], float(with_mean)


def test_slopes_of_a_small_cohort_are_those_of_new_patients() -> None:
    """The mean of the other patients isn't taken for a prediction that points the wrong way."""
    true, fitted, with_mean = np.mean([slopes_of_a_small_cohort(seed) for seed in range(5)], axis=0)
    assert fitted == pytest.approx(true, abs=0.1)
    assert with_mean < 0 < true


def scale_of(genes: int) -> GeneScale:
    scale = GeneScale()
    scale.register_genes(genes)
    scale.gene_mean.fill_(50.0)  # far from 0, where expression is cut off
    return scale


def test_crps_is_that_of_a_gaussian() -> None:
    """Of Gneiting and Raftery (2007), section 4.2, with 39 levels instead of all."""
    rng = np.random.default_rng(5)
    mean, sd = rng.normal(size=(20, 6)), rng.uniform(0.5, 1.5, 6)
    z = rng.normal(size=mean.shape)
    scale = scale_of(6)
    values = scale.restore(torch.tensor(mean + sd * z)).numpy()
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    below = torch.special.ndtr(torch.tensor(z)).numpy()
    exact = (sd * (z * (2 * below - 1) + 2 * density - np.pi**-0.5)).mean(axis=1)
    assert gaussian_crps(scale, mean, sd, values) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.3])
def test_the_factor_is_that_of_the_residuals(factor: float) -> None:
    rng = np.random.default_rng(6)
    mean, sd = rng.normal(size=(300, 40)), rng.uniform(0.5, 1.5, 40)
    scale = scale_of(40)
    values = scale.restore(torch.tensor(mean + factor * sd * rng.normal(size=mean.shape)))
    assert best_factor(scale, mean, sd, values.numpy()) == pytest.approx(factor, rel=0.03)


def test_heavy_tails_ask_for_less_than_their_sd() -> None:
    rng = np.random.default_rng(7)
    residuals = rng.standard_t(3, size=(4000, 10))
    scale, mean = scale_of(10), np.zeros((4000, 10))
    sd = np.sqrt(np.square(residuals).mean(axis=0))
    values = scale.restore(torch.tensor(residuals)).numpy()
    factor = best_factor(scale, mean, sd, values)
    assert 0.65 < factor < 0.9
    inside = np.abs(residuals) < 0.674 * sd * factor
    assert abs(inside.mean() - 0.5) < abs((np.abs(residuals) < 0.674 * sd).mean() - 0.5)
