"""Pathway scores against published formulas and gseapy, and their intervals on a known cohort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import synthetic_cohort
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats
from slide2rna.core import config
from slide2rna.evaluation import tables
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import sample_scores
from slide2rna.evaluation.scoring import score as scoring_score
from slide2rna.evaluation.uncertainty import pathway_intervals
from slide2rna.pathways import activity
from slide2rna.pathways.activity import SsGsea, ZScore

# gseapy 1.3.1 on three profiles of 40 genes, columns x, y, z of normal(6, 2) by default_rng(0),
# rounded to three digits: ssgsea(data, gene_sets, sample_norm_method="rank", weight=0.25),
# column ES.
SETS = ([0, 3, 7, 11, 20], [1, 3, 5, 30, 31, 39, 8])
GSEAPY = [[4.392328, -7.202743, 3.419853], [0.626247, 3.865939, -1.739867]]


def membership(sets: tuple[list[int], ...], genes: int) -> sparse.csr_matrix:
    dense = np.zeros((len(sets), genes), np.float32)
    for row, of in enumerate(sets):
        dense[row, of] = 1 / len(of)
    return sparse.csr_matrix(dense)


def test_ssgsea_is_that_of_gseapy() -> None:
    profiles = np.round(np.random.default_rng(0).normal(6, 2, (40, 3)), 3)
    method = SsGsea(membership(SETS, 40))
    np.testing.assert_allclose(40 * method.score(profiles), GSEAPY, atol=2e-4)
    np.testing.assert_allclose(method.score(profiles[:, 1]), method.score(profiles)[:, 1])


def test_ssgsea_is_the_sum_of_the_difference_of_running_sums() -> None:
    """Barbie et al. 2009, online methods: the definition, position by position."""
    rng = np.random.default_rng(1)
    x, inside = rng.normal(size=30), rng.random(30) < 0.3
    rank = stats.rankdata(x)
    order = np.argsort(-x)
    weight = np.where(inside, rank**0.25, 0)[order]
    running = np.cumsum(weight) / weight.sum()
    missed = np.cumsum(~inside[order]) / (~inside).sum()
    found = SsGsea(membership((np.flatnonzero(inside).tolist(),), 30)).score(x)
    assert found[0] == pytest.approx((running - missed).sum() / 30, abs=1e-5)


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=4))
def test_ranks_average_their_ties(rows: list[list[int]]) -> None:
    values = np.array(rows, dtype=np.float16)
    np.testing.assert_array_equal(
        activity.average_ranks(values), stats.rankdata(values.astype(float), axis=1)
    )


def test_ssgsea_knows_neither_the_order_of_tied_genes_nor_the_scale() -> None:
    rng = np.random.default_rng(2)
    x = np.maximum(rng.normal(0, 1, (40, 5)), 0).astype(np.float16)
    order = rng.permutation(40)
    members = membership(SETS, 40)
    moved = SsGsea(members[:, order]).score(3 * x[order])
    np.testing.assert_allclose(moved, SsGsea(members).score(x), atol=1e-6)


def test_the_z_score_is_the_combined_one_but_for_the_size_of_the_set() -> None:
    """Lee et al. 2008: the members' z values, summed and divided by the root of their number."""
    rng = np.random.default_rng(3)
    x, mean, sd = rng.normal(size=(40, 6)), rng.normal(size=40), rng.uniform(0.5, 2, 40)
    method = ZScore.of(mean, sd, np.ones(40, dtype=bool), membership(SETS, 40))
    found = method.score(x)
    for row, of in enumerate(SETS):
        z = (x[of] - mean[of, None]) / sd[of, None]
        combined = z.sum(axis=0) / np.sqrt(len(of))
        np.testing.assert_allclose(found[row] * np.sqrt(len(of)), combined, rtol=1e-5)


def test_draws_are_scored_by_ssgsea_as_by_a_loop() -> None:
    rng = np.random.default_rng(4)
    raw = np.maximum(rng.normal(5, 2, size=(2, 20, 40)), 0).astype(np.float16)
    truth = rng.normal(5, 2, 40).astype(np.float32)
    method, none = SsGsea(membership(SETS, 40)), np.array([], dtype=np.int64)
    wanted = sample_scores.ScoringPlan(np.array([0.5]), np.array([0.5]), method, none, none)
    found = sample_scores.score_sample(raw, truth, wanted, rng)
    scores = np.array([[method.score(one.astype(np.float32)) for one in of] for of in raw])
    np.testing.assert_allclose(found["score"], scores.mean(axis=(0, 1)), atol=1e-6)
    target = method.score(truth)
    for row in range(2):
        pooled = np.sort(scores[:, :, row].ravel())
        low, high = gene_metrics.central_interval(pooled, 0.5)
        assert found["score_inside"][0, row] == (low <= target[row] <= high)
        crps = gene_metrics.fair_crps(
            pooled[None], target[row : row + 1], np.sort(scores[:, None, :, row], axis=2)
        )
        assert found["score_crps"][row] == pytest.approx(crps[0], abs=1e-5)


SETTINGS = {"bootstrap": 60, "permutations": 5, "top": [50]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("c"), patients=90, genes=120)


@pytest.fixture(scope="module")
def written(
    made: synthetic_cohort.Synthetic, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    return evaluated.run(made, tmp_path_factory.mktemp("e"), threads=2, **SETTINGS)


def test_scores_of_exact_draws_cover_and_are_narrower_than_the_train_profiles(
    written: dict[str, pl.DataFrame],
) -> None:
    coverage = written["calibration"].filter(quantity="pathway_coverage", within="pooled")
    for level in (0.5, 0.8, 0.9):
        ours, null = (
            coverage.filter(kind=kind, nominal=level).row(0, named=True)
            for kind in ("draws", "train-profiles")
        )
        error = (ours["high"] - ours["low"]) / 3.92
        assert abs(ours["covered"] - level) < 4 * error
        assert abs(null["covered"] - level) < 5 * error
        assert ours["width"] < 0.95 * null["width"]
    crps = written["calibration"].filter(quantity="pathway_crps")
    ours, null = (crps.filter(kind=k).row(0, named=True) for k in ("draws", "train-profiles"))
    less = written["calibration"].filter(quantity="pathway_crps_minus")
    assert less["value"][0] == pytest.approx(ours["value"] - null["value"])
    assert less["high"][0] < 0
    per = written["pathways"]
    for level in (50, 80, 90):
        pooled = coverage.filter(kind="draws", nominal=level / 100)["covered"][0]
        assert per[f"covered{level}"].mean() == pytest.approx(pooled)
        assert per[f"width{level}"].mean() < 0.95 * per[f"null_width{level}"].mean()
    assert per["null_crps"].mean() == pytest.approx(null["value"])


@pytest.mark.parametrize("score", ["zscore", "ssgsea"])
def test_a_pathway_of_silent_genes_counts_for_nothing(
    made: synthetic_cohort.Synthetic, tmp_path: Path, score: str
) -> None:
    chosen = config.defaults("evaluate", pathway_score=score, **SETTINGS)
    sets = pl.read_parquet(made.inputs.pathways)
    silent = pl.DataFrame(
        {"pathway": ["GO:9999999"], "name": ["silent"], "gene": ["GENE0000"]}, schema=sets.schema
    )
    path = tmp_path / "more.parquet"
    pl.concat([sets, silent]).write_parquet(path)
    inputs = (made.inputs, replace(made.inputs, pathways=path))
    before, after = (scoring_score.score_run(given_, chosen, 1, 1) for given_ in inputs)
    rows = [pl.DataFrame(pathway_intervals.rows(of)) for of in (before, after)]
    columns = pathway_intervals.columns(after)
    if score == "zscore":
        assert rows[1].equals(rows[0])
        assert all(np.isnan(values[-1]) for values in columns.values())
        assert all(np.isfinite(values[:-1]).all() for values in columns.values())
        names = after.pathway_names["pathway"].to_list()
        after = replace(after, example_pathways=np.array([names.index("GO:9999999"), 1]))
        assert pathway_intervals.example_table(after)["rank"].unique().to_list() == [2]
    else:
        assert np.isfinite(columns["covered90"]).all()


def test_without_any_pathway_that_varies_there_are_no_rows(
    made: synthetic_cohort.Synthetic, tmp_path: Path
) -> None:
    sets = pl.read_parquet(made.inputs.pathways).head(1).with_columns(gene=pl.lit("GENE0000"))
    sets.write_parquet(tmp_path / "silent.parquet")
    inputs = replace(made.inputs, pathways=tmp_path / "silent.parquet")
    found = scoring_score.score_run(inputs, config.defaults("evaluate", **SETTINGS), 1, 1)
    assert pathway_intervals.rows(found) == []
    assert np.isnan(pathway_intervals.columns(found)["crps"]).all()


def test_shown_intervals_are_those_of_the_draws(
    made: synthetic_cohort.Synthetic, written: dict[str, pl.DataFrame]
) -> None:
    found = scoring_score.score_run(made.inputs, config.defaults("evaluate", **SETTINGS), 1, 1)
    table = written["pathway_intervals"]
    assert table["rank"].unique().sort().to_list() == [1, 2, 3]
    assert table.height == 3 * 3 * 90
    fold, (mean, sd) = found.folds[1], found.train_moments[1]
    pathway = table.filter(rank=2)["pathway"][0]
    index = found.pathway_names["pathway"].to_list().index(pathway)
    assert index == found.example_pathways[1]
    genes = found.pathway_members[index].indices
    keep = genes[found.predictions[1].eligible[genes]]
    for row, raw in fold.test_draws():
        z = (raw[:, :, keep].astype(float) - mean[keep]) / sd[keep]
        scores = np.sort(z.sum(axis=2).ravel() / len(genes))
        low, high = gene_metrics.central_interval(scores, 0.8)
        own = table.filter(rank=2, level=0.8, sample_id=fold.test.samples[row])
        assert own["low"].to_list() == pytest.approx([low], abs=1e-4)
        assert own["high"].to_list() == pytest.approx([high], abs=1e-4)


def test_sharpness_has_its_closed_form(
    made: synthetic_cohort.Synthetic, written: dict[str, pl.DataFrame]
) -> None:
    """Exact normal draws: a central interval is 2 z sd wide, and the mean sd is the law's."""
    sharp = written["calibration"].filter(quantity="sharpness", gene_set="all")
    sd = made.noise_sd[1:].mean()
    for level in (0.5, 0.8, 0.9):
        row = sharp.filter(kind="draws", interval=level).row(0, named=True)
        expected = 2 * stats.norm.ppf((1 + level) / 2) * sd
        # Order statistics of 60 draws lie a little further out.
        assert row["value"] == pytest.approx(expected, rel=0.05)
        null = sharp.filter(kind="train-profiles", interval=level)["value"][0]
        assert row["high"] < null
    row = sharp.filter(pl.col("interval").is_null() & (pl.col("kind") == "draws"))
    # The patients with two slides have a mixture, a little wider.
    assert row["value"][0] == pytest.approx(sd, rel=0.03)
    assert row["n"][0] == 90


def test_ssgsea_can_be_chosen(made: synthetic_cohort.Synthetic, tmp_path: Path) -> None:
    chosen = config.defaults("evaluate", pathway_score="ssgsea", **SETTINGS)
    found = scoring_score.score_run(made.inputs, chosen, 1, 1)
    of = pathway_intervals.pathway_scores(found)
    covered = np.concatenate([fold.covered[-1] for fold in of["draws"]]).mean()
    assert covered == pytest.approx(0.9, abs=0.05)
    method = SsGsea(found.pathway_members)
    truth = np.concatenate([method.score(given_.truth.T).T for given_ in found.predictions])
    _, rmse = tables.pathway_scores(found, set())
    points = np.concatenate([method.score(given_.test["flow"].T).T for given_ in found.predictions])
    np.testing.assert_allclose(
        rmse["flow"], np.sqrt(((points - truth) ** 2).mean(axis=0)), rtol=1e-4
    )
