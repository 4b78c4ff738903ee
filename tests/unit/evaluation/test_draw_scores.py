"""Scores of draws, a block of genes at a time, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic_cohort
from scipy import sparse
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import draw_scores, folds, sample_scores
from slide2rna.pathways import activity
from slide2rna.pathways.activity import ZScore

LEVELS, SCORE_LEVELS = np.array([0.5, 0.8]), np.array([0.5, 0.9])
GENES, PATHWAYS = 23, 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "BLOCK", 5)


def standardiser(rng: np.random.Generator, genes: int = GENES) -> ZScore:
    members = (rng.random((PATHWAYS, genes)) < 0.4).astype(np.float32)
    members /= members.sum(axis=1, keepdims=True)
    mean, scale = rng.normal(5, 1, genes), rng.uniform(0.5, 2, genes)
    return ZScore(mean.astype(np.float32), scale.astype(np.float32), sparse.csr_matrix(members))


@pytest.mark.parametrize("slides", [1, 3])
def test_a_sample_is_scored_as_by_a_loop_over_genes(slides: int) -> None:
    rng = np.random.default_rng(slides)
    raw = np.maximum(rng.normal(5, 1, size=(slides, 20, GENES)), 0).astype(np.float16)
    truth = rng.normal(5, 1, GENES).astype(np.float32)
    pathways, examples = standardiser(rng), np.array([21, 3, 7])
    wanted = sample_scores.ScoringPlan(LEVELS, SCORE_LEVELS, pathways, examples, np.array([2, 0]))
    found = sample_scores.score_sample(raw, truth, wanted, np.random.default_rng(9))
    uniform = np.random.default_rng(9).random(GENES)
    for gene in range(GENES):
        strata = np.sort(raw[:, :, gene].astype(np.float64), axis=1)
        pooled = np.sort(strata.ravel())
        np.testing.assert_allclose(found["mean"][:, gene], strata.mean(axis=1), rtol=1e-5)
        assert found["variance"][gene] == pytest.approx(pooled.var(ddof=1), rel=1e-4)
        crps = gene_metrics.fair_crps(pooled[None], truth[gene : gene + 1], strata[:, None])
        assert found["crps"][gene] == pytest.approx(crps[0], abs=1e-5)
        pit = gene_metrics.pit(pooled, truth[gene], uniform[gene])
        assert found["pit"][gene] == pytest.approx(pit)
        for index, level in enumerate(LEVELS):
            low, high = gene_metrics.central_interval(pooled, level)
            assert found["inside"][index, gene] == (low <= truth[gene] <= high)
            assert found["width"][index, gene] == pytest.approx(high - low, rel=1e-4)
        if gene in examples:
            ends = gene_metrics.central_interval(pooled, 0.9)
            np.testing.assert_allclose(
                found["ends"][:, list(examples).index(gene)], ends, rtol=1e-5
            )
    z = (raw.reshape(-1, GENES).astype(np.float64) - pathways.mean) * pathways.scale
    scores = pathways.members.toarray() @ z.T
    target = pathways.members.toarray() @ ((truth - pathways.mean) * pathways.scale)
    np.testing.assert_allclose(found["score"], scores.mean(axis=1), atol=1e-5)
    for row in range(PATHWAYS):
        strata = np.sort(scores[row].reshape(slides, 1, 20), axis=2)
        pooled = np.sort(scores[row])
        crps = gene_metrics.fair_crps(pooled[None], target[row : row + 1], strata)
        assert found["score_crps"][row] == pytest.approx(crps[0], abs=1e-5)
        for index, level in enumerate(SCORE_LEVELS):
            low, high = gene_metrics.central_interval(pooled, level)
            assert found["score_inside"][index, row] == (low <= target[row] <= high)
            assert found["score_width"][index, row] == pytest.approx(high - low, abs=1e-5)
            if row in (2, 0):
                ends = found["score_ends"][index, :, [2, 0].index(row)]
                np.testing.assert_allclose(ends, [low, high], atol=1e-5)


def test_moments_are_those_of_the_full_scores_whatever_the_threads(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=30, genes=GENES, draws=20)
    fold = folds.load_fold(synthetic_cohort.load(made), made.inputs.draws[0])
    sets = np.ones((GENES, 1), dtype=bool)
    full, again = (
        draw_scores.score_draws(
            fold,
            sets,
            [0.5],
            standardiser(np.random.default_rng(0)),
            (np.array([1]), np.array([2])),
            1,
            threads,
        )
        for threads in (1, 3)
    )
    light = draw_scores.draw_moments(fold, 2)
    for name in ("slide_mean", "slide_first_draw", "crps", "mean", "first_draw"):
        np.testing.assert_array_equal(getattr(full, name), getattr(light, name), name)
    for name, values in vars(full).items():
        np.testing.assert_array_equal(values, getattr(again, name), name)
    raw = fold.array("draws")[:]
    for row, _ in enumerate(fold.test.samples):
        slides = [fold.rows[fold.test.slide_ids[i]] for i in np.flatnonzero(fold.test.pool[row])]
        of_sample = raw[slides].astype(np.float32)
        np.testing.assert_allclose(full.mean[row], of_sample.mean(axis=(0, 1)), rtol=1e-5)
        np.testing.assert_array_equal(full.first_draw[row], of_sample[0, 0])
