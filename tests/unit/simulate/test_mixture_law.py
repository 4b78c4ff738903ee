"""The second law: its formulas and limits, each computed a second way, and the cohort it draws."""

from __future__ import annotations

import csv
import math
from dataclasses import fields

import law_population
import numpy as np
import pytest
from slide2rna.core import files, seeds
from slide2rna.simulate import mixture_law, mixture_patients
from slide2rna.simulate.mixture_law import MODULES, MixtureLaw
from slide2rna.simulate.mixture_patients import TISSUES, Tiles, Tissue

POPULATION = 20_000
TOTALS = {
    "attainable": 228.38766576223122,
    "linear_limit": 164.30409091238164,
    "base": 4673.068152092869,
    "unit": 476.11575103905693,
    "loadings": 310.7090832317536,
    "noise": 487.9700722907146,
    "size": 2161.724980867546,
    "threshold": 11.482754161164259,
    "home": 465,
    "centres": 255.63981251627564,
    "direction": 22.50711291315111,
}  # of version 1, absolute values over genes
SIGMAS = 6  # that a Monte Carlo mean may be off: one gene in 5e8


@pytest.fixture(scope="module")
def law() -> MixtureLaw:
    return mixture_law.load_mixture_law()


@pytest.fixture(scope="module")
def modules(law: MixtureLaw) -> np.ndarray:
    return np.array(law.modules)


@pytest.fixture(scope="module")
def population(law: MixtureLaw) -> Tissue:
    return law_population.draw(law, POPULATION)


@pytest.fixture(scope="module")
def mean(law: MixtureLaw, population: Tissue) -> np.ndarray:
    return law.mean(population.shares, population.state, population.variance)


def test_law_is_frozen(law: MixtureLaw) -> None:
    """Version 1, committed before any model saw it: another law needs another version."""
    digests = {
        name: files.sha256sum(mixture_law.FILE.parent / name)
        for name in (mixture_law.FILE.name, law.spec["genes"])
    }
    assert digests == {
        "law2.yaml": "f6966c2e7321df70c4c51d02e9e4b3c50d2bfa0e0501a7146ac4eb10467abf76",
        "genes2.tsv": "880aeb835bbd021b5923a5cbcbe11b7a1e0221a424770de6515f23e0d5584138",
    }
    assert law.version == 1
    total = {
        name: np.abs(getattr(law, name)).sum()
        for name in ("attainable", "linear_limit", "base", "unit", "loadings", "noise")
    } | {
        "size": np.abs(law.effects.size).sum(),
        "threshold": law.effects.threshold.sum(),
        "home": law.effects.home.sum(),
        "centres": np.abs(law.centres).sum(),
        "direction": np.abs(law.direction).sum(),
    }
    assert total == pytest.approx(TOTALS, rel=1e-6)


def test_genes_come_from_the_first_law(law: MixtureLaw, modules: np.ndarray) -> None:
    with open(mixture_law.FILE.parent / "genes.tsv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert list(law.genes) == sorted(set(law.genes))
    assert len(law.genes) == 480
    assert set(law.spec["modules"]) == set(MODULES)
    for module, source in law.spec["modules"].items():
        first = [row["gene"] for row in rows if row["module"] == source][:80]
        assert [law.genes[g] for g in np.flatnonzero(modules == module)] == first


def test_law_restores_identically(law: MixtureLaw) -> None:
    again = mixture_law.load_mixture_law.__wrapped__()
    assert again is not law
    for field in fields(MixtureLaw):
        if field.name != "effects":
            np.testing.assert_array_equal(getattr(again, field.name), getattr(law, field.name))
    np.testing.assert_array_equal(again.effects.size, law.effects.size)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def transcribed(law: MixtureLaw, g: int, pi: list[float], m: float, v: float) -> float:
    """mu_g, one gene and one slide at a time, from the page that defines it."""
    size, home = float(law.effects.size[g]), int(law.effects.home[g])
    match law.modules[g]:
        case "linear":
            return math.log2(1 + (2**size - 1) * pi[home])
        case "purity":
            return math.log2(pi[0] * 2 ** (size * (2 * m - 1)) + (1 - pi[0]) * 2**-4)
        case "rare":
            return math.log2(1 + 2**size * pi[home])
        case "and":
            lymphocytes = sigmoid((pi[4] - float(law.effects.threshold[g])) / 0.03)
            return size * lymphocytes * sigmoid((m - 0.5) / 0.08)
        case "hetero":
            return math.copysign(1, size) * v / 0.1
    return 0.0


def test_mean_is_the_formulas(law: MixtureLaw, population: Tissue, mean: np.ndarray) -> None:
    for i in range(6):
        pi = population.shares[i].tolist()
        m, v = float(population.state[i]), float(population.variance[i])
        mu = np.array([transcribed(law, g, pi, m, v) for g in range(len(law.genes))])
        np.testing.assert_allclose(mean[i], law.base + law.unit * mu, rtol=1e-12)
        np.testing.assert_allclose(law.mean(pi, m, v), mean[i], rtol=1e-12)  # a slide alone


def test_parameters_lie_where_the_definition_says(law: MixtureLaw, modules: np.ndarray) -> None:
    size, home = law.effects.size, law.effects.home
    limits = {"linear": (2, 5), "purity": (2, 4), "rare": (6, 9), "and": (3, 3), "hetero": (10, 10)}
    for module, (low, high) in limits.items():
        sizes = np.abs(size[modules == module])
        assert low <= sizes.min() <= sizes.max() <= high, module
    assert (size[modules == "none"] == 0).all()
    assert (size[modules == "rare"] > 0).all()
    assert 20 < (size[modules == "purity"] > 0).sum() < 60
    assert set(home[modules == "linear"]) == set(range(6))
    assert set(home[modules == "rare"]) == set(range(6, 10))
    assert set(home[~np.isin(modules, ["linear", "rare"])]) == {-1}
    threshold = law.effects.threshold[modules == "and"]
    assert 0.08 <= threshold.min() < 0.1 < 0.18 < threshold.max() <= 0.2
    signal = law.attainable[modules != "none"]
    assert 0.3 <= signal.min() < 0.32 < 0.83 < signal.max() <= 0.85
    assert (law.attainable[modules == "none"] == 0).all()


def test_attainable_is_the_correlation_with_the_mean(
    law: MixtureLaw, population: Tissue, mean: np.ndarray, modules: np.ndarray
) -> None:
    rng = seeds.rng_for(1, "test", "attainable")
    x = law.draw(population.shares, population.state, population.variance, rng)
    signal = modules != "none"
    one, other = mean[:, signal] - mean[:, signal].mean(0), x[:, signal] - x[:, signal].mean(0)
    r = (one * other).mean(0) / (one.std(0) * other.std(0))
    gap = r - law.attainable[signal]
    # sd of r is at most 1/sqrt(n); the two populations' sd of the mean differ by 1 % or so
    assert np.abs(gap).max() < SIGMAS / POPULATION**0.5
    assert abs(gap.mean()) < 0.005
    assert mean[:, ~signal].std(0).max() < 1e-12


def test_linear_limit_is_that_of_least_squares(
    law: MixtureLaw, population: Tissue, mean: np.ndarray, modules: np.ndarray
) -> None:
    product = population.shares[:, 0] * population.state
    z = np.column_stack([population.shares, product])  # the shares hold the intercept
    fitted = z @ np.linalg.lstsq(z, mean, rcond=None)[0]
    signal = modules != "none"
    r2 = fitted[:, signal].var(0) / mean[:, signal].var(0)
    limit = law.attainable[signal] * np.sqrt(r2)
    np.testing.assert_allclose(law.linear_limit[signal], limit, atol=0.02)
    assert (law.linear_limit[~signal] == 0).all()
    assert (law.linear_limit <= law.attainable).all()


def test_linear_limit_tells_modules_apart(law: MixtureLaw, modules: np.ndarray) -> None:
    """`linear` loses little, `and` a quarter, and `hetero` everything."""
    signal = np.where(modules == "none", 1, law.attainable)
    ratio = {m: law.linear_limit[modules == m] / signal[modules == m] for m in MODULES[1:]}
    for module in ("linear", "purity", "rare"):
        assert ratio[module].mean() > 0.94, module
        assert ratio[module].min() > 0.9, module
    assert 0.6 < ratio["and"].min() < ratio["and"].max() < 0.85
    assert ratio["hetero"].max() < 0.05


def test_residuals_share_factors(law: MixtureLaw, modules: np.ndarray, population: Tissue) -> None:
    """Given tiles, covariance is L L' + psi^2, a tenth to a half of it from one factor per gene."""
    shared = np.square(law.loadings).sum(1) / law.sd**2
    assert 0.1 <= shared.min() < 0.12 < 0.48 < shared.max() <= 0.5
    assert ((law.loadings != 0).sum(1) == 1).all()
    factor = np.abs(law.loadings).argmax(1)
    assert all(len(set(factor[modules == module])) == 1 for module in MODULES[1:])
    assert set(factor[modules == "none"]) == set(range(6))
    none_sd = law.sd[modules == "none"]
    assert 0.35 <= none_sd.min() < none_sd.max() <= 0.8

    n, rows = 8000, np.concatenate([np.flatnonzero(modules == m)[:12] for m in MODULES])
    tissue = (population.shares[0], population.state[0], population.variance[0])
    one_slide = [np.broadcast_to(part, (n, *np.shape(part))) for part in tissue]
    x = law.draw(*one_slide, rng=seeds.rng_for(1, "test", "residual"))[:, rows]
    off = (x.mean(0) - law.mean(*tissue)[rows]) / law.sd[rows]
    assert np.abs(off).max() < SIGMAS / n**0.5
    covariance = law.loadings[rows] @ law.loadings[rows].T + np.diag(law.noise[rows] ** 2)
    expected = covariance / np.outer(law.sd[rows], law.sd[rows])
    np.testing.assert_allclose(np.corrcoef(x.T), expected, atol=SIGMAS / n**0.5)
    np.testing.assert_allclose(x.std(0) / law.sd[rows], 1, atol=SIGMAS / (2 * n) ** 0.5)


def test_expression_is_above_0_and_readable_as_log2(law: MixtureLaw, mean: np.ndarray) -> None:
    """The lowest means lie 6 sd above 0, and the highest 6 sd below 50, which isn't read."""
    assert (mean.min(0) / law.sd).min() > 5.5
    assert (mean.max(0) + 6 * law.sd).max() < 50
    assert 0.5 < law.unit.min() < law.unit.max() == 1
    assert (law.unit == 1).mean() > 0.9


def test_patients(law: MixtureLaw) -> None:
    drawn = mixture_patients.draw_patients(law.spec, POPULATION, seeds.rng_for(1, "test", "pi"))
    np.testing.assert_allclose(drawn.shares.sum(1), 1)
    rho = drawn.shares[:, 6:]
    np.testing.assert_allclose((rho > 0).mean(0), [0.5, 0.35, 0.35, 0.25], atol=0.02)
    present = rho[rho > 0]
    assert 0.005 <= present.min() < present.max() <= 0.05
    assert np.log(present).mean() == pytest.approx(np.log(0.005 * 0.05) / 2, abs=0.02)
    base = drawn.shares[:, :6] / drawn.shares[:, :6].sum(1, keepdims=True)
    share = np.array([0.38, 0.28, 0.13, 0.06, 0.11, 0.04])
    np.testing.assert_allclose(base.mean(0), share, atol=0.01)
    np.testing.assert_allclose(base.var(0), share * (1 - share) / 7, rtol=0.08)
    assert drawn.state.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.state.var() == pytest.approx(0.05, abs=0.003)  # of Beta(2, 2)
    assert drawn.concentration.min() >= 0.1
    assert drawn.concentration.max() <= 1 / 0.02 - 1 + 0.05
    assert np.median(drawn.concentration) == pytest.approx(1 / 0.51 - 1 + 0.05, abs=0.05)


def test_summary_is_that_of_the_tiles() -> None:
    """Mean and variance by numpy, slide by slide; without tumour they are 1/2 and 0."""
    counts = np.zeros((4, len(TISSUES)), int)
    counts[:, 0], counts[:, 3] = (3, 0, 1, 5), (1, 4, 0, 5)
    states = np.array([0.1, 0.9, 0.4, 0.7, 0.2, 0.2, 0.3, 0.8, 1.0])
    tissue = Tiles(counts, states).summary()
    np.testing.assert_allclose(tissue.shares.sum(1), 1)
    np.testing.assert_allclose(tissue.shares[:, 0], [0.75, 0, 1, 0.5])
    parts = states[:3], states[3:4], states[4:]
    np.testing.assert_allclose(tissue.state[[0, 2, 3]], [part.mean() for part in parts])
    np.testing.assert_allclose(tissue.variance[[0, 2, 3]], [part.var() for part in parts])
    assert (tissue.state[1], tissue.variance[1]) == (0.5, 0)


def test_a_slide_of_one_tissue_has_a_mean(law: MixtureLaw) -> None:
    for k in range(len(TISSUES)):
        assert np.isfinite(law.mean(np.eye(len(TISSUES))[k], 0.5, 0.0)).all()
