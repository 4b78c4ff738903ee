"""Second law: expression as a nonlinear function of a slide's tiles, with exact limits.

For a slide with shares pi (10 tissues), mean m and variance V of the tumour tiles' state u, in
log2(x+1) units,

    x_g = base_g + unit_g mu_g(pi, m, V) + effect_g [site = B] + sum_j L_gj f_j + psi_g e_g,

f, e ~ N(0, I). `law2` has no effect of the site, and `demo` draws its painted slides and their
expression from the same formulas with other parameters (resources/demo/demo.yaml), 7 tissues and no
features: its tiles are painted.

mu_g depends on the gene's module (`Effects`). A tile's features are E_k + u D [k = tumour] + noise,
linear in (class, u): the mean over tiles spans (pi, pi_0 m) and nothing else.

The residual variance is var(mu_g) (1/t_g^2 - 1) over a reference population, so without an effect
of the site t_g is the correlation of the mean with expression, which no predictor exceeds, and
t_g sqrt(R2), with R2 of regressing mu_g on (pi, pi_0 m), is the limit of every predictor that is
linear in the mean of the tiles. A site's effect is known to both and adds its variance to the
explained. Both hold up to the reference's finite number of patients.
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
from scipy.special import expit

from slide2rna.core import seeds
from slide2rna.core.root import ROOT
from slide2rna.simulate import mixture_patients
from slide2rna.simulate.ground_truth import CLASSES, Floats
from slide2rna.simulate.mixture_patients import TISSUES, Integers, Tissue, between

FILE = ROOT / "resources" / "demo" / "law2.yaml"
MODULES = ("none", "linear", "purity", "rare", "and", "hetero")
NO_FEATURES = {"dim": 0, "class_sd": 1.0, "state_sd": 1.0}
TUMOUR, LYMPHOCYTES = TISSUES.index("tumour"), TISSUES.index("lymphocytes")


@dataclass(frozen=True)
class Effects:
    """Parameters of mu_g for G genes; with sigmoid S, by module:

    - none: 0;
    - linear: log2(1 + (2^(s c) - 1) pi_home), a base class: drawn, or the gene's in the list;
    - purity: log2(pi_0 2^(b (2m - 1)) + (1 - pi_0) 2^-4), a log of a sum of compartments;
    - rare: log2(1 + 2^C rho_home), a niche, saturating;
    - and: 3 s S((pi_4 - tau) / .03) S((m - .5) / .08), lymphocytes where the tumour is high-grade;
    - hetero: s V / .1, which the mean over tiles doesn't contain.
    """

    modules: NDArray[np.str_]  # (G,)
    home: Integers  # (G,) place among the tissues for `linear` and `rare`, -1 for the others
    size: Floats  # (G,) signed: s c, b, C, 3 s, s / .1 in the order of MODULES; 0 for `none`
    threshold: Floats  # tau (G,) of `and`, 0 for the others
    spec: dict[str, Any]  # law2.yaml

    def mean(self, shares: ArrayLike, state: ArrayLike, variance: ArrayLike) -> Floats:
        """Return mu (..., G) in log2 units, without base and unit.

        Parameters
        ----------
        shares : array (..., K)
            Shares of the tiles, adding up to 1.
        state, variance : array (...,)
            Mean and variance of u over the tumour tiles.
        """
        pi = np.asarray(shares, float)
        m, spread = (np.asarray(value, float)[..., None] for value in (state, variance))
        tumour, immune = pi[..., [TUMOUR]], pi[..., [LYMPHOCYTES]]
        mu = np.zeros((*pi.shape[:-1], len(self.modules)))
        rows = {module: np.flatnonzero(self.modules == module) for module in MODULES}
        size = {module: self.size[rows[module]] for module in MODULES}

        home_share = pi[..., self.home[rows["linear"]]]
        mu[..., rows["linear"]] = np.log2(1 + (2 ** size["linear"] - 1) * home_share)
        others = (1 - tumour) * 2 ** self.spec["purity"]["others"]
        mu[..., rows["purity"]] = np.log2(tumour * 2 ** (size["purity"] * (2 * m - 1)) + others)
        niche = pi[..., self.home[rows["rare"]]]
        mu[..., rows["rare"]] = np.log2(1 + 2 ** size["rare"] * niche)
        product = self.spec["and"]
        inflamed = expit((immune - self.threshold[rows["and"]]) / product["share_width"])
        high_grade = expit((m - product["state"]) / product["state_width"])
        mu[..., rows["and"]] = size["and"] * inflamed * high_grade
        mu[..., rows["hetero"]] = size["hetero"] * spread
        return mu


@dataclass(frozen=True)
class MixtureLaw:
    """Parameters of the second law for G genes, K tissues, F shared factors, d features."""

    version: int
    genes: tuple[str, ...]
    modules: tuple[str, ...]  # per gene, one of MODULES
    effects: Effects
    unit: Floats  # (G,) multiplies mu and its noise: 1, or less for a gene with a wide range
    base: Floats  # (G,) log2 units
    site_effect: Floats  # (G,) log2 units, added at site B
    loadings: Floats  # L (G, F)
    noise: Floats  # psi (G,)
    attainable: Floats  # (G,), 0 for `none` without an effect of the site
    linear_limit: Floats  # (G,), the same
    centres: Floats  # E (K, d); d = 0 for a law of painted tiles
    direction: Floats  # D (d,)
    spec: dict[str, Any]  # law2.yaml

    @property
    def sd(self) -> Floats:
        """Return the sd (G,) of x given the tiles: factors and noise together."""
        return np.sqrt(np.square(self.loadings).sum(1) + np.square(self.noise))

    def mean(
        self, shares: ArrayLike, state: ArrayLike, variance: ArrayLike, site: ArrayLike = "A"
    ) -> Floats:
        """Return E[x | tiles, site] (..., G); tiles as in `Effects.mean`, site "A" or "B"."""
        at_b = (np.asarray(site) == "B").astype(float)
        mu = self.effects.mean(shares, state, variance)
        return self.base + self.unit * mu + at_b[..., None] * self.site_effect

    def draw(
        self,
        shares: ArrayLike,
        state: ArrayLike,
        variance: ArrayLike,
        rng: np.random.Generator,
        site: ArrayLike = "A",
    ) -> Floats:
        """Draw one joint sample of all genes per slide (..., G), at least 0."""
        x = self.mean(shares, state, variance, site)
        factors = rng.standard_normal((*x.shape[:-1], self.loadings.shape[1]))
        x += factors @ self.loadings.T + rng.standard_normal(x.shape) * self.noise
        return np.maximum(x, 0)

    def tile_features(self, classes: Integers, states: Floats, rng: np.random.Generator) -> Floats:
        """Draw features (n, d) of tiles from their class and state (n,), which only tumour has."""
        tumour_state = np.where(classes == TUMOUR, states, 0.0)
        features = self.centres[classes] + tumour_state[:, None] * self.direction
        noise_sd = self.spec["features"]["noise_variance"] ** 0.5
        return features + rng.normal(0, noise_sd, features.shape)


@cache
def load_mixture_law(path: Path = FILE) -> MixtureLaw:
    """Return the law with all its parameters, derived from its file and the seed there alone."""
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert tuple(spec["classes"]) == CLASSES, "the base classes are fixed"
    with open(path.parent / spec["genes"], encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    modules = np.array([row["module"] for row in rows])
    rng = seeds.rng_for(spec["seed"], "law2", "genes")
    homes = [row.get("home") or "" for row in rows]
    effects = _effects(spec, modules, homes, rng)
    has_signal = modules != "none"
    attainable = np.where(has_signal, between(spec["attainable"], len(rows), rng), 0)
    none_sd = between(spec["residual"]["none_sd"], len(rows), rng)
    base = between(spec["base"], len(rows), rng)

    tissue = reference(spec)
    mu = effects.mean(tissue.shares, tissue.state, tissue.variance)
    divisor = np.where(has_signal, attainable, 1)  # no division by 0
    sd = np.where(has_signal, mu.std(0) * np.sqrt(1 / divisor**2 - 1), none_sd)
    room = spec["headroom"] * sd
    unit = np.minimum(1, spec["span"] / (mu.max(0) - mu.min(0) + 2 * room))
    site_effect, at_b = _site_effect(spec, len(rows)), spec["site_b_share"]
    base = np.maximum(base, unit * (room - mu.min(0)) - np.minimum(site_effect, 0))
    loadings, noise = _residual(spec, modules, unit * sd, rng)
    of_site = np.square(site_effect) * at_b * (1 - at_b)
    linear_r2 = _linear_r2(mu, tissue)

    def limit(explained: Floats) -> Floats:
        """Return the correlation (G,) of a predictor with this share of mu, and the site."""
        known = np.square(unit) * explained + of_site
        total = np.square(unit) * (mu.var(0) + np.square(sd)) + of_site
        return np.sqrt(known / total)

    axes = seeds.rng_for(spec["seed"], "law2", "features")
    tile = spec.get("features", NO_FEATURES)
    return MixtureLaw(
        version=spec["version"],
        genes=tuple(row["gene"] for row in rows),
        modules=tuple(modules.tolist()),
        effects=effects,
        unit=unit,
        base=base,
        site_effect=site_effect,
        loadings=loadings,
        noise=noise,
        attainable=np.where(of_site > 0, limit(mu.var(0)), attainable),
        linear_limit=np.where(
            of_site > 0, limit(linear_r2 * mu.var(0)), attainable * np.sqrt(linear_r2)
        ),
        centres=axes.normal(0, tile["class_sd"], (tissue.shares.shape[1], tile["dim"])),
        direction=axes.normal(0, tile["state_sd"], tile["dim"]),
        spec=spec,
    )


def reference(spec: dict[str, Any]) -> Tissue:
    """Draw the reference population's slides; the same on each call."""
    rng = seeds.rng_for(spec["seed"], "law2", "reference")
    patients = mixture_patients.draw_patients(spec, spec["reference"], rng)
    return mixture_patients.draw_tiles(spec, patients, rng).summary()


def _effects(
    spec: dict[str, Any], modules: NDArray[np.str_], homes: list[str], rng: np.random.Generator
) -> Effects:
    """Draw the genes' parameters; each draw is made for all genes and used where it applies."""
    n = len(modules)
    sign = np.where(rng.random(n) < spec["positive"], 1.0, -1.0)
    purity_sign = np.where(rng.random(n) < spec["purity"]["positive"], 1.0, -1.0)
    size = np.zeros(n)
    for module, values in (
        ("linear", sign * between(spec["linear"]["contrast"], n, rng)),
        ("purity", purity_sign * between(spec["purity"]["contrast"], n, rng)),
        ("rare", between(spec["rare"]["level"], n, rng)),
        ("and", sign * spec["and"]["height"]),
        ("hetero", sign / spec["hetero"]["scale"]),
    ):
        size[modules == module] = values[modules == module]
    home = np.full(n, -1)
    base_class = rng.integers(0, len(CLASSES), n)
    niche = rng.integers(0, len(spec["niches"]["present"]), n)
    given = np.array([CLASSES.index(name) if name else -1 for name in homes])
    base_class = np.where(given >= 0, given, base_class)
    home[modules == "linear"] = base_class[modules == "linear"]
    home[modules == "rare"] = len(CLASSES) + niche[modules == "rare"]
    threshold = np.where(modules == "and", between(spec["and"]["threshold"], n, rng), 0)
    return Effects(modules, home, size, threshold, spec)


def _site_effect(spec: dict[str, Any], n: int) -> Floats:
    """Draw the effect of site B on each gene (n,), from a separate stream; 0 without one."""
    site_effect = np.zeros(n)
    if "site_effect" in spec:
        rng = seeds.rng_for(spec["seed"], "law2", "site effect")
        hit = rng.permutation(n)[: round(n * spec["site_effect"]["share"])]
        site_effect[hit] = rng.normal(0, spec["site_effect"]["sd"], len(hit))
    return site_effect


def _residual(
    spec: dict[str, Any], modules: NDArray[np.str_], sd: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw loadings (G, F), one factor per gene, and noise (G,); a module shares its factor."""
    residual, n = spec["residual"], len(modules)
    factor = rng.integers(0, residual["factors"], n)  # stays as drawn for `none`
    for place, module in enumerate(MODULES[1:]):
        factor[modules == module] = place
    shared = between(residual["shared"], n, rng)
    sign = np.where(rng.random(n) < residual["positive"], 1.0, -1.0)
    loadings = np.zeros((n, residual["factors"]))
    loadings[np.arange(n), factor] = sign * sd * np.sqrt(shared)
    return loadings, sd * np.sqrt(1 - shared)


def _linear_r2(mu: Floats, tissue: Tissue) -> Floats:
    """Return R2 (G,) of regressing mu on (pi, pi_0 m); 0 where mu is constant."""
    product = tissue.shares[:, TUMOUR] * tissue.state
    # The last share follows from the others.
    columns = np.column_stack([tissue.shares[:, :-1], product])
    axes, _ = np.linalg.qr(columns - columns.mean(0))
    centred = mu - mu.mean(0)
    total = np.square(centred).sum(0)
    return np.square(axes.T @ centred).sum(0) / np.where(total > 0, total, 1)
