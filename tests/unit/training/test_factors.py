"""Noise with the residuals' correlation: the closed form, its likelihood, and what draws get."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flow_cohort import make, settings
from scipy import stats
from slide2rna.core import config
from slide2rna.flow import solvers
from slide2rna.flow.path import Path
from slide2rna.flow.velocity import RNAFM
from slide2rna.models.ridge import per_sample
from slide2rna.sampling import draw
from slide2rna.training import factors, fit
from velocity_models import CASES, build, pathways


def residuals(rng: np.random.Generator, loadings: np.ndarray, rows: int) -> np.ndarray:
    own = np.sqrt(1 - np.square(loadings).sum(axis=1))
    shared = rng.normal(size=(rows, loadings.shape[1])) @ loadings.T
    return shared + own * rng.normal(size=(rows, len(loadings)))


def truth(rng: np.random.Generator, genes: int = 300, count: int = 4) -> np.ndarray:
    """Each gene loads on one factor, with a share of 0.2 to 0.6 of its variance."""
    loadings = np.zeros((genes, count))
    share = rng.uniform(0.2, 0.6, genes) * 1.0
    loadings[np.arange(genes), np.arange(genes) % count] = np.sqrt(share)
    return loadings * rng.choice([-1, 1], genes)[:, None]


def correlation(loadings: np.ndarray) -> np.ndarray:
    shared = loadings @ loadings.T
    return shared + np.diag(1 - np.diag(shared))


def test_likelihood_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    loadings = truth(rng, 12, 3)
    rows = rng.normal(size=(5, 12))
    expected = stats.multivariate_normal(np.zeros(12), correlation(loadings)).logpdf(rows) / 12
    assert np.allclose(factors.log_likelihood(rows, loadings), expected, rtol=1e-10)
    alone = factors.log_likelihood(rows, np.zeros((12, 0)))
    assert np.allclose(alone, stats.norm.logpdf(rows).mean(axis=1))


def test_val_finds_the_factors_and_their_correlation() -> None:
    rng = np.random.default_rng(1)
    known = truth(rng)
    found, scores = factors.fit_factors(residuals(rng, known, 250), residuals(rng, known, 40), 32)
    assert found.shape[1] == 4
    assert scores[4] == max(scores.values()) > scores[0] + 0.1
    above = np.triu_indices(300, 1)
    ours, theirs = (correlation(of)[above] for of in (found, known))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert abs(np.polyfit(theirs, ours, 1)[0] - 1) < 0.1, "shrunk or blown up"


def test_noise_without_factors_gives_none() -> None:
    rng = np.random.default_rng(2)
    train, val = rng.normal(size=(60, 300)), rng.normal(size=(30, 300))
    found, _ = factors.fit_factors(train, val, 32)
    assert found.shape == (300, 0)


@pytest.mark.parametrize("rows", [2, 3])
def test_few_slides_and_a_constant_gene(rows: int) -> None:
    train = np.random.default_rng(3).normal(size=(rows, 20))
    train[:, 3] = 0
    found, _ = factors.fit_factors(train, train[:1], 8)
    assert np.isfinite(found).all()
    assert np.square(found).sum(axis=1).max(initial=0) <= 1 - factors.MIN_UNIQUENESS + 1e-9
    assert not found[3].any()


def test_slides_of_a_sample_count_once() -> None:
    values = np.arange(8.0).reshape(4, 2)
    found = per_sample(values, ["b", "a", "b", "c"])
    assert np.array_equal(found, [values[1], values[[0, 2]].mean(axis=0), values[3]])


def colored(most: int = 4) -> RNAFM:
    model = build(pathways(*CASES["ragged"]), factors=most)
    loadings = np.random.default_rng(4).normal(size=(model.pathways.n_genes, most))
    loadings *= np.sqrt(0.6 / np.square(loadings).sum(axis=1))[:, None]
    model.loadings.copy_(torch.from_numpy(loadings))
    return model


def test_colored_noise_has_the_correlation() -> None:
    model = colored()
    white = torch.randn(
        200_000, model.noise_width, generator=torch.Generator().manual_seed(0)
    ).double()
    x0 = model.color(white)
    found = torch.corrcoef(x0.T).numpy()
    assert np.abs(found - correlation(model.loadings.numpy())).max() < 0.02
    assert float((x0.std(dim=0) - 1).abs().max()) < 0.02
    assert torch.equal(build(pathways(*CASES["ragged"]), factors=0).color(white), white)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_gaussian_velocity_carries_the_correlation(steps: int) -> None:
    """N(0, C) goes to N(m, S C S) in any number of exponential steps, whatever the sds."""
    model = colored()
    assert model.theta is not None
    sd = model.residual_sd().detach()
    assert float(sd.max() / sd.min()) > 1.3
    path = Path()
    mean = torch.linspace(-2, 2, len(sd), dtype=torch.float64)

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        k, gain = path.gaussian(t, sd)
        return k * x + gain * mean

    white = torch.randn(50, model.noise_width, dtype=torch.float64)
    x0 = model.color(white)
    end = solvers.solve(velocity, x0, steps, "exponential", path, sd)
    assert torch.allclose(end, mean + sd * x0, atol=1e-10)


def test_draws_of_a_trained_model_have_the_residuals_correlation(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Residuals of the cohort share a factor; draws without factors have none of it."""
    cohort = make(
        tmp_path / "cohort", {"train": 150, "val": 30, "test": 10}, constant=1, shared=0.6
    )
    found = {}
    for most in (0, 8):
        own = settings(epochs=1, learning_rate=1e-12)
        own["model"] |= {"skip": "ridge", "factors": most}
        model = fit.fit_fold(cohort.inputs, tmp_path / str(most), own, 1, torch.device("cpu"))
        assert isinstance(model, RNAFM)
        white = draw.noise(1, 0, "a", 4000, model.noise_width, "draws")[None]
        image = model.null_condition(1)
        z = draw.draw(model.eval(), image, white, config.defaults("sample", steps=4))[0, :, :-1]
        matrix = torch.corrcoef(z.T).numpy()
        found[most] = np.abs(matrix[np.triu_indices(59, 1)]).mean()
    assert found[0] < 0.05
    assert abs(found[8] - 0.6) < 0.12
