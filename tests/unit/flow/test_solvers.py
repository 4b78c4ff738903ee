"""Solvers on laws that aren't Gaussian, against the exact map of their flow."""

from __future__ import annotations

import json
import math

import pytest
import torch
from normal_mixtures import BIMODAL, LAWS, SKEWED, Mixture, quantile_grid
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from slide2rna.flow import solvers
from slide2rna.flow.path import Path

torch.set_num_threads(1)
PATHS = [Path("linear"), Path("logistic")]


def error(law: Mixture, solver: str, steps: int, path: Path = PATHS[0]) -> float:
    """Root mean square distance from the exact end, in units of the law's sd."""
    x0 = quantile_grid()
    sd = torch.tensor([law.sd], dtype=torch.float64)
    ends = solvers.solve(lambda x, t: law.velocity(x, t, path), x0, steps, solver, path, sd)
    return float((ends - law.carried(x0)).square().mean().sqrt()) / law.sd


def test_the_law_is_its_own_oracle() -> None:
    """One normal is carried to mean + sd x0, and many small steps reach a mixture's exact map."""
    x0 = quantile_grid(21)
    assert torch.allclose(Mixture((1.0,), (0.3,), (0.6,)).carried(x0), 0.3 + 0.6 * x0, atol=1e-10)
    assert error(BIMODAL, "midpoint", 320) < 3e-5


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("solver", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("exponential", 2)]
)
@pytest.mark.parametrize("law", [BIMODAL, SKEWED], ids=["bimodal", "skewed"])
def test_order(law: Mixture, solver: str, order: int, path: Path) -> None:
    found = math.log2(error(law, solver, 60, path) / error(law, solver, 120, path))
    assert found == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_twenty_evaluations_are_enough(law: Mixture) -> None:
    """At 20 evaluations second order is within 2 % of the law's sd, and Euler is not."""
    for solver in ("exponential", "heun", "midpoint"):
        steps = 20 // solvers.SOLVERS[solver]
        assert error(law, solver, steps) < 0.02
    assert error(law, "euler", 20) > 0.03


@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_any_number_of_steps(solver: str) -> None:
    errors = [error(SKEWED, solver, steps) for steps in (1, 2, 3, 5, 8, 13)]
    assert all(math.isfinite(value) for value in errors)
    assert errors[-1] < errors[2] < errors[0]


def test_config_lists_every_solver() -> None:
    for solver in solvers.SOLVERS:
        config.parse_settings("sample", json.dumps({"solver": solver}))
    names = ", ".join(solvers.SOLVERS)
    with pytest.raises(ConfigError, match=names):
        config.parse_settings("sample", json.dumps({"solver": "dopri5"}))
    assert solvers.evaluations("midpoint", 5) == 10
    with pytest.raises(ConfigError, match="'dopri5'"):
        solvers.evaluations("dopri5", 5)
