"""Scores of maps: known values, patients before slides, and draws that are right."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from slide2rna.spatial import kernel, residual_draws, scores
from spot_law import GENES, NOISE, NOISE_SD, SpotLaw

LAW = SpotLaw()
SLIDES = [LAW.slide("A1", "A", 1), LAW.slide("A2", "A", 2), LAW.slide("B1", "B", 3)]
MEAN = np.mean([slide.target("published").mean(axis=0) for slide in SLIDES], axis=0)


def values(rows: list[dict[str, float]]) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in rows}


def test_the_truth_scores_perfectly() -> None:
    slide = SLIDES[0]
    found = values(scores.point_scores(slide.target("clean"), slide, "clean", MEAN))
    for name in ("pcc", "gsc", "ssc_spot", "ssc_moran"):
        assert found[name] == pytest.approx(1)
    assert found["mse"] == 0
    assert found["moran"] == found["moran_truth"]


def test_the_train_mean_has_an_error_ratio_of_one_and_no_structure() -> None:
    slide = SLIDES[0]
    flat = np.tile(MEAN, (len(slide.xy), 1))
    rows = scores.point_scores(flat, slide, "published", MEAN)
    found = values(rows)
    assert found["mse_ratio"] == pytest.approx(1)
    assert found["pcc"] == 0
    for name in ("gsc", "ssc_moran", "moran"):
        assert np.isnan(found[name])
    assert next(row["n"] for row in rows if row["metric"] == "gsc") == 0


def test_draws_of_the_law_itself_are_calibrated() -> None:
    """Around the known mean of the law, with its own noise."""
    slide = SLIDES[2]
    rng = np.random.default_rng(5)
    latent, *_ = np.linalg.lstsq(LAW.mixing.T, slide.features.T, rcond=None)
    law = residual_draws.ResidualLaw(np.full(GENES, NOISE_SD), LAW.loadings, NOISE)
    drawn = law.draw(LAW.mean(latent.T), slide, 100, rng)
    found = values(scores.draw_scores(drawn, slide, "published", rng))
    for level in (50, 80, 90):
        assert found[f"coverage{level}"] == pytest.approx(level / 100, abs=0.04)
    assert found["pit_mean"] == pytest.approx(0.5, abs=0.05)
    assert found["pit_var"] == pytest.approx(1 / 12, abs=0.015)
    narrow = LAW.mean(latent.T) + 0.3 * (drawn - LAW.mean(latent.T))
    assert values(scores.draw_scores(narrow, slide, "published", rng))["crps"] > found["crps"]
    white = residual_draws.ResidualLaw(law.sd, law.loadings, kernel.WHITE)
    rough = white.draw(LAW.mean(latent.T), slide, 20, rng)
    smooth = values(scores.draw_scores(rough, slide, "published", rng))["draw_moran"]
    assert smooth < found["draw_moran"]


def test_few_draws_have_no_wide_intervals() -> None:
    slide = SLIDES[0]
    drawn = np.random.default_rng(6).normal(size=(9, len(slide.xy), GENES))
    found = values(scores.draw_scores(drawn, slide, "clean", np.random.default_rng(7)))
    assert "coverage80" in found
    assert "coverage90" not in found


def test_patients_count_once_whatever_their_slides() -> None:
    rows = [
        {"model": "m", "target": "clean", "slide": name, "patient": name[0], "metric": "pcc"}
        | {"value": value, "n": 5}
        for name, value in (("A1", 0.2), ("A2", 0.4), ("B1", 0.9), ("B2", float("nan")))
    ]
    found = scores.by_patient(pl.DataFrame(rows, schema=scores.SCHEMA))
    assert found.select("patient", "value", "slides", "patients").rows() == [
        ("A", pytest.approx(0.3), 2, 1),
        ("B", pytest.approx(0.9), 1, 1),
        (None, pytest.approx(0.6), 3, 2),
    ]


def test_pooling_rewards_the_level_of_a_slide() -> None:
    """A prediction that is flat within each slide, and right about the slides' levels."""
    lifted = [SLIDES[0], SLIDES[2].with_profiles(SLIDES[2].counts * 16, SLIDES[2].totals * 16)]
    flat = [np.tile(s.target("published").mean(axis=0), (len(s.xy), 1)) for s in lifted]
    assert scores.pooled_pcc(flat, lifted, "published") > 0.5
    for slide, predicted in zip(lifted, flat, strict=True):
        assert values(scores.point_scores(predicted, slide, "published", MEAN))["pcc"] == 0
