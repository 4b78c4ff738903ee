"""Agreement of maps with spots: known values, and nulls that behave as nulls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from slide2rna.evaluation.metrics import spatial

GRID = np.stack([axis.ravel() for axis in np.mgrid[:13, :11]], 1)
NEAR = spatial.neighbours(GRID)


def smooth(count: int, seed: int) -> np.ndarray:
    """Random smooth maps (spots, count)."""
    noise = np.random.default_rng(seed).normal(size=(count, 13, 11))
    return ndimage.gaussian_filter(noise, (0, 2, 2)).reshape(count, -1).T


def test_neighbours_are_one_step_apart() -> None:
    assert (NEAR != NEAR.T).nnz == 0
    rows, columns = NEAR.nonzero()
    assert set(np.abs(GRID[rows] - GRID[columns]).sum(axis=1)) == {1}
    assert NEAR.sum() == 2 * (12 * 11 + 13 * 10)


def test_morans_i_is_the_sum_over_pairs() -> None:
    rng = np.random.default_rng(3)
    kept = rng.permutation(len(GRID))[:60]
    near = spatial.neighbours(GRID[kept])
    values = rng.normal(size=(60, 4))
    z = values - values.mean(axis=0)
    pairs = list(zip(*near.nonzero(), strict=True))
    wanted = [
        60 / len(pairs) * sum(z[i, g] * z[j, g] for i, j in pairs) / (z[:, g] ** 2).sum()
        for g in range(4)
    ]
    assert spatial.morans_i(values, near) == pytest.approx(wanted)


def test_morans_i_of_known_maps() -> None:
    even = np.stack([axis.ravel() for axis in np.mgrid[:8, :8]], 1)
    board = (even.sum(axis=1) % 2).astype(float)
    halves = (even[:, 0] >= 4).astype(float)
    noise = np.random.default_rng(0).normal(size=(64, 400))
    near = spatial.neighbours(even)
    flat = np.ones(64)
    found = spatial.morans_i(np.column_stack([board, halves, flat, noise]), near)
    assert found[0] == pytest.approx(-1)
    # Of 112 pairs 8 lie across the border of the halves.
    assert found[1] == pytest.approx(1 - 2 * 8 / 112)
    assert np.isnan(found[2])
    assert found[3:].mean() == pytest.approx(-1 / 63, abs=0.012)


def test_correlation_is_pearsons_and_0_without_variance() -> None:
    a, b = smooth(3, 1), smooth(3, 2)
    a[:, 2] = 4
    wanted = [np.corrcoef(a[:, g], b[:, g])[0, 1] for g in range(2)]
    assert spatial.correlation(a, b) == pytest.approx([*wanted, 0])


def test_permuted_spots_give_nothing_and_the_spread_of_chance() -> None:
    a = np.random.default_rng(5).normal(size=(143, 1))
    found = spatial.permuted(a, a, 1, times=400)
    assert found.mean() == pytest.approx(0, abs=0.012)
    assert found.std() == pytest.approx(1 / np.sqrt(142), rel=0.12)


def test_shifts_keep_half_of_the_spots_and_move_all_alike() -> None:
    pairs = list(spatial.shifts(GRID))
    moves = set()
    for rows, moved in pairs:
        step = GRID[moved] - GRID[rows]
        assert (step == step[0]).all()
        assert len(rows) >= len(GRID) / 2
        assert np.abs(step[0]).max() >= spatial.NEAR
        moves.add(tuple(step[0]))
    assert len(moves) == len(pairs) > 50


def test_a_map_that_is_displaced_agrees_at_that_shift_alone() -> None:
    noise = np.random.default_rng(4).normal(size=(17, 17, 30))
    truth = noise[:13, :11].reshape(len(GRID), -1)
    moved = noise[3:16, 2:13].reshape(len(GRID), -1)
    found = spatial.shifted(moved, truth, GRID)
    steps = [tuple(GRID[b[0]] - GRID[a[0]]) for a, b in spatial.shifts(GRID)]
    assert found[steps.index((3, 2))] == pytest.approx(1)
    assert (np.delete(found, steps.index((3, 2))) < 0.2).all()


def test_a_right_map_beats_all_shifts_and_a_smooth_wrong_one_does_not() -> None:
    """Smooth maps that have nothing to do with each other: spots permuted are too lenient."""
    truth = smooth(40, 7)
    right = truth + 0.1 * np.random.default_rng(8).normal(size=truth.shape)
    assert spatial.correlation(right, truth).mean() > spatial.shifted(right, truth, GRID).max()
    wide, narrow = [], []
    for seed in range(12):
        one, other = smooth(1, 100 + seed), smooth(1, 200 + seed)
        narrow.append(spatial.permuted(one, other, seed).std())
        wide.append(spatial.shifted(one, other, GRID).std())
    assert np.mean(wide) > 1.5 * np.mean(narrow)


def test_bootstrap_resamples_whole_blocks_for_all_maps_alike() -> None:
    truth = smooth(5, 1)
    blocks = (GRID[:, 0] // 3) * 10 + GRID[:, 1] // 3
    found = spatial.block_bootstrap([truth, truth, -truth], truth, blocks, 1, 20)
    assert found.shape == (20, 3)
    assert found[:, 0] == pytest.approx(np.ones(20))
    assert found[:, 2] == pytest.approx(-np.ones(20))
    noisy = truth + 0.05 * np.random.default_rng(1).normal(size=truth.shape)
    spread = spatial.block_bootstrap([noisy], truth, blocks, 1, 100)[:, 0]
    whole = spatial.correlation(noisy, truth).mean()
    assert spread.min() < whole < spread.max()


def test_genes_are_chosen_by_the_train_sections() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(143, 30))
    noise[:, 4] *= 9
    structured = noise * 0.01
    structured[:, 11] = smooth(1, 3)[:, 0]
    assert 4 in spatial.varying([noise, noise], 3)
    assert spatial.structured([structured, structured], [NEAR, NEAR], 1).tolist() == [11]


def test_counts_are_per_ten_thousand() -> None:
    found = spatial.normalised(np.array([[1, 3], [0, 0]]))
    assert np.expm1(found[0]) == pytest.approx([2500, 7500])
    assert not found[1].any()
