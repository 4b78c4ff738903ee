"""The known law: closed forms against Monte Carlo, its parts, and the genes that it names."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide2rna.core import files, seeds
from slide2rna.simulate import ground_truth
from slide2rna.simulate.ground_truth import CLASSES, Law

DRAWS = 4000
SIGMAS = 6  # that a Monte Carlo mean may be off: one gene in 5e8


@pytest.fixture(scope="module")
def truth() -> Law:
    return ground_truth.load_law()


@pytest.fixture(scope="module")
def patients(truth: Law) -> tuple[np.ndarray, np.ndarray]:
    """Two patients, one per site; the second's subtype is nearly a coin toss."""
    pi = np.array([[0.2, 0.3, 0.2, 0.1, 0.1, 0.1], [0.49, 0.2, 0.1, 0.1, 0.05, 0.06]])
    return pi / pi.sum(1, keepdims=True), np.array(["A", "B"])


@pytest.fixture(scope="module")
def draws(truth: Law, patients: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return truth.draw(*patients, DRAWS, seeds.rng_for(1, "test", "draws"))


def some(own: Law, rows: np.ndarray) -> Law:
    """The law of these genes alone."""
    per_gene = {
        name: getattr(own, name)[rows]
        for name in ("profiles", "effect", "shift", "loadings", "noise")
    }
    names = {name: tuple(getattr(own, name)[i] for i in rows) for name in ("genes", "modules")}
    return replace(own, **per_gene, **names)


@pytest.fixture(scope="module")
def few(truth: Law) -> Law:
    """Six genes of each kind: shifted and not, with a site effect and without."""
    kinds = 2 * (truth.shift != 0) + (truth.effect != 0)
    return some(truth, np.concatenate([np.flatnonzero(kinds == kind)[:6] for kind in range(4)]))


def test_mean_and_sd(
    truth: Law, patients: tuple[np.ndarray, np.ndarray], draws: np.ndarray
) -> None:
    sd = truth.sd(*patients)
    off = (draws.mean(1) - truth.mean(*patients)) / sd * DRAWS**0.5
    assert np.abs(off).max() < SIGMAS
    # kurtosis is at most 3 for these mixtures, so sd's relative error is at most 1/sqrt(2n)
    assert np.abs(draws.std(1) / sd - 1).max() < SIGMAS / (2 * DRAWS) ** 0.5


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_quantiles_cover(
    truth: Law, patients: tuple[np.ndarray, np.ndarray], draws: np.ndarray, q: float
) -> None:
    quantile = truth.quantile(q, *patients)
    covered = (draws <= quantile[:, None, :]).mean(1)
    assert np.abs(covered - q).max() < SIGMAS * (q * (1 - q) / DRAWS) ** 0.5
    assert covered.mean() == pytest.approx(q, abs=0.005)
    np.testing.assert_allclose(truth.cdf(quantile, *patients), q, atol=1e-6)


def test_crps_is_the_samples(few: Law, patients: tuple[np.ndarray, np.ndarray]) -> None:
    """CRPS(F, x) = E|X - x| - E|X - X'| / 2, by 20,000 draws."""
    n = 20_000
    drawn = few.draw(*patients, 2 * n, seeds.rng_for(1, "test", "crps"))
    one, other = drawn[:, :n], drawn[:, n:]
    for sds in (-2.0, 0.0, 0.7, 3.0):
        x = few.mean(*patients) + sds * few.sd(*patients)
        terms = np.abs(one - x[:, None]) - np.abs(one - other) / 2
        error = terms.std(1) / n**0.5
        assert (np.abs(terms.mean(1) - few.crps(x, *patients)) < SIGMAS * error).all()


def test_crps_is_the_integral(few: Law, patients: tuple[np.ndarray, np.ndarray]) -> None:
    """CRPS(F, x) = integral of (F(y) - [y >= x])^2, by the midpoint rule."""
    pi, site = patients[0][1], patients[1][1]
    middle, reach = few.mean(pi, site), 12 * few.sd(pi, site)
    x = middle + 0.4 * few.sd(pi, site)
    steps = 6000
    y = middle + reach * ((np.arange(steps)[:, None] + 0.5) / steps * 2 - 1)
    squared = (few.cdf(y, pi, site) - (y >= x)) ** 2
    expected = squared.sum(0) * 2 * reach / steps
    np.testing.assert_allclose(few.crps(x, pi, site), expected, atol=3e-3)


def test_crps_is_proper(few: Law, patients: tuple[np.ndarray, np.ndarray]) -> None:
    """On the law's own draws its CRPS beats those of laws that are shifted or too wide."""
    drawn = few.draw(*patients, 4000, seeds.rng_for(1, "test", "proper")).swapaxes(0, 1)
    own = few.crps(drawn, *patients).mean((0, 1))
    wide = replace(few, loadings=few.loadings * 1.5, noise=few.noise * 1.5)
    off = few.crps(drawn + few.residual_sd * 0.5, *patients).mean((0, 1))
    assert (own < wide.crps(drawn, *patients).mean((0, 1))).all()
    assert (own < off).all()


@settings(max_examples=20, deadline=None)
@given(
    shares=st.lists(st.floats(0.02, 1), min_size=6, max_size=6),
    site=st.sampled_from(ground_truth.SITES),
    q=st.floats(0.001, 0.999),
)
def test_quantile_inverts_cdf(few: Law, shares: list[float], site: str, q: float) -> None:
    pi = np.array(shares) / sum(shares)
    x = few.quantile(q, pi, site)
    np.testing.assert_allclose(few.cdf(x, pi, site), q, atol=1e-6)
    assert (few.crps(x, pi, site) > 0).all()


def test_attainable_r(truth: Law) -> None:
    rng = seeds.rng_for(1, "test", "attainable")
    pi, sites = truth.patients(3000, rng)
    mean, x = truth.mean(pi, sites), truth.draw(pi, sites, 1, rng)[:, 0]
    attainable = truth.attainable_r(pi, sites)
    signal = mean.std(0) > 1e-9
    centred, own = mean[:, signal] - mean[:, signal].mean(0), x[:, signal] - x[:, signal].mean(0)
    r = (centred * own).mean(0) / (centred.std(0) * own.std(0))
    gap = r - attainable[signal]
    assert np.abs(gap).max() < 0.09  # 5 standard errors of r near 0
    assert np.abs(gap.mean()) < 0.01
    assert (attainable[~signal] < 1e-6).all()
    none = np.array(truth.modules) == "none"
    assert (signal == ~(none & (truth.effect == 0) & (truth.shift == 0))).all()


def test_attainable_is_as_specified(truth: Law) -> None:
    """Class genes without subtype or site effect have the strength that law.yaml asks for."""
    pi, sites = truth.patients(2000, seeds.rng_for(1, "test", "specified"))
    plain = np.isin(truth.modules, CLASSES) & (truth.effect == 0) & (truth.shift == 0)
    r = truth.attainable_r(pi, sites)[plain]
    low, high = truth.spec["morphology"]["attainable"]
    assert r.min() > low - 0.06
    assert r.max() < high + 0.04
    assert r.std() == pytest.approx((high - low) / 12**0.5, rel=0.15)


def test_residuals_correlate_in_modules(
    truth: Law, patients: tuple[np.ndarray, np.ndarray]
) -> None:
    """Given tissue, genes covary as loadings and subtype say: so in one module, not across two."""
    modules = np.array(truth.modules)
    plain = truth.shift == 0
    rows = np.concatenate([np.flatnonzero((modules == m) & plain)[:25] for m in CLASSES])
    rows = np.concatenate([rows, np.flatnonzero(modules == "subtype")[:25]])
    own, pi, site = some(truth, rows), patients[0][1], patients[1][1]
    drawn = own.draw(pi, site, 8000, seeds.rng_for(1, "test", "modules"))
    p = own.subtype_probability(pi)
    covariance = own.loadings @ own.loadings.T + np.diag(own.noise**2)
    covariance += p * (1 - p) * np.outer(own.shift, own.shift)
    sd = np.sqrt(np.diag(covariance))
    expected = covariance / np.outer(sd, sd)
    np.testing.assert_allclose(np.corrcoef(drawn.T), expected, atol=SIGMAS / 8000**0.5)
    np.testing.assert_allclose(sd, own.sd(pi, site))
    same = modules[rows][:, None] == modules[rows]
    off_diagonal = ~np.eye(len(rows), dtype=bool)
    by_class = np.isin(modules[rows], CLASSES)
    assert np.abs(expected[same & off_diagonal]).min() > 0.1
    assert np.abs(expected[~same & by_class & by_class[:, None]]).max() == pytest.approx(0)


def test_clipping_never_shows(truth: Law) -> None:
    pi, _ = truth.patients(1000, seeds.rng_for(1, "test", "clipping"))
    extreme = ground_truth._floored(np.eye(len(CLASSES)), truth.spec["floor"])
    for site in ground_truth.SITES:
        assert truth.cdf(0.0, np.vstack([pi, extreme]), site).max() < 1e-8


def test_shifted_genes_are_bimodal(truth: Law) -> None:
    pi = np.array([0.49, 0.2, 0.1, 0.1, 0.05, 0.06])
    assert truth.subtype_probability(pi) == pytest.approx(0.5, abs=0.001)
    middle, scale = truth.mean(pi, "A"), truth.residual_sd
    grid = middle + np.linspace(-5, 5, 201)[:, None] * scale
    density = np.diff(truth.cdf(grid, pi, "A"), axis=0)
    rises = np.diff(density, axis=0) > 0
    peaks = (rises[:-1] & ~rises[1:]).sum(0)
    shifted = truth.shift != 0
    assert (peaks[shifted] == 2).all()
    assert (peaks[~shifted] == 1).all()
    assert shifted.sum() == round(truth.spec["subtype"]["share"] * len(truth.genes))
    assert shifted[np.array(truth.modules) == "subtype"].all()


def test_subtype_moves_its_genes(truth: Law) -> None:
    """Draws with z = 1 lie higher by the shift; tissue alone says little of z."""
    pi = np.tile([[0.4, 0.25, 0.12, 0.06, 0.1, 0.07]], (1, 1))
    x, z = truth.sample(pi, "A", DRAWS, seeds.rng_for(1, "test", "subtype"))
    one, zero = x[0][z[0] == 1], x[0][z[0] == 0]
    assert z.mean() == pytest.approx(truth.subtype_probability(pi)[0], abs=0.05)
    error = truth.residual_sd * (1 / len(one) + 1 / len(zero)) ** 0.5
    assert (np.abs(one.mean(0) - zero.mean(0) - truth.shift) < SIGMAS * error).all()


def test_site_effect_only_at_b(truth: Law, patients: tuple[np.ndarray, np.ndarray]) -> None:
    pi = patients[0]
    a, b = truth.mean(pi, np.array(["A", "A"])), truth.mean(pi, np.array(["B", "B"]))
    np.testing.assert_allclose(b - a, np.tile(truth.effect, (2, 1)), atol=1e-12)
    without = replace(truth, effect=np.zeros_like(truth.effect))
    np.testing.assert_array_equal(a, without.mean(pi, np.array(["A", "A"])))
    hit = truth.effect != 0
    assert hit.sum() == round(truth.spec["site_effect"]["share"] * len(truth.genes))
    assert truth.effect[hit].std() == pytest.approx(truth.spec["site_effect"]["sd"], rel=0.15)


def test_patients(truth: Law) -> None:
    pi, sites = truth.patients(3000, seeds.rng_for(1, "test", "patients"))
    np.testing.assert_allclose(pi.sum(1), 1)
    assert pi.min() >= truth.spec["floor"]
    expected = ground_truth._floored(
        np.array(list(truth.spec["classes"].values())), truth.spec["floor"]
    )
    np.testing.assert_allclose(pi.mean(0), expected, atol=0.015)
    assert sites.count("B") == round(3000 * truth.spec["site_b_share"])
    own = np.array([truth.slide_shares(pi[0], seeds.rng_for(i, "test")) for i in range(300)])
    np.testing.assert_allclose(own.sum(1), 1)
    np.testing.assert_allclose(own.mean(0), pi[0], atol=0.03)
    assert np.abs(own - pi[0]).max() < 0.2


def test_truth_restores_identically(truth: Law) -> None:
    again = ground_truth.load_law.__wrapped__()
    assert again is not truth
    for field in fields(Law):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(truth, field.name))


def test_law_is_frozen(truth: Law) -> None:
    """Version 1 of the law, whose numbers reports quote: another law needs another version."""
    folder = ground_truth.FILE.parent  # test_mixture_law.py holds the second law's files
    digests = {name: files.sha256sum(folder / name) for name in ("genes.tsv", "law.yaml")}
    assert digests == {
        "genes.tsv": "49a65d2b435786ea0849e991383fc554c940efd9e2dd779d4971a25304890b43",
        "law.yaml": "047c0ac8e63f2ebf7445c28be3b87f8ca3ac10628bdb89ea3802c94650872e09",
    }
    assert truth.version == 1
    total = {
        name: np.abs(getattr(truth, name)).sum()
        for name in ("profiles", "effect", "shift", "loadings", "noise")
    }
    assert total == pytest.approx(
        {
            "profiles": 3922371.8237989014,
            "effect": 215.52334649066856,
            "shift": 555.7659577244622,
            "loadings": 614.3569564230777,
            "noise": 950.12056835282,
        },
        rel=1e-9,
    )
