"""Streamed mean, sd and quantiles against numpy's on all draws at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide2rna.sampling import draw_summary
from slide2rna.sampling.draw_summary import KNOTS, QUANTILES, DrawStats

LEVELS = np.array([*QUANTILES.values()])
Law = Callable[[np.random.Generator, int], np.ndarray]


def clipped(shift: float) -> Law:
    return lambda rng, n: np.maximum(rng.standard_normal(n) - shift, 0)


LAWS: dict[str, Law] = {
    "normal": lambda rng, n: 7 + rng.standard_normal(n),
    "bimodal": lambda rng, n: rng.choice([-2, 2], n) + 0.3 * rng.standard_normal(n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "mostly 0": clipped(0.7),
    "often 0": clipped(-0.5),
    "hardly ever above 0": clipped(3.5),
    "constant": lambda rng, n: np.full(n, 3.25),
}


def sample(n: int, seed: int = 0) -> np.ndarray:
    """(n, laws) float32."""
    rng = np.random.default_rng(seed)
    return np.stack([law(rng, n) for law in LAWS.values()], axis=1).astype(np.float32)


def streamed(values: np.ndarray, cuts: list[int]) -> DrawStats:
    stats = DrawStats(values.shape[1])
    for chunk in np.split(values, sorted(cuts)):
        if len(chunk):
            stats.add(chunk)
    return stats


def exact(values: np.ndarray) -> np.ndarray:
    return np.quantile(values.astype(np.float64), LEVELS, axis=0, method="weibull")


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 1500), cuts=st.lists(st.integers(0, 1500), max_size=6))
def test_chunks_do_not_matter(n: int, cuts: list[int]) -> None:
    values = sample(n)
    whole, parts = streamed(values, []).result(), streamed(values, cuts).result()
    assert np.array_equal(whole["quantiles"], parts["quantiles"])
    for name in ("mean", "sd"):
        assert np.allclose(whole[name], parts[name], rtol=1e-6, atol=1e-12)
    wide = values.astype(np.float64)
    assert np.allclose(parts["mean"], wide.mean(axis=0), rtol=1e-6, atol=1e-6)
    assert np.allclose(parts["sd"], wide.std(axis=0, ddof=1), rtol=1e-5, atol=1e-6)
    if n <= KNOTS:
        assert np.allclose(parts["quantiles"], exact(values), rtol=1e-6, atol=1e-7)


def test_sd_beside_a_large_mean() -> None:
    """Merged in float64: sums of squares in float32 would have no digit left."""
    values = (4000 + 0.01 * np.random.default_rng(0).standard_normal((900, 3))).astype(np.float32)
    found = streamed(values, [10, 300, 301]).result()["sd"]
    assert np.allclose(found, values.astype(np.float64).std(axis=0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("n", [513, 700, 3000, 20_000])
def test_in_the_cell_of_the_exact_quantile(n: int) -> None:
    """Whatever the law, no knot lies between the streamed and the exact order statistic."""
    values = sample(n, seed=n)
    found = streamed(values, [100, 1000]).result()["quantiles"].astype(np.float64)
    rank = np.clip(LEVELS * (n + 1), 1, n)
    ordered = np.sort(values, axis=0)
    # p (n + 1) is seldom whole: the exact value is between two order statistics.
    below, above = (ordered[rounded.astype(int) - 1] for rounded in (np.floor(rank), np.ceil(rank)))
    knots = np.sort(values[:KNOTS], axis=0)
    for law, name in enumerate(LAWS):
        edges = np.concatenate([[-np.inf], knots[:, law], [np.inf]])
        floor = edges[np.searchsorted(edges, below[:, law], side="left") - 1]
        ceiling = edges[np.searchsorted(edges, above[:, law], side="right")]
        assert (floor <= found[:, law]).all(), name
        assert (found[:, law] <= ceiling).all(), name
    constant = list(LAWS).index("constant")
    assert (found[:, constant] == 3.25).all()
    zero = ordered[np.ceil(rank).astype(int) - 1] == 0
    assert zero.any()
    assert not found[zero].any()


def test_error_is_a_small_part_of_monte_carlo_error() -> None:
    """As the docstring has it: 1 / sqrt(3 * 512 p (1 - p)) of the quantile's own error."""
    n, genes = 4000, 300
    values = np.random.default_rng(1).random((n, genes)).astype(np.float32)
    found = streamed(values, [500]).result()["quantiles"]
    error = np.sqrt(((found - exact(values)) ** 2).mean(axis=1))
    monte_carlo = np.sqrt(LEVELS * (1 - LEVELS) / n)
    expected = 1 / np.sqrt(3 * KNOTS * LEVELS * (1 - LEVELS))
    assert np.allclose(error / monte_carlo, expected, rtol=0.15)


def test_goes_on_from_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_summary, "GENES_AT_ONCE", 3)
    values = sample(1200)
    whole = streamed(values, [400, 800])
    for cut in (300, 900):
        again = DrawStats.from_state(streamed(values, [400, 800]).state())
        assert again.n == 1200
        paused = DrawStats.from_state(streamed(values[:cut], []).state())
        paused.add(values[cut:])
        assert np.array_equal(paused.result()["quantiles"], whole.result()["quantiles"])
        assert np.allclose(paused.result()["sd"], whole.result()["sd"], rtol=1e-6)


def test_one_draw_has_no_sd() -> None:
    stats = DrawStats(2)
    stats.add(np.array([[1.0, 2.0]], dtype=np.float32))
    found = stats.result()
    assert np.isnan(found["sd"]).all()
    assert (found["quantiles"] == [1, 2]).all()
