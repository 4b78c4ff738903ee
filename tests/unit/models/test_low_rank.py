"""The low-rank ridge against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from slide2rna.models.low_rank import RANKS, LowRankRidge, unit_scale
from slide2rna.models.ridge import PENALTIES, Ridge

SLIDES, FEATURES, GENES, VAL = 40, 9, 25, 12


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(SLIDES + VAL, FEATURES)) * rng.uniform(0.1, 9, FEATURES)
    programmes = rng.normal(size=(FEATURES, 2)) @ rng.normal(size=(2, GENES))
    y = x @ programmes * 0.1 + rng.normal(size=(SLIDES + VAL, GENES)) + 5
    y[:, 3] = 7  # no variance
    return {"x": x[:SLIDES], "y": y[:SLIDES], "x_val": x[SLIDES:], "y_val": y[SLIDES:]}


def test_all_components_are_the_ridge(data: dict[str, np.ndarray]) -> None:
    scale = unit_scale(data["y"])
    assert (scale[3], (scale > 0).sum()) == (0, GENES - 1)
    model = LowRankRidge.fit(data["x"], data["y"], scale)
    rank, penalty, error = model.choose(data["x_val"], data["y_val"], SLIDES, ranks=())
    assert rank == model.basis.shape[1] == GENES - 1
    plain = Ridge.fit(data["x"], data["y"] * scale)
    expected, least = plain.choose(data["x_val"], data["y_val"] * scale, SLIDES)
    assert penalty == expected
    assert error == pytest.approx(least)
    varies = scale > 0
    np.testing.assert_allclose(
        (model.predict(data["x_val"], rank, penalty) * scale)[:, varies],
        plain.predict(data["x_val"], penalty)[:, varies],
        atol=1e-9,
    )


def test_rank_and_penalty_are_those_of_least_val_error(data: dict[str, np.ndarray]) -> None:
    """Every pair, by plain arithmetic; two slides make one sample."""
    scale = unit_scale(data["y"])
    model = LowRankRidge.fit(data["x"], data["y"], scale)
    pool = np.kron(np.eye(VAL // 2), [[0.5, 0.5]])
    truth = (pool @ data["y_val"]) * scale
    errors = {}
    for penalty in PENALTIES * SLIDES:
        full = model.ridge.predict(data["x_val"], penalty) - model.ridge.mean_y
        for rank in [r for r in RANKS if r < model.basis.shape[1]] + [model.basis.shape[1]]:
            basis = model.basis[:, :rank]
            predicted = pool @ (full @ basis @ basis.T) + model.ridge.mean_y
            errors[rank, penalty] = np.square(predicted - truth).mean()
    rank, penalty, error = model.choose(data["x_val"], pool @ data["y_val"], SLIDES, pool)
    assert (rank, penalty) == min(errors, key=lambda key: errors[key])
    assert error == pytest.approx(min(errors.values()))
    assert rank < GENES - 1


def test_the_affine_map_predicts_and_keeps_constants(data: dict[str, np.ndarray]) -> None:
    scale = unit_scale(data["y"])
    model = LowRankRidge.fit(data["x"], data["y"], scale)
    weights, offset = model.affine(3, 40.0)
    basis = model.basis[:, :3]
    scaled = model.ridge.predict(data["x_val"], 40.0) - model.ridge.mean_y
    expected = scaled @ basis @ basis.T + model.ridge.mean_y
    np.testing.assert_allclose(((data["x_val"] @ weights + offset) * scale), expected, atol=1e-9)
    assert not weights[:, 3].any()
    assert offset[3] == 0


def test_left_out_residuals_are_those_of_refits(data: dict[str, np.ndarray]) -> None:
    """Refitted without each group, for fixed components and a fixed scaling of the features."""
    scale = unit_scale(data["y"])
    model = LowRankRidge.fit(data["x"], data["y"], scale)
    groups = [str(row // 3) for row in range(SLIDES)]
    rank, penalty = 4, 30.0
    residuals = model.left_out_residuals(data["x"], data["y"], rank, penalty, groups)
    x = (data["x"] - model.ridge.mean_x) / model.ridge.sd_x
    y, basis = data["y"] * scale, model.basis[:, :rank]
    for group in set(groups):
        out = np.array([name == group for name in groups])
        mean_x, mean_y = x[~out].mean(axis=0), y[~out].mean(axis=0)
        inner = (x[~out] - mean_x).T @ (x[~out] - mean_x) + penalty * np.eye(FEATURES)
        slope = np.linalg.solve(inner, (x[~out] - mean_x).T @ (y[~out] - mean_y))
        predicted = mean_y + (x[out] - mean_x) @ slope @ basis @ basis.T
        expected = (y[out] - predicted) / np.where(scale > 0, scale, 1)
        np.testing.assert_allclose(residuals[out], expected, atol=1e-9)
