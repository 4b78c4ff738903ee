"""Ground truth: the law of expression given tissue, from which demo and law cohorts are drawn.

For a patient with tissue shares pi (6 classes) and site in {A, B}, in log2(x+1) units,

    x_g = mu_g(pi) + effect_g [site = B] + shift_g z + sum_j L_gj f_j + psi_g e_g
    mu_g(pi) = log2(1 + sum_k pi_k s_gk),    z | pi ~ Bernoulli(p(pi)),    f, e ~ N(0, I).

mu_g is an area-weighted mixture of per-tissue profiles, as in bulk RNA; it is constant for genes
that don't depend on morphology. Given (pi, site) each gene is a mixture of two Gaussians with
one sd, so mean, sd, cdf and CRPS have closed forms, and quantiles follow by bisection. Draws are
clipped at 0; `headroom` in law.yaml keeps this below one draw in 10^8.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr

from slide2rna.core import seeds
from slide2rna.core.root import ROOT

FILE = ROOT / "resources" / "demo" / "law.yaml"
CLASSES = ("tumour", "stroma", "fat", "lumen", "lymphocytes", "necrosis")
SITES = ("A", "B")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """Parameters of the law for G genes, K = 6 classes and F shared factors."""

    version: int
    genes: tuple[str, ...]
    modules: tuple[str, ...]  # per gene: a class, "subtype" or "none"
    profiles: Floats  # s_gk (G, K), linear units
    effect: Floats  # (G,) log2 units, at site B
    shift: Floats  # (G,) log2 units, at z = 1
    loadings: Floats  # L (G, F)
    noise: Floats  # psi (G,)
    spec: dict[str, Any]  # law.yaml

    @property
    def residual_sd(self) -> Floats:
        """Return the sd of each mixture component (G,)."""
        return np.sqrt(np.square(self.loadings).sum(1) + np.square(self.noise))

    def subtype_probability(self, pi: ArrayLike) -> Floats:
        """Return P(z = 1 | pi), shape pi.shape[:-1]."""
        subtype = self.spec["subtype"]
        excess = np.asarray(pi)[..., 0] - subtype["centre"]
        return expit(subtype["intercept"] + subtype["slope"] * excess)

    def base_mean(self, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return the mean at z = 0.

        Parameters
        ----------
        pi : array (..., K)
            Tissue shares, adding up to 1.
        site : array of "A" or "B" (...,)

        Returns
        -------
        array (..., G)
        """
        at_b = (np.asarray(site) == "B").astype(float)
        return np.log2(1 + np.asarray(pi) @ self.profiles.T) + at_b[..., None] * self.effect

    def mean(self, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return E[x | pi, site] (..., G)."""
        return self.base_mean(pi, site) + self.subtype_probability(pi)[..., None] * self.shift

    def sd(self, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return the sd of x given pi and site (..., G); `site` moves only means and is ignored."""
        p = self.subtype_probability(pi)[..., None]
        return np.sqrt(self.residual_sd**2 + p * (1 - p) * self.shift**2)

    def cdf(self, x: ArrayLike, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return P(X <= x | pi, site) (..., G)."""
        p = self.subtype_probability(pi)[..., None]
        gap = np.asarray(x) - self.base_mean(pi, site)
        scale = self.residual_sd
        return (1 - p) * ndtr(gap / scale) + p * ndtr((gap - self.shift) / scale)

    def quantile(self, q: float, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return the q-quantile of each gene (..., G), by bisection to 1e-9."""
        low = self.base_mean(pi, site) + np.minimum(self.shift, 0) - 10 * self.residual_sd
        high = low + np.abs(self.shift) + 20 * self.residual_sd
        while np.max(high - low) > 1e-9:
            middle = (low + high) / 2
            below = self.cdf(middle, pi, site) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def crps(self, x: ArrayLike, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return the continuous ranked probability score of x under the law (..., G).

        Closed form for Gaussian mixtures: Grimit, Gneiting, Berrocal, Johnson (2006), The
        continuous ranked probability score for circular variables and its application to
        mesoscale forecast ensemble verification, Q. J. R. Meteorol. Soc. 132, Eq. 3.
        """
        p = self.subtype_probability(pi)[..., None]
        gap = np.asarray(x) - self.base_mean(pi, site)
        scale, pair = self.residual_sd, np.sqrt(2.0) * self.residual_sd
        near = (1 - p) * _absolute(gap, scale) + p * _absolute(gap - self.shift, scale)
        same = (p**2 + (1 - p) ** 2) * _absolute(np.zeros_like(self.shift), pair)
        return near - same / 2 - p * (1 - p) * _absolute(self.shift, pair)

    def attainable_r(self, pi: ArrayLike, site: ArrayLike) -> Floats:
        """Return the correlation (G,) of E[x | pi, site] with x over a population (rows of pi)."""
        signal = self.mean(pi, site).var(0)
        return np.sqrt(signal / (signal + np.square(self.sd(pi, site)).mean(0)))

    def sample(
        self, pi: ArrayLike, site: ArrayLike, n: int, rng: np.random.Generator
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Draw `n` joint samples (..., n, G) and their subtypes z (..., n)."""
        pi = np.asarray(pi, float)
        rows = (*pi.shape[:-1], n)
        z = (rng.random(rows) < self.subtype_probability(pi)[..., None]).astype(np.int64)
        x = self.base_mean(pi, site)[..., None, :] + z[..., None] * self.shift
        x = x + rng.standard_normal((*rows, self.loadings.shape[1])) @ self.loadings.T
        x += rng.standard_normal((*rows, len(self.genes))) * self.noise
        return np.maximum(x, 0), z

    def draw(self, pi: ArrayLike, site: ArrayLike, n: int, rng: np.random.Generator) -> Floats:
        """Draw `n` joint samples of all genes for each row of pi, shape (..., n, G)."""
        return self.sample(pi, site, n, rng)[0]

    def patients(self, n: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """Draw shares (n, K) and sites of `n` patients; a fixed share of them comes from site B."""
        pi = _patients(self.spec, n, rng)
        sites = np.repeat("A", n)
        sites[rng.permutation(n)[: round(n * self.spec["site_b_share"])]] = "B"
        return pi, sites.tolist()

    def slide_shares(self, pi: ArrayLike, rng: np.random.Generator) -> Floats:
        """Draw the shares of one slide (K,), close to its patient's."""
        jittered = rng.dirichlet(np.asarray(pi) * self.spec["slide_concentration"])
        return _floored(jittered, self.spec["floor"])


@cache
def load_law(path: Path = FILE) -> Law:
    """Return the law with all its parameters, derived from law.yaml and its seed alone."""
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert tuple(spec["classes"]) == CLASSES, "classes of law.yaml are fixed"
    with open(path.parent / spec["genes"], encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    genes = tuple(row["gene"] for row in rows)
    modules = tuple(row["module"] for row in rows)
    rng = seeds.rng_for(spec["seed"], "law", "genes")
    sd = _between(spec["residual"]["sd"], len(genes), rng)
    effect = _site_effect(spec, len(genes), rng)
    multiple = _shift(spec, np.array(modules), rng)
    profiles, sd = _profiles(spec, modules, sd, effect, multiple, rng)
    loadings, noise = _residual(spec, modules, sd, rng)
    return Law(
        spec["version"], genes, modules, profiles, effect, multiple * sd, loadings, noise, spec
    )


def _absolute(mean: Floats, sd: Floats) -> Floats:
    """Return E|X| of a Gaussian."""
    ratio = mean / sd
    density = np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
    return 2 * sd * density + mean * (2 * ndtr(ratio) - 1)


def _floored(pi: Floats, floor: float) -> Floats:
    return floor + (1 - floor * pi.shape[-1]) * pi


def _patients(spec: dict[str, Any], n: int, rng: np.random.Generator) -> Floats:
    alpha = spec["concentration"] * np.array(list(spec["classes"].values()))
    return _floored(rng.dirichlet(alpha, n), spec["floor"])


def _between(limits: list[float], n: int, rng: np.random.Generator) -> Floats:
    low, high = limits
    return rng.uniform(low, high, n)


def _signs(n: int, positive: float, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(n) < positive, 1.0, -1.0)


def _site_effect(spec: dict[str, Any], n: int, rng: np.random.Generator) -> Floats:
    effect = np.zeros(n)
    hit = rng.permutation(n)[: round(n * spec["site_effect"]["share"])]
    effect[hit] = rng.normal(0, spec["site_effect"]["sd"], len(hit))
    return effect


def _shift(spec: dict[str, Any], modules: NDArray[Any], rng: np.random.Generator) -> Floats:
    """Draw each gene's shift at z = 1 in units of its sd; the module `subtype` comes first."""
    subtype, n = spec["subtype"], len(modules)
    order = rng.permutation(n)
    order = order[np.argsort(modules[order] != "subtype", kind="stable")]
    hit = order[: round(n * subtype["share"])]
    shift = np.zeros(n)
    size = _between(subtype["shift"], len(hit), rng)
    shift[hit] = size * _signs(len(hit), subtype["positive"], rng)
    return shift


def _profiles(
    spec: dict[str, Any],
    modules: tuple[str, ...],
    sd: Floats,
    effect: Floats,
    multiple: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return profiles s_gk (G, K) with the drawn signal strength, and the final sd."""
    morphology, n = spec["morphology"], len(modules)
    home = np.array([CLASSES.index(m) if m in CLASSES else -1 for m in modules])
    sign = _signs(n, morphology["positive"], rng)
    jitter = morphology["jitter"]
    direction = rng.uniform(-jitter, jitter, (n, len(CLASSES)))
    direction[np.arange(n), home] = sign
    direction[home < 0] = 0
    limit = np.where(sign > 0, morphology["max_contrast"], morphology["max_negative"])
    lowest = np.minimum(effect, 0) + np.minimum(multiple, 0) * sd
    lowest += limit * np.minimum(direction.min(1), 0)  # the poorest tissue, alone
    base = np.maximum(_between(spec["base"], n, rng), spec["headroom"] * sd - lowest)
    target = _between(morphology["attainable"], n, rng)
    # var(mu) / (var(mu) + sd^2) = target^2 over a reference population; the few genes with an
    # additional subtype or site effect deviate, as attainable_r shows
    pi = _patients(spec, 400, seeds.rng_for(spec["seed"], "law", "reference"))
    target_spread = target / np.sqrt(1 - target**2) * sd

    def spread(contrast: Floats, rows: NDArray[np.intp]) -> Floats:
        linear = 2 ** (base[rows, None] + contrast[:, None] * direction[rows])
        return np.log2(1 + pi @ linear.T).std(0)

    rows = np.flatnonzero(home >= 0)
    low, high = np.zeros(len(rows)), limit[rows].copy()
    for _ in range(24):
        middle = (low + high) / 2
        short = spread(middle, rows) < target_spread[rows]
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    contrast = np.zeros(n)
    contrast[rows] = (low + high) / 2
    sd = sd.copy()
    sd[rows] *= np.minimum(1, spread(contrast[rows], rows) / target_spread[rows])
    return 2 ** (base[:, None] + contrast[:, None] * direction), sd


def _residual(
    spec: dict[str, Any], modules: tuple[str, ...], sd: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw loadings (G, F), one factor per gene, and noise (G,); a module shares its factor."""
    residual, n = spec["residual"], len(modules)
    names = (*CLASSES, "subtype")
    drawn = rng.integers(0, residual["factors"], n)
    factor = np.array([names.index(m) if m in names else drawn[g] for g, m in enumerate(modules)])
    shared = _between(residual["shared"], n, rng)
    loadings = np.zeros((n, residual["factors"]))
    loadings[np.arange(n), factor % residual["factors"]] = sd * np.sqrt(shared)
    loadings *= _signs(n, residual["positive"], rng)[:, None]
    return loadings, sd * np.sqrt(1 - shared)
