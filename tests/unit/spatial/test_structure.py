"""Structure of maps: closed forms, dense oracles, invariances, and what each is blind to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from slide2rna.spatial import graph, structure

RNG = np.random.default_rng(7)
SIDE = 12
GRID = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), axis=1).astype(float)
NEAR = graph.build(GRID, 1.0, neighbours=4, reach=1.1).weights


def triangle(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix), 1)]


def dense_moran(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Moran's I by its definition, gene by gene, over all pairs of spots."""
    found = []
    for column in values.T:
        z = column - column.mean()
        pairs = sum(
            weights[i, j] * z[i] * z[j] for i in range(len(z)) for j in range(len(z)) if i != j
        )
        found.append(len(z) / weights.sum() * pairs / (z**2).sum())
    return np.array(found)


def test_morans_i_of_a_checkerboard_and_of_a_ramp() -> None:
    board = ((GRID.sum(axis=1) % 2) * 2 - 1)[:, None]
    assert structure.morans_i(board, NEAR) == pytest.approx([-1.0], abs=1e-12)
    ramp = GRID[:, :1]
    assert 0.85 < structure.morans_i(ramp, NEAR)[0] < 1
    assert np.isnan(structure.morans_i(np.ones((len(GRID), 1)), NEAR)[0])


def test_morans_i_equals_its_definition() -> None:
    weights = graph.build(RNG.uniform(size=(40, 2)), 0.2).weights
    values = RNG.normal(size=(40, 3))
    found = structure.morans_i(values, weights)
    np.testing.assert_allclose(found, dense_moran(values, weights.toarray()), rtol=0, atol=1e-10)


def test_moran_z_is_about_0_for_noise_and_large_for_a_ramp() -> None:
    values = np.column_stack([RNG.normal(size=len(GRID)), GRID[:, 0]])
    z = structure.moran_z(values, NEAR, np.random.default_rng(1))
    assert abs(z[0]) < 4
    assert z[1] > 10


def test_gsc_and_ssc_equal_dense_matrices() -> None:
    measured = RNG.normal(size=(30, 8)) @ RNG.normal(size=(8, 8))
    predicted = measured + RNG.normal(size=(30, 8))
    dense = np.corrcoef(triangle(np.corrcoef(predicted.T)), triangle(np.corrcoef(measured.T)))
    assert structure.gsc(predicted, measured).value == pytest.approx(dense[0, 1], abs=1e-10)
    dense = np.corrcoef(triangle(np.corrcoef(predicted)), triangle(np.corrcoef(measured)))
    assert structure.ssc_spot(predicted, measured).value == pytest.approx(dense[0, 1], abs=1e-10)


def test_gsc_is_blind_to_where_and_ssc_is_not() -> None:
    values = RNG.normal(size=(50, 9)) @ RNG.normal(size=(9, 9))
    shuffled = values[RNG.permutation(50)]
    assert structure.gsc(shuffled, values).value == pytest.approx(1)
    assert abs(structure.ssc_spot(shuffled, values).value) < 0.15
    assert structure.ssc_spot(values, values).value == pytest.approx(1)


def test_gsc_of_half_the_signs() -> None:
    """Correlations between the halves change their sign, those within don't."""
    values = RNG.normal(size=(60, 1)) + 0.5 * RNG.normal(size=(60, 6))
    flipped = values * np.array([1, 1, 1, -1, -1, -1])
    sign = np.array([1, 1, 1, -1, -1, -1])
    truth = triangle(np.corrcoef(values.T))
    wanted = np.corrcoef(truth, truth * triangle(np.outer(sign, sign)))[0, 1]
    assert structure.gsc(flipped, values).value == pytest.approx(wanted)


def test_invariances() -> None:
    """Genes' own scales don't move GSC; one scale for all and the spots' order move nothing."""
    measured, predicted = RNG.normal(size=(2, 25, 7))
    scale, order = RNG.uniform(1, 5, 7), RNG.permutation(25)
    gsc, ssc = structure.gsc, structure.ssc_spot
    assert gsc(predicted * scale, measured).value == pytest.approx(gsc(predicted, measured).value)
    for similarity in (gsc, ssc):
        value = similarity(predicted, measured).value
        assert similarity(3 * predicted + 1, measured).value == pytest.approx(value)
        assert similarity(predicted[order], measured[order]).value == pytest.approx(value)


def test_flat_genes_are_left_out_and_counted() -> None:
    measured, predicted = RNG.normal(size=(2, 25, 7))
    predicted[:, 2] = 4
    found = structure.gsc(predicted, measured)
    assert found.columns == 6
    kept = [0, 1, 3, 4, 5, 6]
    assert found.value == pytest.approx(structure.gsc(predicted[:, kept], measured[:, kept]).value)
    assert np.isnan(structure.gsc(np.ones((25, 7)), measured).value)


def test_ssc_moran_is_the_correlation_over_genes() -> None:
    values = sparse.linalg.expm_multiply(
        2 * NEAR - 2 * sparse.eye(len(GRID)), RNG.normal(size=(len(GRID), 10))
    )
    values[:, 5:] = RNG.normal(size=(len(GRID), 5))
    noisy = values + 0.1 * RNG.normal(size=values.shape)
    moran = [structure.morans_i(v, NEAR) for v in (noisy, values)]
    found = structure.ssc_moran(noisy, values, NEAR)
    assert found == pytest.approx((np.corrcoef(*moran)[0, 1], 10))
