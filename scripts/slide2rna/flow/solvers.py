"""Flow matching: paths between noise and expression, the loss, ODE solvers, the posterior mean.

Everything here is about a velocity field as a function; the network is in model.py. Time t runs
from 0 (standard normal noise x0) to 1 (expression x1), as in Eq. 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from slide2rna.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
from slide2rna.flow.path import Path

Velocity = Callable[["Tensor", "Tensor"], "Tensor"]
"""(x (B, G), t ()) -> v (B, G)."""

# Evaluations of the field in one step.
SOLVERS = {"exponential": 1, "euler": 1, "heun": 2, "midpoint": 2}


def evaluations(solver: str, steps: int) -> int:
    """How often `solve` evaluates the field.

    Raises
    ------
    ConfigError
        There is no such solver.
    """
    if solver not in SOLVERS:
        *first, last = SOLVERS
        names = f"{', '.join(first)} or {last}"
        raise ConfigError("sample.solver", f"'{solver}' is unknown", f"use {names}")
    return SOLVERS[solver] * steps


def solve(
    velocity: Velocity,
    x0: Tensor,
    steps: int,
    solver: str = "euler",
    path: Path | None = None,
    sd: Tensor | None = None,
) -> Tensor:
    """Integrate Eq. 9 from t = 0 to 1 in exactly `steps` equal steps.

    Parameters
    ----------
    velocity
        The field v(x, t).
    x0
        (B, G) noise.
    steps
        Number of steps N; `euler` and `exponential` evaluate the field N times, `heun` and
        `midpoint` 2N times.
    solver
        `euler`, `heun` (explicit trapezoid) and `midpoint` (both second order), or `exponential`:
        the field is split into its Gaussian part and the rest, v = k x + c m, and x moves along the
        exact solution for a frozen m, x(t2) = alpha2 m + r (x(t1) - alpha1 m) with
        r^2 = D(t2)/D(t1); m is extrapolated to the middle of the step from its last two values
        (two-step Adams-Bashforth, second order). It is exact for Gaussian laws at any number of
        steps, where Euler with 20 steps makes draws about 6 % too narrow.
    path, sd
        `exponential` only: the interpolant, and the (G,) or scalar sd of the Gaussian part.

    Returns
    -------
    Tensor
        (B, G) draws.

    Raises
    ------
    ConfigError
        There is no such solver.

    Notes
    -----
    None is adaptive. An adaptive pair chooses its steps by the error over all rows of a batch, so
    draws would depend on what shares their batch, by as much as its tolerance; and at errors that
    matter here it needs more evaluations than fixed steps do (benchmarks/sampling.py).
    """
    evaluations(solver, steps)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    x, before = x0, None
    for now, then in pairwise(times):
        t1 = torch.tensor(now, dtype=x0.dtype, device=x0.device)
        t2 = torch.tensor(then, dtype=x0.dtype, device=x0.device)
        slope = velocity(x, t1)
        if solver == "euler":
            x = x + (then - now) * slope
        elif solver == "heun":
            ahead = velocity(x + (then - now) * slope, t2)
            x = x + (then - now) / 2 * (slope + ahead)
        elif solver == "midpoint":
            half = x + (then - now) / 2 * slope
            x = x + (then - now) * velocity(half, (t1 + t2) / 2)
        else:
            x, before = _exponential(x, slope, t1, t2, path or Path(), sd, before)
    return x


def _exponential(
    x: Tensor,
    slope: Tensor,
    t1: Tensor,
    t2: Tensor,
    path: Path,
    sd: Tensor | None,
    before: Tensor | None,
) -> tuple[Tensor, Tensor]:
    sd = torch.ones((), dtype=x.dtype, device=x.device) if sd is None else sd
    k, c = path.gaussian(t1, sd)
    mean = (slope - k * x) / c
    middle = mean if before is None else 1.5 * mean - 0.5 * before
    a1, a2, s1, s2 = path.alpha(t1), path.alpha(t2), path.sigma(t1), path.sigma(t2)
    ratio = torch.sqrt((a2 * a2 * sd * sd + s2 * s2) / (a1 * a1 * sd * sd + s1 * s1))
    return ratio * x + (a2 - ratio * a1) * middle, mean


def posterior_mean(velocity: Velocity, x0: Tensor, path: Path) -> tuple[Tensor, Tensor]:
    """E[x1 | y] from one evaluation at t = 0, over antithetic noise.

    At t = 0, x_t is x0 and independent of x1, so an exact field has v = alpha'(0) E[x1 | y] +
    sigma'(0) x0 for every x0. A learned field has it only nearly; the mean over x0 and -x0
    removes what is odd in x0.

    Parameters
    ----------
    velocity
        The conditional field (no guidance).
    x0
        (m, G) noise; used with both signs. The field sees 2m rows per call: m with x0, then m
        with -x0.
    path
        The interpolant.

    Returns
    -------
    mean, spread
        (G,) each; the spread is the standard error of the mean over the m pairs (NaN for m = 1).
    """
    zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
    both = torch.cat([x0, -x0])
    means = (velocity(both, zero) - path.d_sigma(zero) * both) / path.d_alpha(zero)
    pairs = (means[: len(x0)] + means[len(x0) :]) / 2
    if len(pairs) == 1:
        return pairs[0], torch.full_like(pairs[0], torch.nan)
    return pairs.mean(0), pairs.std(0) / math.sqrt(len(pairs))
