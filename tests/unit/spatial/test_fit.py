"""Spatial flow: the ridge with its residuals, and a network only where it is better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.spatial import fit
from slide2rna.spatial.fit import SpotFlow, SpotFlowSettings
from spot_law import SpotLaw

pytestmark = pytest.mark.slow
SMALL = SpotFlowSettings(hidden=32, heads=2, layers=1, dropout=0.0, learning_rate=5e-3, repeats=1)
LINEAR = SpotLaw(side=10).cohort(5)
BENT = SpotLaw(squared=True, side=10).cohort(6)


@pytest.fixture(scope="module")
def bent() -> SpotFlow:
    """Fitted to slides whose counts depend on the square of what the features show."""
    return fit.fit(BENT[:6], BENT[6:10], "published", SMALL, 1)


def pcc(predicted: np.ndarray, measured: np.ndarray) -> float:
    return float(gene_metrics.pcc(predicted, measured)[0].mean())


def test_the_network_is_kept_where_it_helps(bent: SpotFlow) -> None:
    assert bent.network.uses_network
    slide = BENT[11]
    measured = slide.target("published")
    assert pcc(bent.point(slide, 1), measured) > pcc(bent.ridge.predict(slide), measured) + 0.1


def test_draws_are_joint_and_calibrated(bent: SpotFlow) -> None:
    slide = BENT[11]
    measured = slide.target("published")
    drawn = bent.draw(slide, 40, 4, 1)
    low, high = np.quantile(drawn, [0.1, 0.9], axis=0)
    assert ((low <= measured) & (measured <= high)).mean() == pytest.approx(0.8, abs=0.08)
    assert pcc(drawn.mean(axis=0), measured) == pytest.approx(
        pcc(bent.point(slide, 1), measured), abs=0.03
    )


def test_the_same_seed_gives_the_same_draws_whatever_their_number(bent: SpotFlow) -> None:
    slide = BENT[10]
    few, many = bent.draw(slide, 2, 3, 5), bent.draw(slide, 4, 3, 5)
    np.testing.assert_array_equal(few, many[:2])
    assert (bent.draw(slide, 2, 3, 6) != few).any()


def test_without_the_network_draws_are_the_ridge_and_its_residuals(bent: SpotFlow) -> None:
    slide, plain = BENT[11], replace(bent, widening=1.0)
    plain.network.uses_network = False
    try:
        drawn, point = plain.draw(slide, 200, 1, 1), plain.point(slide, 1)
        exact = plain.draw(slide, 2, 7, 1)
    finally:
        plain.network.uses_network = True
    np.testing.assert_allclose(point, plain.ridge.predict(slide))
    sd = plain.network.sd.detach().numpy() * plain.gene_sd
    np.testing.assert_allclose(drawn.std(axis=0).mean(axis=0), sd, rtol=0.1)
    np.testing.assert_allclose(drawn.mean(axis=0), point, atol=6 * sd.max() / 200**0.5)
    np.testing.assert_allclose(exact, drawn[:2], atol=1e-3)


def test_nothing_of_a_test_slide_changes_the_fit() -> None:
    """Fits before and after the counts of another patient are multiplied by a million."""
    quick = replace(SMALL, learning_rate=1e-2)
    train, val, test = LINEAR[:2], LINEAR[2:4], LINEAR[8]
    before = fit.fit(train, val, "clean", quick, 3)
    test.counts[:] *= 10**6
    after = fit.fit(train, val, "clean", quick, 3)
    for a, b in zip(before.network.parameters(), after.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert before.law.space == after.law.space
    np.testing.assert_array_equal(before.law.loadings, after.law.loadings)
