"""Neighbour graph: nearest spots within reach, whatever the position, direction and order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide2rna.spatial import graph

SQUARE = np.stack(np.divmod(np.arange(30), 6), axis=1).astype(float)


def edges(made: graph.SpotGraph) -> set[tuple[int, int]]:
    return set(zip(made.target.tolist(), made.source.tolist(), strict=True))


def test_a_border_has_fewer_neighbours_and_a_lone_spot_none() -> None:
    made = graph.build(np.vstack([SQUARE, [[50.0, 50.0]]]), neighbours=4, reach=1.1)
    degree = np.bincount(made.target, minlength=31)
    assert degree[0] == 2
    assert degree[1] == 3
    assert degree[7] == 4
    assert degree[30] == 0
    assert made.distance == pytest.approx(1)
    assert made.weights.sum(axis=1)[:30] == pytest.approx(1)
    assert made.weights.sum(axis=1)[30] == 0


def test_hexagonal_arrays_have_six_neighbours() -> None:
    rows, columns = np.divmod(np.arange(100), 10)
    hexagonal = np.stack([columns + 0.5 * (rows % 2), rows * np.sqrt(3) / 2], axis=1)
    made = graph.build(hexagonal)
    inner = (rows > 0) & (rows < 9) & (columns > 0) & (columns < 9)
    assert set(np.bincount(made.target)[inner]) == {6}
    assert made.distance[inner[made.target]] == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 8))
def test_edges_are_those_of_a_double_loop(seed: int, count: int, most: int) -> None:
    xy = np.random.default_rng(seed).uniform(size=(count, 2))
    made, step = graph.build(xy, neighbours=most), graph.pitch(xy)
    wanted = set()
    for i in range(count):
        away = [(np.linalg.norm(xy[i] - xy[j]), j) for j in range(count) if j != i]
        near = sorted(pair for pair in away if pair[0] <= graph.REACH * step)[:most]
        wanted |= {(i, j) for _, j in near}
    assert edges(made) == wanted


def test_nothing_but_distances_matters() -> None:
    xy = np.random.default_rng(3).uniform(size=(40, 2))
    turned = xy @ np.array([[0.0, 1.0], [-1.0, 0.0]]) * 250 + 7000
    assert edges(graph.build(xy)) == edges(graph.build(turned))
    order = np.random.default_rng(4).permutation(40)
    shuffled = graph.build(xy[order])
    named = {(int(order[i]), int(order[j])) for i, j in edges(shuffled)}
    assert named == edges(graph.build(xy))


def test_cosine_of_both_ends() -> None:
    made = graph.build(SQUARE)
    features = np.random.default_rng(5).normal(size=(30, 4))
    features[8] = 0
    found = made.cosine(features)
    a, b = features[made.target[9]], features[made.source[9]]
    assert found[9] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found[made.target == 8] == pytest.approx(0)
