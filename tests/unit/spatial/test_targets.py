"""Targets: depth is in the raw one and not in the normalised one."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.spatial import targets

COUNTS = np.array([[0, 3, 7], [1, 0, 15]])
TOTALS = np.array([5000, 2500])


def test_values() -> None:
    raw = targets.transform(COUNTS, TOTALS, "published")
    assert raw[0].tolist() == [0, 2, 3]
    clean = targets.transform(COUNTS, TOTALS, "clean")
    np.testing.assert_allclose(clean[0], raw[0])
    np.testing.assert_allclose(clean[1], np.log2(1 + 2 * COUNTS[1]))
    assert targets.depth(np.array([1, 7])).tolist() == [1, 3]


def test_twice_the_counts_change_the_raw_target_alone() -> None:
    same = targets.transform(2 * COUNTS, 2 * TOTALS, "clean")
    np.testing.assert_allclose(same, targets.transform(COUNTS, TOTALS, "clean"))
    raw = targets.transform(2 * COUNTS, 2 * TOTALS, "published")
    assert (raw > targets.transform(COUNTS, TOTALS, "published")).any()


def test_a_spot_without_counts_has_no_profile() -> None:
    with pytest.raises(ValueError, match="without counts"):
        targets.transform(COUNTS, np.array([0, 5]), "clean")


def test_halves_of_the_counts_add_up() -> None:
    first, second = targets.split_counts(COUNTS, np.random.default_rng(1))
    assert (first + second == COUNTS).all()
    assert (first >= 0).all()
    assert (second >= 0).all()
