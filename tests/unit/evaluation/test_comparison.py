"""Gene sets, noise floor and the bootstrapped comparison of predictions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from slide2rna.core.parallel import ordered_map
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import comparison
from slide2rna.evaluation.scoring.fold_scores import FoldPredictions


def test_a_map_over_threads_keeps_the_order_and_passes_errors_on() -> None:
    assert list(ordered_map(lambda x: x * x, range(50), 4)) == [x * x for x in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda x: 1 // x, [2, 1, 0], 2))


def test_gene_sets_depend_on_val_alone() -> None:
    rng = np.random.default_rng(0)
    val = rng.normal(size=(12, 50))
    truth = val.copy()
    truth[:, 30:] = rng.normal(size=(12, 20))
    eligible = np.ones(50, dtype=bool)
    eligible[3] = False
    sets = comparison.gene_sets(val, truth, eligible, [20])
    assert sets[:, 0].sum() == 49
    assert sets[:, 1].sum() == 20
    assert not sets[3].any()
    assert sets[:30, 1].sum() == 20


def test_small_sets_are_not_shown_with_few_patients() -> None:
    top = [1000, 500, 200, 100, 50, 20]
    assert comparison.shown_sizes(top, 2000, [8, 8, 9]) == [1000, 500, 200, 100]
    assert comparison.shown_sizes(top, 2000, [20, 25]) == top
    assert comparison.shown_sizes(top, 200, [25]) == [100, 50, 20]


def test_noise_floor_equals_scoring_permuted_rows() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 15, 40))
    eligible = np.ones(40, dtype=bool)
    sets = np.stack([eligible, rng.random(40) < 0.3], axis=1)
    given = FoldPredictions(
        y, {"flow": x}, {}, {"flow": sets}, eligible, y.mean(0), np.ones((2, 15), np.float32)
    )
    orders = np.array([rng.permutation(15) for _ in range(5)])
    got = comparison.noise_floor(given, "flow", orders)
    for row, order in enumerate(orders):
        r, _ = gene_metrics.pcc(x, y[order])
        np.testing.assert_allclose(got[row], [r.mean(), r[sets[:, 1]].mean()], atol=1e-6)


def test_blocks_and_threads_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    folds = []
    for _ in range(2):
        y = rng.normal(5, 1, size=(10, 30))
        predictions = {"flow": y + rng.normal(size=y.shape), "constant": np.ones_like(y)}
        sets = {name: rng.random((30, 2)) < 0.5 for name in predictions}
        counts = rng.multinomial(10, [0.1] * 10, size=6).astype(np.float32)
        folds.append(
            FoldPredictions(y, predictions, {}, sets, np.ones(30, dtype=bool), y.mean(0), counts)
        )
    members = sparse.csr_matrix(np.full((1, 30), 1 / 30, dtype=np.float32))
    whole = comparison.compare(folds, members)
    monkeypatch.setattr(comparison, "BLOCK", 7)
    parts = comparison.compare(folds, members, threads=3)
    for key, values in whole.scores.items():
        np.testing.assert_allclose(values, parts.scores[key], atol=1e-5, err_msg=str(key))
    np.testing.assert_allclose(whole.gene_r, parts.gene_r, atol=1e-6)
    np.testing.assert_allclose(whole.pathway, parts.pathway, atol=1e-5)
