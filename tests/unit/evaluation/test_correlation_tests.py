"""Tests between models: published examples, scipy, and their size where nothing is to be found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import correlation_tests


@pytest.mark.parametrize(
    ("r_a", "r_b", "r_ab", "n", "t", "two_sided"),
    [
        # Howell, Statistical Methods for Psychology (6th ed.), p. 262.
        (0.80, 0.72, 0.89, 26, 1.361, 0.187),
        # Case A of Steiger (1980), as printed by r.test of the R package psych.
        (0.50, 0.40, 0.10, 103, 0.89, 0.37),
    ],
)
def test_williams_gives_the_published_values(
    r_a: float, r_b: float, r_ab: float, n: int, t: float, two_sided: float
) -> None:
    p = float(correlation_tests.williams(np.array(r_a), np.array(r_b), np.array(r_ab), n))
    assert stats.t.isf(p, n - 3) == pytest.approx(t, abs=0.005)
    assert 2 * p == pytest.approx(two_sided, abs=0.005)
    other = float(correlation_tests.williams(np.array(r_b), np.array(r_a), np.array(r_ab), n))
    assert p + other == pytest.approx(1)


def test_williams_at_the_edges() -> None:
    one = np.ones(1)
    assert correlation_tests.williams(0.3 * one, 0.3 * one, one, 20)[0] == 0.5
    assert correlation_tests.williams(one, 0.3 * one, 0.3 * one, 20)[0] < 1e-6
    assert np.isnan(correlation_tests.williams(0.5 * one, 0.1 * one, 0 * one, 3)[0])


def test_stouffer_equals_scipy_gene_by_gene_and_leaves_out_unknown_folds() -> None:
    rng = np.random.default_rng(1)
    p, n = rng.random((3, 30)), [12, 3, 40]
    p[0, 4], p[:, 5], p[2, 6] = np.nan, np.nan, 1.0
    got = correlation_tests.stouffer(p, n)
    for gene in range(30):
        used = [fold for fold in (0, 2) if np.isfinite(p[fold, gene])]
        if gene == 5:
            assert np.isnan(got[gene])
            continue
        weights = np.sqrt([n[fold] - 3 for fold in used])
        values = np.minimum(p[used, gene], 1 - 1e-16)
        expected = stats.combine_pvalues(values, method="stouffer", weights=weights).pvalue
        assert got[gene] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(correlation_tests.stouffer(np.array([[0.01]]), [3])).all()


def folds_of(
    rng: np.random.Generator, genes: int, sizes: list[int], a: float, b: float, shared: float
) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]]]:
    """Truth, and two predictions whose errors share a part; a and b are the sizes of the errors."""
    truths, predictions = [], []
    for n in sizes:
        y = rng.normal(size=(n, genes))
        common = rng.normal(size=y.shape)
        of = {
            name: y + size * (shared * common + np.sqrt(1 - shared**2) * rng.normal(size=y.shape))
            for name, size in (("a", a), ("b", b))
        }
        truths.append(y)
        predictions.append(of)
    return truths, predictions


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("size", [1.0, 4.0])
def test_p_values_are_uniform_where_both_are_equally_good(shared: float, size: float) -> None:
    rng = np.random.default_rng(2)
    truths, predictions = folds_of(rng, 4000, [20, 25, 30], size, size, shared)
    p = correlation_tests.better(truths, predictions, [("a", "b")])["a", "b"]
    assert stats.kstest(p, "uniform").statistic < 0.03
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.012)
    assert (gene_metrics.benjamini_hochberg(p) < 0.05).mean() < 0.001


def test_a_better_model_is_found_and_the_pair_is_one_sided() -> None:
    rng = np.random.default_rng(3)
    truths, predictions = folds_of(rng, 300, [40, 40], 0.5, 2.0, 0.3)
    pairs = [("a", "b"), ("b", "a")]
    p = correlation_tests.better(truths, predictions, pairs)
    assert (gene_metrics.benjamini_hochberg(p["a", "b"]) < 0.05).mean() > 0.9
    assert p["b", "a"].min() > 0.5


def test_better_equals_a_loop_over_folds_and_genes() -> None:
    rng = np.random.default_rng(4)
    truths, predictions = folds_of(rng, 6, [12, 17], 1.0, 1.5, 0.5)
    truths[1][:, 2] = 3.0
    predictions[0]["b"][:, 3] = 1.0
    got = correlation_tests.better(truths, predictions, [("a", "b")])["a", "b"]
    for gene in range(6):
        p, weights = [], []
        for y, given in zip(truths, predictions, strict=True):
            if y[:, gene].std() == 0:
                continue
            flat = given["b"][:, gene].std() == 0
            r = [
                0.0 if flat and "b" in pair else stats.pearsonr(*pair.values()).statistic
                for pair in (
                    {"a": given["a"][:, gene], "y": y[:, gene]},
                    {"b": given["b"][:, gene], "y": y[:, gene]},
                    {"a": given["a"][:, gene], "b": given["b"][:, gene]},
                )
            ]
            p.append(float(correlation_tests.williams(*(np.array(v) for v in r), len(y))))
            weights.append(np.sqrt(len(y) - 3))
        expected = stats.combine_pvalues(p, method="stouffer", weights=weights).pvalue
        assert got[gene] == pytest.approx(expected, rel=1e-8)


def test_above_zero_is_fishers_z_over_folds_and_exact_in_one() -> None:
    rng = np.random.default_rng(5)
    truths, predictions = folds_of(rng, 8, [28, 12], 1.0, 3.0, 0.0)
    points = [given["b"] for given in predictions]
    r = np.array([gene_metrics.pcc(x, y)[0] for x, y in zip(points, truths, strict=True)])
    r[:, 3] = np.nan
    z = (np.arctanh(r[0]) * 25 + np.arctanh(r[1]) * 9) / 34
    p = correlation_tests.above_zero(truths, points, r)
    np.testing.assert_allclose(p, stats.norm.sf(z * np.sqrt(34)), rtol=1e-6)
    one = correlation_tests.above_zero(truths[:1], points[:1], r[:1])
    for gene in (0, 1, 2, 4):
        expected = stats.pearsonr(points[0][:, gene], truths[0][:, gene], alternative="greater")
        assert one[gene] == pytest.approx(expected.pvalue, abs=1e-12)
    assert np.isnan(one[3])
    assert np.isnan(p[3])
