"""Patients of the second law: shares of tissue, states of the tumour, and tiles drawn from them.

A patient's base shares over six classes are Dirichlet; each rare niche (four in law2.yaml) is
present with its probability and then has a log-uniform share rho. Together
pi = (base (1 - sum rho), rho). A tile's class is drawn from pi; a tumour tile has a state
u ~ Beta(m s, (1 - m) s) in [0, 1].

Expression depends on the drawn tiles, summarised by `Tissue`, so a slide's bag of tiles determines
its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slide2rna.simulate.ground_truth import CLASSES, SITES, Floats

NICHES = tuple(f"niche_{number}" for number in range(1, 5))  # of law2.yaml
TISSUES = (*CLASSES, *NICHES)  # of law2.yaml, K = 10; the first is tumour
NO_TUMOUR = (0.5, 0.0)  # mean and variance of the state where a slide has no tumour tile

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Patients:
    """Parameters of n patients, from which their tiles are drawn."""

    shares: Floats  # pi (n, K), adding up to 1
    state: Floats  # m (n,)
    concentration: Floats  # s (n,)


@dataclass(frozen=True)
class Tissue:
    """Summary of slides' realised tiles."""

    shares: Floats  # (n, K), adding up to 1
    state: Floats  # (n,) mean of u over tumour tiles
    variance: Floats  # (n,) of u over tumour tiles, divided by their number


@dataclass(frozen=True)
class Tiles:
    """Tiles of n slides by class, and the states of their tumour tiles, slide after slide."""

    counts: Integers  # (n, K)
    states: Floats  # (counts[:, 0].sum(),)

    def summary(self) -> Tissue:
        """Return shares, mean state and its variance; `NO_TUMOUR` where there is no tumour tile."""
        n_tumour = self.counts[:, 0]
        rows = np.repeat(np.arange(len(n_tumour)), n_tumour)
        divisor = np.maximum(n_tumour, 1)
        mean = np.bincount(rows, self.states, len(n_tumour)) / divisor
        squares = np.square(self.states - mean[rows])
        variance = np.bincount(rows, squares, len(n_tumour)) / divisor
        return Tissue(
            self.counts / self.counts.sum(1, keepdims=True),
            np.where(n_tumour > 0, mean, NO_TUMOUR[0]),
            np.where(n_tumour > 0, variance, NO_TUMOUR[1]),
        )


def between(limits: list[float], n: int, rng: np.random.Generator) -> Floats:
    """Draw `n` numbers, uniform between two limits."""
    low, high = limits
    return rng.uniform(low, high, n)


def draw_patients(spec: dict[str, Any], n: int, rng: np.random.Generator) -> Patients:
    """Draw `n` patients; `spec` is law2.yaml, or another of its form."""
    base = rng.dirichlet(spec["concentration"] * np.array(list(spec["classes"].values())), n)
    if "most" in spec:
        k, most = CLASSES.index(spec["most"]["class"]), spec["most"]["share"]
        over = base[:, k] > most
        base[over] *= ((1 - most) / (1 - base[over, k]))[:, None]
        base[over, k] = most
    probability = spec["niches"]["present"]
    present = rng.random((n, len(probability))) < probability
    low, high = np.log(spec["niches"]["share"])
    rho = present * np.exp(rng.uniform(low, high, present.shape))
    shares = np.hstack([base * (1 - rho.sum(1, keepdims=True)), rho])
    state = spec["state"]
    up, down = state["mean"]
    mean = rng.beta(up, down, n)
    precision = 1 / between(state["spread"], n, rng) - 1
    return Patients(shares, mean, np.maximum(precision, state["least"]) + state["least"])


def draw_tiles(spec: dict[str, Any], patients: Patients, rng: np.random.Generator) -> Tiles:
    """Draw the tiles of one slide for each patient."""
    least, most = spec["tiles"]
    total = rng.integers(least, most + 1, len(patients.state))
    counts = rng.multinomial(total, patients.shares)
    rows = np.repeat(np.arange(len(total)), counts[:, 0])
    up = patients.state * patients.concentration
    down = (1 - patients.state) * patients.concentration
    return Tiles(counts, rng.beta(up[rows], down[rows]))


def draw_sites(spec: dict[str, Any], n: int, rng: np.random.Generator) -> list[str]:
    """Draw the sites of `n` patients; a fixed share of them comes from site B."""
    sites = np.repeat(SITES[0], n)
    sites[rng.permutation(n)[: round(n * spec["site_b_share"])]] = SITES[1]
    return sites.tolist()
