"""Linear models of spots and the law of their residuals, on a law that is known."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.models.ridge import Ridge
from slide2rna.spatial import linear_models, residual_draws, structure
from slide2rna.spatial.slides import SpotSlide, stacked
from spot_law import NOISE_SD, SpotLaw

COHORT = SpotLaw().cohort()
TRAIN, VAL, TEST = COHORT[:4], COHORT[4:6], COHORT[7]


def score(made: linear_models.SpotRidge, slide: SpotSlide) -> float:
    return float(gene_metrics.pcc(made.predict(slide), slide.target("published"))[0].mean())


def test_residuals_are_those_of_a_fit_without_the_patient() -> None:
    made = linear_models.fit(TRAIN, VAL, "published")
    others = [slide for slide in TRAIN if slide.patient != "P0"]
    x = np.concatenate([slide.features for slide in TRAIN])
    rest = np.concatenate([slide.features for slide in others])
    # The scaling of the features is that of all slides, as in the closed form.
    mean, sd = x.mean(axis=0), x.std(axis=0)
    z, y = (rest - mean) / sd, stacked(others, "published")
    design = np.column_stack([np.ones(len(z)), z])
    shrink = np.diag([0.0, *([made.penalty] * z.shape[1])])
    weights = np.linalg.solve(design.T @ design + shrink, design.T @ y)
    point = np.column_stack([np.ones(256), (TRAIN[0].features - mean) / sd]) @ weights
    np.testing.assert_allclose(made.left_out[0], TRAIN[0].target("published") - point, atol=2e-2)


def test_one_patient_leaves_out_slides() -> None:
    made = linear_models.fit(TRAIN[:2], VAL, "published")
    assert [residuals.shape for residuals in made.left_out] == [(256, 25)] * 2
    inside = TRAIN[0].target("published") - made.predict(TRAIN[0])
    assert np.square(made.left_out[0]).mean() > np.square(inside).mean()


def test_a_slide_in_another_stain_is_read_after_standardising() -> None:
    shifted = TEST.with_features(TEST.features * 1.7 + 3)
    plain = linear_models.fit(TRAIN, VAL, "published")
    own = [linear_models.standardised(slide) for slide in (*TRAIN, *VAL)]
    made = linear_models.fit(own[:4], own[4:], "published")
    assert score(made, linear_models.standardised(shifted)) == pytest.approx(
        score(made, linear_models.standardised(TEST))
    )
    assert np.square(plain.predict(shifted) - plain.predict(TEST)).mean() > 0.1


def test_neighbours_help_where_features_are_noisy() -> None:
    rng = np.random.default_rng(1)
    noisy = [
        slide.with_features(slide.features + 4 * rng.normal(size=slide.features.shape))
        for slide in (*TRAIN, *VAL, TEST)
    ]
    alone = linear_models.fit(noisy[:4], noisy[4:6], "published")
    both = linear_models.fit(noisy[:4], noisy[4:6], "published", linear_models.with_neighbours)
    assert score(both, noisy[6]) > score(alone, noisy[6]) + 0.02


def test_a_kernel_finds_what_is_not_linear() -> None:
    cohort = SpotLaw(squared=True).cohort(5)
    train, val, test = cohort[:6], cohort[6:8], cohort[9]
    inputs = linear_models.kernel_inputs(train, np.random.default_rng(2))
    linear = linear_models.fit(train, val, "published")
    bent = linear_models.fit(train, val, "published", inputs, scaled=False)
    assert score(bent, test) > score(linear, test) + 0.2
    assert isinstance(bent.ridge, Ridge)


def test_residual_draws_have_the_law_of_the_residuals() -> None:
    made = linear_models.fit(TRAIN, VAL, "published")
    val = [slide.target("published") - made.predict(slide) for slide in VAL]
    law = residual_draws.fit(TRAIN, made.left_out, val, 8)
    assert law.sd.mean() == pytest.approx(NOISE_SD, rel=0.15)
    assert law.space.share == pytest.approx(0.6, abs=0.15)
    point, measured = made.predict(TEST), TEST.target("published")
    drawn = law.draw(point, TEST, 60, np.random.default_rng(3))
    assert drawn.shape == (60, 256, 25)
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    assert ((low <= measured) & (measured <= high)).mean() == pytest.approx(0.9, abs=0.05)
    # Neighbours' residuals rise and fall together, in draws as in the truth.
    weights = TEST.graph.weights
    moran = [
        np.nanmean(structure.morans_i(values - point, weights)) for values in (drawn[0], measured)
    ]
    assert moran[0] == pytest.approx(moran[1], abs=0.12)
