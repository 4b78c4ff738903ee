"""ODE solvers for a velocity field, and the posterior mean from its value at t = 0.

The field is any function; the network is in velocity.py. Time t runs from 0 (standard normal noise
x0) to 1 (expression x1), as in Eq. 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from slide2rna.core.errors import ConfigError
from slide2rna.flow.path import Path

if TYPE_CHECKING:
    from torch import Tensor

Velocity = Callable[["Tensor", "Tensor"], "Tensor"]
"""(x (B, G), t ()) -> v (B, G)."""

# Field evaluations per step.
SOLVERS = {"exponential": 1, "euler": 1, "heun": 2, "midpoint": 2}


def evaluations(solver: str, steps: int) -> int:
    """Return the number of field evaluations of `solve`.

    Raises
    ------
    ConfigError
        The solver is unknown.
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
        (two-step Adams-Bashforth, second order). It is exact for Gaussian distributions with any
        number of steps, where Euler with 20 steps makes draws about 6 % too narrow.
    path, sd
        For `exponential` only: the interpolant, and the (G,) or scalar sd of the Gaussian part.

    Returns
    -------
    Tensor
        (B, G) draws.

    Raises
    ------
    ConfigError
        The solver is unknown.

    Notes
    -----
    No solver is adaptive. An adaptive pair chooses its steps by the error over all rows of a batch.
    Draws would then depend on the other rows, by up to the tolerance. At the errors that matter
    here it also needs more evaluations than fixed steps do (benchmarks/sampling.py).
    """
    evaluations(solver, steps)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    x, previous = x0, None
    for now, then in pairwise(times):
        t1 = torch.tensor(now, dtype=x0.dtype, device=x0.device)
        t2 = torch.tensor(then, dtype=x0.dtype, device=x0.device)
        slope = velocity(x, t1)
        if solver == "euler":
            x = x + (then - now) * slope
        elif solver == "heun":
            next_slope = velocity(x + (then - now) * slope, t2)
            x = x + (then - now) / 2 * (slope + next_slope)
        elif solver == "midpoint":
            half = x + (then - now) / 2 * slope
            x = x + (then - now) * velocity(half, (t1 + t2) / 2)
        else:
            x, previous = _exponential(x, slope, t1, t2, path or Path(), sd, previous)
    return x


def _exponential(
    x: Tensor,
    slope: Tensor,
    t1: Tensor,
    t2: Tensor,
    path: Path,
    sd: Tensor | None,
    previous: Tensor | None,
) -> tuple[Tensor, Tensor]:
    sd = torch.ones((), dtype=x.dtype, device=x.device) if sd is None else sd
    k, c = path.gaussian(t1, sd)
    mean = (slope - k * x) / c
    middle = mean if previous is None else 1.5 * mean - 0.5 * previous
    a1, a2, s1, s2 = path.alpha(t1), path.alpha(t2), path.sigma(t1), path.sigma(t2)
    ratio = torch.sqrt((a2 * a2 * sd * sd + s2 * s2) / (a1 * a1 * sd * sd + s1 * s1))
    return ratio * x + (a2 - ratio * a1) * middle, mean


def posterior_mean(velocity: Velocity, x0: Tensor, path: Path) -> tuple[Tensor, Tensor]:
    """Estimate E[x1 | y] from one evaluation at t = 0, over antithetic noise.

    At t = 0, x_t is x0 and independent of x1, so an exact field has v = alpha'(0) E[x1 | y] +
    sigma'(0) x0 for every x0. A learned field satisfies this only approximately; the mean over x0
    and -x0 removes the part that is odd in x0.

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
    signed = torch.cat([x0, -x0])
    means = (velocity(signed, zero) - path.d_sigma(zero) * signed) / path.d_alpha(zero)
    pairs = (means[: len(x0)] + means[len(x0) :]) / 2
    if len(pairs) == 1:
        return pairs[0], torch.full_like(pairs[0], torch.nan)
    return pairs.mean(0), pairs.std(0) / math.sqrt(len(pairs))
