"""The one-standard-error rule."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.training.selection import clearly_better


def better(losses: np.ndarray, reference: np.ndarray) -> bool:
    """Each slide is that of another patient."""
    return clearly_better(losses, reference, [f"P{row}" for row in range(len(losses))])


def test_a_gain_counts_beyond_one_standard_error() -> None:
    reference = np.array([1.0, 2.0, 3.0, 4.0])
    gain = np.array([0.2, 0.0, 0.3, 0.1])
    error = gain.std(ddof=1) / 2
    assert better(reference - gain, reference)
    assert not better(reference - gain + gain.mean() - 0.99 * error, reference)
    assert better(reference - gain + gain.mean() - 1.01 * error, reference)
    assert not better(reference, reference)


def test_one_slide_decides_nothing() -> None:
    assert not better(np.array([0.0]), np.array([9.0]))


def test_slides_of_a_patient_count_once() -> None:
    """Two patients who disagree decide nothing, however many slides one of them has."""
    gain = np.array([0.5] * 9 + [-0.1])
    units = ["A"] * 9 + ["B"]
    assert better(-gain, np.zeros(10))
    assert not clearly_better(-gain, np.zeros(10), units)
    gain[-1] = 0.45
    assert clearly_better(-gain, np.zeros(10), units)


@pytest.mark.parametrize("n", [5, 40])
def test_chance_wins_one_time_in_six(n: int) -> None:
    """Student's t with n - 1 degrees of freedom exceeds 1 with probability .159 to .187."""
    rng = np.random.default_rng(n)
    wins = [better(rng.normal(size=n), np.zeros(n)) for _ in range(4000)]
    assert 0.13 < np.mean(wins) < 0.22
