"""Statistics of the train part: each sample once, padding left out, no copy of the bags."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from slide2rna.core.errors import StageError
from slide2rna.data import statistics


def test_statistics_count_each_sample_once() -> None:
    values = np.array([[1.0, 5, 2], [1, 5, 2], [3, 5, 4], [5, 5, 0]], dtype=np.float32)
    mean, sd = statistics.gene_statistics(values, ["a", "a", "b", "c"])
    assert mean.tolist() == [3, 5, 2]
    assert sd.tolist() == [2, 0, 2]
    with pytest.raises(StageError, match="at least 2"):
        statistics.gene_statistics(values[:2], ["a", "a"])
    with pytest.raises(StageError, match="no gene varies"):
        statistics.gene_statistics(values[:, 1:2], ["a", "b", "c", "d"])


def test_feature_statistics_ignore_padding() -> None:
    means = np.array([[[1.0, 7], [3, 7]], [[5, 7], [99, 99]]])
    mean, sd = statistics.feature_statistics(means, np.array([[2.0, 2], [8, 0]]))
    assert mean.tolist() == [3.5, 7]
    assert sd[0] == pytest.approx(np.sqrt(0.25 * 6.25 + 0.25 * 0.25 + 0.5 * 2.25))
    assert sd[1] == 1


def test_feature_statistics_are_the_plain_ones_without_a_copy_of_the_bags() -> None:
    rng = np.random.default_rng(4)
    means = (1e3 + rng.normal(size=(200, 20, 256))).astype(np.float32)
    sizes = rng.integers(0, 9, size=(200, 20)).astype(np.float32)
    rows = range(0, 200, 2)
    weight = (sizes[rows] / sizes[rows].sum(axis=1, keepdims=True, dtype=float) / 100).ravel()
    want = weight @ (flat := means[rows].reshape(-1, 256).astype(float))
    tracemalloc.start()
    mean, sd = statistics.feature_statistics(means, sizes, rows)
    assert tracemalloc.get_traced_memory()[1] < means.nbytes / 10
    tracemalloc.stop()
    wanted = want, np.sqrt(weight @ (flat - want) ** 2)
    np.testing.assert_allclose((mean, sd), wanted, rtol=1e-9)
