"""Sites: centring, and the share of variance that they explain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats
from slide2rna.evaluation.metrics import bootstrap, gene_metrics, within_site
from slide2rna.evaluation.metrics.within_site import Sites
from slide2rna.evaluation.scoring import comparison, fold_scores


def test_only_sites_with_two_samples_count() -> None:
    sites = Sites.of(["b", None, "a", "c", "b", "a", "b"])
    assert sites.rows.tolist() == [0, 2, 4, 5, 6]
    assert sites.count == 2
    assert sites.effective == 4
    assert len(set(sites.code[[0, 2, 4]])) == 1
    assert len(set(sites.code)) == 2
    none = Sites.of([None, None, "a"])
    assert (len(none.rows), none.count, none.effective) == (0, 0, 0)


def test_centring_takes_off_each_sites_own_mean() -> None:
    names = ["b", None, "a", "c", "b", "a", "b"]
    values = np.random.default_rng(0).normal(5, 1, size=(7, 4)).astype(np.float32)
    got = Sites.of(names).centre(values)
    for row, sample in enumerate([0, 2, 4, 5, 6]):
        same = [i for i, name in enumerate(names) if name == names[sample]]
        expected = values[sample] - values[same].mean(axis=0)
        np.testing.assert_allclose(got[row], expected, atol=1e-6)


def test_site_share_is_the_adjusted_r_squared_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    names = [None if i % 7 == 0 else f"site {i % 4}" for i in range(60)]
    truth = rng.normal(size=(60, 5)) + np.arange(5) * np.array([i % 4 for i in range(60)])[:, None]
    truth[:, 0] = 2.0
    got = within_site.site_share(truth, names)
    assert np.isnan(got[0])
    known = [i for i, name in enumerate(names) if name is not None]
    n, k = len(known), 4
    for gene in range(1, 5):
        groups = [
            truth[[i for i in known if names[i] == site], gene]
            for site in sorted({names[i] for i in known})
        ]
        f = stats.f_oneway(*groups).statistic
        r2 = f * (k - 1) / (f * (k - 1) + n - k)
        assert got[gene] == pytest.approx(1 - (1 - r2) * (n - 1) / (n - k), abs=1e-9)
    assert np.isnan(within_site.site_share(truth, ["one"] * 60)).all()


def test_site_share_is_zero_on_average_where_sites_do_not_matter() -> None:
    truth = np.random.default_rng(2).normal(size=(40, 20_000))
    share = within_site.site_share(truth, [f"site {i % 8}" for i in range(40)])
    assert abs(share.mean()) < 0.002


def test_a_model_that_only_knows_the_site_scores_nothing_within_sites() -> None:
    rng = np.random.default_rng(3)
    code = np.arange(40) % 4
    effect = rng.normal(size=(4, 30)) * 3
    truth = effect[code] + rng.normal(size=(40, 30))
    knows = truth + effect[code]
    test = {"knows": knows, "site": effect[code], "constant": np.ones_like(truth)}
    sets = {name: np.ones((30, 1), dtype=bool) for name in test}
    counts = bootstrap.resample_counts(rng, 40, 5)
    sites = Sites.of([f"s{c}" if i else None for i, c in enumerate(code)])
    fold = fold_scores.FoldPredictions(
        truth, test, {}, sets, np.ones(30, dtype=bool), truth.mean(0), counts, sites
    )
    average = fold_scores.Averages(fold, "knows")
    scored = fold_scores.score_block(fold, average, slice(0, 30), "knows")
    assert scored.sums["site", "pcc", "knows"][0, 0] > 0.8
    np.testing.assert_allclose(scored.sums["site", "pcc_within_site", "site"], 0, atol=1e-6)
    expected, _ = gene_metrics.pcc(sites.centre(knows), sites.centre(truth))
    np.testing.assert_allclose(scored.within, expected, atol=1e-5)
    # A resample that drops the sample without site weighs the others as before.
    for row, count in enumerate(counts):
        kept = count[1:]
        x, y = (sites.centre(values)[:, 0] for values in (knows, truth))
        r = np.cov(np.stack([x, y]), aweights=kept, ddof=0)
        got = bootstrap.PccBootstrap((kept * 39 / kept.sum())[None].astype(np.float32), y[:, None])(
            x[:, None]
        )
        assert got[0, 0] == pytest.approx(r[0, 1] / np.sqrt(r[0, 0] * r[1, 1]), abs=1e-5), row
    whole = comparison.compare([fold], sparse.csr_matrix((1, 30)))
    np.testing.assert_allclose(
        whole.scores["knows", "pcc_within_site", "knows"][0],
        scored.sums["knows", "pcc_within_site", "knows"],
        atol=1e-6,
    )
