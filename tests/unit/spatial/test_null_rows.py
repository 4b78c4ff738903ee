"""Null rows and oracles behave as what they are."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.spatial import null_rows, structure
from slide2rna.spatial.slides import stacked
from spot_law import SpotLaw

COHORT = SpotLaw().cohort()
TRAIN, TEST = COHORT[:6], COHORT[7]
MEASURED = TEST.target("published")


def pcc(predicted: np.ndarray) -> float:
    return float(gene_metrics.pcc(predicted, MEASURED)[0].mean())


def test_constant_is_the_train_mean_and_flat() -> None:
    found = null_rows.constant(TRAIN, TEST, "published")
    np.testing.assert_allclose(found[5], stacked(TRAIN, "published").mean(axis=0))
    assert np.isnan(structure.gsc(found, MEASURED).value)
    assert pcc(found) == 0


def test_random_spots_have_the_genes_structure_and_no_place() -> None:
    found = null_rows.random_spots(TRAIN, TEST, "published", np.random.default_rng(1))
    assert abs(pcc(found)) < 0.1
    assert structure.gsc(found, MEASURED).value > 0.5
    assert abs(structure.ssc_spot(found, MEASURED).value) < 0.1


def test_shuffled_truth_is_perfect_for_gsc_alone() -> None:
    found = null_rows.shuffled_oracle(TEST, "published", np.random.default_rng(2))
    assert structure.gsc(found, MEASURED).value == pytest.approx(1)
    assert abs(pcc(found)) < 0.1
    moran = structure.morans_i(found, TEST.graph.weights)
    assert abs(np.nanmean(moran)) < 0.1


def test_the_neighbours_know_more_than_nothing() -> None:
    assert pcc(null_rows.neighbour_oracle(TEST, "published")) > 0.5


def test_depth_decides_the_raw_target_and_not_the_normalised_one() -> None:
    """Counts of a slide whose spots differ in depth by a factor of up to 16."""
    rng = np.random.default_rng(3)
    deep = [
        slide.with_profiles(
            rng.binomial(slide.counts, share), rng.binomial(slide.totals, share[:, 0])
        )
        for slide in (*TRAIN, TEST)
        for share in [2.0 ** rng.uniform(-4, 0, (len(slide.xy), 1))]
    ]
    scores = {}
    for kind in ("published", "clean"):
        found = null_rows.totals_oracle(deep[:-1], deep[-1], kind)
        scores[kind] = gene_metrics.pcc(found, deep[-1].target(kind))[0].mean()
    assert scores["published"] > 0.5
    assert scores["clean"] < 0.3


def test_permuted_profiles_stay_on_their_slide() -> None:
    dealt = null_rows.permuted(TRAIN, np.random.default_rng(4))
    for before, after in zip(TRAIN, dealt, strict=True):
        assert sorted(after.totals) == sorted(before.totals)
        assert (after.counts.sum(axis=0) == before.counts.sum(axis=0)).all()
        assert (after.totals != before.totals).any()
        assert after.features is before.features


def test_halves_agree_better_the_more_counts_there_are() -> None:
    few = TEST.with_profiles(TEST.counts // 20, TEST.totals // 20)
    agreement = []
    for slide in (few, TEST):
        halves = null_rows.noise_ceiling(slide, "clean", np.random.default_rng(5))
        agreement.append(float(gene_metrics.pcc(*halves)[0].mean()))
    assert agreement[0] < agreement[1]
    assert agreement[1] > 0.9
