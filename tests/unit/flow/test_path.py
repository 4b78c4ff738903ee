"""Paths, solvers, guidance and the posterior mean against Gaussian laws in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from slide2rna.core.errors import ConfigError
from slide2rna.flow import solvers
from slide2rna.flow.path import Path, loss
from torch import Tensor

PATHS = [Path("linear"), Path("logistic")]
MEAN, SD = 1.5, 0.4


def exact(path: Path, mean: float = MEAN, sd: float = SD) -> solvers.Velocity:
    """Eq. 12 for x1 ~ N(mean, sd^2): alpha' E[x1 | x] + sigma' E[x0 | x], by regression."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        a, s = path.alpha(t), path.sigma(t)
        residual = (x - a * mean) / (a * a * sd * sd + s * s)
        return path.d_alpha(t) * (mean + a * sd * sd * residual) + path.d_sigma(t) * s * residual

    return velocity


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_path_ends_and_derivatives(path: Path) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(path.alpha(ends), ends, atol=1e-12)
    assert torch.allclose(path.sigma(ends), 1 - ends, atol=1e-12)
    t = torch.linspace(0, 1, 11, dtype=torch.float64, requires_grad=True)
    for value, slope in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        (found,) = torch.autograd.grad(value(t).sum(), t)
        assert torch.allclose(found, slope(t), atol=1e-12)
    x0, x1 = torch.randn(11, 3).double(), torch.randn(11, 3).double()
    x_t, target = path.interpolate(x0, x1, t.detach()[:, None])
    assert torch.allclose(x_t[0], x0[0])
    assert torch.allclose(x_t[-1], x1[-1])
    h = 1e-6
    ahead, _ = path.interpolate(x0, x1, t.detach()[:, None] + h)
    assert torch.allclose((ahead - x_t) / h, target, atol=1e-4)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_gaussian_coefficients_are_the_exact_velocity(path: Path) -> None:
    x = torch.randn(7, dtype=torch.float64)
    for t in torch.linspace(0, 1, 6, dtype=torch.float64):
        k, c = path.gaussian(t, torch.tensor(SD, dtype=torch.float64))
        assert torch.allclose(k * x + c * MEAN, exact(path)(x, t), atol=1e-12)
        assert torch.allclose(c, path.d_alpha(t) - k * path.alpha(t), atol=1e-12)


def test_posterior_mean_is_exact_without_noise() -> None:
    x0 = torch.randn(3, 5, dtype=torch.float64)
    for path in PATHS:
        mean, spread = solvers.posterior_mean(exact(path), x0, path)
        assert torch.allclose(mean, torch.full_like(mean, MEAN), atol=1e-12)
        assert torch.allclose(spread, torch.zeros_like(spread), atol=1e-12)
    mean, spread = solvers.posterior_mean(exact(PATHS[0]), x0[:1], PATHS[0])
    assert spread.isnan().all()


def test_antithetic_pairs_cancel_odd_errors() -> None:
    """A field with an error odd in x keeps its mean; the spread shows an even error."""
    x0 = torch.randn(64, 2, dtype=torch.float64)
    mean, spread = solvers.posterior_mean(lambda x, t: exact(PATHS[0])(x, t) + x**3, x0, PATHS[0])
    assert torch.allclose(mean, torch.full_like(mean, MEAN), atol=1e-10)
    _, wide = solvers.posterior_mean(lambda x, t: exact(PATHS[0])(x, t) + x**2, x0, PATHS[0])
    assert (wide > 0.05).all()
    assert (spread < 1e-10).all()


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_solvers_converge_at_their_order(solver: str, order: int, path: Path) -> None:
    """The flow of a Gaussian carries x0 to mean + sd x0."""
    x0 = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    truth = MEAN + SD * x0
    errors = [
        float((solvers.solve(exact(path), x0, steps, solver) - truth).abs().max())
        for steps in (80, 160)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_exponential_is_exact_for_gaussians(path: Path, steps: int) -> None:
    x0 = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    sd = torch.tensor([SD], dtype=torch.float64)
    found = solvers.solve(exact(path), x0, steps, "exponential", path, sd)
    assert torch.allclose(found, MEAN + SD * x0, atol=1e-12)


def test_exponential_is_second_order_where_its_sd_is_wrong() -> None:
    x0 = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    sd = torch.tensor([0.8], dtype=torch.float64)
    path = PATHS[0]
    errors = [
        float(
            (solvers.solve(exact(path), x0, n, "exponential", path, sd) - MEAN - SD * x0)
            .abs()
            .max()
        )
        for n in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) > 1.6


def test_euler_makes_draws_too_narrow_at_20_steps() -> None:
    x0 = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    field = exact(PATHS[0], 0.0, 1.0)
    euler = solvers.solve(field, x0, 20, "euler")[1, 0]
    assert 0.92 < float(euler) < 0.96
    assert float(solvers.solve(field, x0, 20, "exponential")[1, 0]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("solver", "calls", "last"),
    [("euler", 7, 6 / 7), ("heun", 14, 1), ("midpoint", 14, 6.5 / 7), ("exponential", 7, 6 / 7)],
)
def test_number_of_evaluations(solver: str, calls: int, last: float) -> None:
    times: list[float] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t))
        return torch.zeros_like(x)

    solvers.solve(velocity, torch.zeros(1, 1), 7, solver)
    assert len(times) == calls == solvers.evaluations(solver, 7)
    assert times[0] == 0
    assert max(times) == pytest.approx(last)


def test_loss_counts_active_genes_only() -> None:
    target = torch.zeros(2, 3)
    velocity = torch.tensor([[1.0, 2.0, 9.0], [3.0, 0.0, 9.0]])
    active = torch.tensor([1.0, 1.0, 0.0])
    assert float(loss(velocity, target, active)) == pytest.approx((1 + 4 + 9) / 4)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="linear or logistic"):
        Path("cubic")
    with pytest.raises(ConfigError, match="exponential, euler, heun or midpoint"):
        solvers.solve(exact(PATHS[0]), torch.zeros(1, 1), 2, "rk4")
