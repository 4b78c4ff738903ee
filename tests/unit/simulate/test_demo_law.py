"""The demo's law: its limits computed a second way, its genes, and that it is as it was fixed."""

from __future__ import annotations

import csv

import law_population
import numpy as np
import pytest
from slide2rna.core import seeds
from slide2rna.simulate import demo_cohort, mixture_law, mixture_patients
from slide2rna.simulate.mixture_law import MixtureLaw
from slide2rna.simulate.mixture_patients import Tissue
from slide2rna.simulate.textures import PAINTED

POPULATION = 20_000
SIGMAS = 6  # that a Monte Carlo mean may be off: one gene in 5e8
TOTALS = {
    "attainable": 665.5747376768829,
    "linear_limit": 611.3872484069839,
    "base": 10613.494363153031,
    "unit": 1221.617338850791,
    "site_effect": 106.81799943198843,
    "loadings": 649.3083003286066,
    "noise": 1006.0527610283074,
    "size": 3528.97976057886,
    "threshold": 11.146288734883466,
    "home": 1018,
}  # of version 1, absolute values over genes


@pytest.fixture(scope="module")
def law() -> MixtureLaw:
    return demo_cohort.load_demo_law()


@pytest.fixture(scope="module")
def modules(law: MixtureLaw) -> np.ndarray:
    return np.array(law.modules)


@pytest.fixture(scope="module")
def population(law: MixtureLaw) -> Tissue:
    return law_population.draw(law, POPULATION)


@pytest.fixture(scope="module")
def sites(law: MixtureLaw) -> np.ndarray:
    rng = seeds.rng_for(1, "test", "sites")
    return np.array(mixture_patients.draw_sites(law.spec, POPULATION, rng))


@pytest.fixture(scope="module")
def mean(law: MixtureLaw, population: Tissue, sites: np.ndarray) -> np.ndarray:
    return law.mean(population.shares, population.state, population.variance, sites)


def test_parameters_are_those_that_were_fixed(law: MixtureLaw) -> None:
    """Another number here is another law: `version` and every table of results change with it."""
    assert law.version == 1
    total = {
        "attainable": law.attainable.sum(),
        "linear_limit": law.linear_limit.sum(),
        "base": law.base.sum(),
        "unit": law.unit.sum(),
        "site_effect": np.abs(law.site_effect).sum(),
        "loadings": np.abs(law.loadings).sum(),
        "noise": law.noise.sum(),
        "size": np.abs(law.effects.size).sum(),
        "threshold": law.effects.threshold.sum(),
        "home": law.effects.home.sum(),
    }
    assert total == pytest.approx(TOTALS, rel=1e-6)


def test_genes_come_from_the_first_law(law: MixtureLaw, modules: np.ndarray) -> None:
    folder = demo_cohort.FILE.parent
    with open(folder / "genes.tsv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    with open(folder / law.spec["genes"], encoding="utf-8", newline="") as handle:
        own = [tuple(row.values()) for row in csv.DictReader(handle, delimiter="\t")]
    kept = [row for row in rows if row["module"] in law.spec["modules"]]
    without = [row["gene"] for row in kept if row["module"] == "none"][: law.spec["none"]]
    expected = [
        (row["gene"], *law.spec["modules"][row["module"]])
        for row in kept
        if row["module"] != "none" or row["gene"] in without
    ]
    assert own == expected
    assert len(law.genes) == 1222
    assert np.mean(modules != "none") > 0.7  # most genes follow the tissue
    home = {gene: PAINTED[k] for gene, k in zip(law.genes, law.effects.home, strict=True) if k >= 0}
    assert (home["COL1A1"], home["CD3D"]) == ("stroma", "lymphocytes")
    assert {home[law.genes[g]] for g in np.flatnonzero(modules == "rare")} == {"mucin"}


def test_attainable_is_the_correlation_with_the_mean(
    law: MixtureLaw, population: Tissue, sites: np.ndarray, mean: np.ndarray, modules: np.ndarray
) -> None:
    rng = seeds.rng_for(1, "test", "attainable")
    tissue = (population.shares, population.state, population.variance)
    x = law.draw(*tissue, rng, sites)
    known = law.attainable > 0
    one, other = mean[:, known] - mean[:, known].mean(0), x[:, known] - x[:, known].mean(0)
    r = (one * other).mean(0) / (one.std(0) * other.std(0))
    gap = r - law.attainable[known]
    assert np.abs(gap).max() < SIGMAS / POPULATION**0.5
    assert abs(gap.mean()) < 0.005
    # without tissue and without an effect of the site, nothing is known of a gene
    assert (known == ((modules != "none") | (law.site_effect != 0))).all()
    assert mean[:, ~known].std(0).max() < 1e-12
    signal = law.attainable[(modules != "none") & (law.site_effect == 0)]
    assert 0.5 <= signal.min() < 0.52 < 0.88 < signal.max() <= 0.9


def test_linear_limit_is_that_of_least_squares(
    law: MixtureLaw, population: Tissue, sites: np.ndarray, mean: np.ndarray, modules: np.ndarray
) -> None:
    """On shares, tumour's share times its state, and the site; shares hold the intercept."""
    product = population.shares[:, 0] * population.state
    z = np.column_stack([population.shares, product, sites == "B"])
    fitted = z @ np.linalg.lstsq(z, mean, rcond=None)[0]
    known = law.attainable > 0
    r2 = fitted[:, known].var(0) / mean[:, known].var(0)
    limit = law.attainable[known] * np.sqrt(r2)
    np.testing.assert_allclose(law.linear_limit[known], limit, atol=0.02)
    assert (law.linear_limit <= law.attainable).all()
    ratio = law.linear_limit[known] / law.attainable[known]
    for module in ("linear", "purity", "rare"):
        assert 0.9 < ratio[modules[known] == module].mean() < 0.97, module
    assert 0.6 < ratio[modules[known] == "and"].mean() < 0.8


def test_programmes_move_apart(law: MixtureLaw, mean: np.ndarray, modules: np.ndarray) -> None:
    """A few programmes with many genes: six components hold nearly all that tissue decides."""
    signal = modules != "none"
    z = mean[:, signal] - mean[:, signal].mean(0)
    z /= z.std(0)
    share = np.square(np.linalg.svd(z[:4000], compute_uv=False))
    assert share[:8].sum() / share.sum() > 0.95 > share[:3].sum() / share.sum()


def test_sites_add_their_effect_and_nothing_else(law: MixtureLaw, population: Tissue) -> None:
    tissue = (population.shares[:5], population.state[:5], population.variance[:5])
    gap = law.mean(*tissue, "B") - law.mean(*tissue, "A")
    np.testing.assert_allclose(gap, np.tile(law.site_effect, (5, 1)), atol=1e-12)
    hit = law.site_effect[law.site_effect != 0]
    assert len(hit) == round(0.2 * len(law.genes))
    assert hit.std() == pytest.approx(0.5, abs=0.1)


def test_clipping_never_shows(law: MixtureLaw, mean: np.ndarray) -> None:
    """The lowest means lie 6 sd above 0, and the highest 6 sd below 50, which isn't read."""
    assert (mean.min(0) / law.sd).min() > 5.5
    assert (mean.max(0) + 6 * law.sd).max() < 50


def test_tissues_are_those_that_are_painted(law: MixtureLaw, population: Tissue) -> None:
    assert law.centres.shape == (len(PAINTED), 0)  # painted tiles have no features of the law
    present = population.shares[:, PAINTED.index("mucin")] > 0
    assert 0.2 < present.mean() < 0.4  # some have it and no piece of tissue shows it
    shares = dict(zip(PAINTED, population.shares.mean(0), strict=True))
    assert shares["tumour"] == pytest.approx(0.34, abs=0.02)
    assert population.shares[:, PAINTED.index("lumen")].max() < 0.3


def test_law_restores_identically(law: MixtureLaw) -> None:
    again = mixture_law.load_mixture_law.__wrapped__(demo_cohort.FILE)
    assert again is not law
    for name in ("attainable", "linear_limit", "base", "site_effect", "loadings", "noise"):
        np.testing.assert_array_equal(getattr(again, name), getattr(law, name))
