"""The one-standard-error rule."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.training.selection import clearly_better


def test_a_gain_counts_beyond_one_standard_error() -> None:
    reference = np.array([1.0, 2.0, 3.0, 4.0])
    gain = np.array([0.2, 0.0, 0.3, 0.1])
    error = gain.std(ddof=1) / 2
    assert clearly_better(reference - gain, reference)
    assert not clearly_better(reference - gain + gain.mean() - 0.99 * error, reference)
    assert clearly_better(reference - gain + gain.mean() - 1.01 * error, reference)
    assert not clearly_better(reference, reference)


def test_one_slide_decides_nothing() -> None:
    assert not clearly_better(np.array([0.0]), np.array([9.0]))


@pytest.mark.parametrize("n", [5, 40])
def test_chance_wins_one_time_in_six(n: int) -> None:
    """Student's t with n - 1 degrees of freedom exceeds 1 with probability .159 to .187."""
    rng = np.random.default_rng(n)
    wins = [clearly_better(rng.normal(size=n), np.zeros(n)) for _ in range(4000)]
    assert 0.13 < np.mean(wins) < 0.22
