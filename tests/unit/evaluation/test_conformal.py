"""Conformal intervals: what they promise, refuse, and keep where the law is known."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import zarr
from evaluated import pick
from hypothesis import given
from hypothesis import strategies as st
from slide2rna.core import config
from slide2rna.data import patients
from slide2rna.evaluation.scoring import draw_scores, folds, score
from slide2rna.evaluation.uncertainty import conformal, conformal_table
from slide2rna.storage import parquet

LEVELS = [0.5, 0.8, 0.9]
# 18 errors and sds, then two slides' points and sds; ends as crepes 0.9.1 gives them:
# ConformalRegressor().fit(errors, sigmas=sds).predict_int(points, sigmas=sds, confidence=level).
ERRORS = [-0.802, 0.42, -0.553, 1.635, -0.958, -1.732, -0.629, 0.553, 0.41]
ERRORS += [-0.257, -1.289, -0.304, -1.091, -1.109, -1.998, 0.033, -0.233, -1.181]
SDS = [0.86, 1.526, 1.461, 1.453, 0.791, 1.071, 1.912, 1.713, 1.771]
SDS += [1.219, 1.103, 1.447, 0.991, 1.735, 0.61, 0.71, 1.238, 1.797]
POINTS, POINT_SDS = [5.708, 6.403], [1.788, 1.098]
CREPES = {
    0.5: [[4.565123, 6.850877], [5.701166, 7.104834]],
    0.8: [[3.542508, 7.873492], [5.073185, 7.732815]],
    0.9: [[-0.148433, 11.564433], [2.8066, 9.9994]],
}


def run(
    made: synthetic_cohort.Synthetic, out: Path, threads: int = 1, **settings: object
) -> dict[str, pl.DataFrame]:
    return evaluated.run(made, out, threads, bootstrap=60, permutations=5, top=[50], **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    """Draws half as wide as they should be, and 39 patients a fold to find out."""
    folder = tmp_path_factory.mktemp("cohort")
    return synthetic_cohort.make(folder, patients=120, genes=100, draw_sd=0.5, cal=39)


@pytest.fixture(scope="module")
def tables(
    made: synthetic_cohort.Synthetic, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    return run(made, tmp_path_factory.mktemp("evaluation"), conformal={"by": "site"})


@given(st.integers(1, 400), st.sampled_from([Fraction(i, 100) for i in range(1, 100)]))
def test_the_order_is_exact_whatever_the_rounding(n: int, level: Fraction) -> None:
    exact = ceil((n + 1) * level)
    k = conformal.order(n, float(level))
    assert k == (exact if exact <= n else None)
    promised = conformal.attainable(n, float(level))
    if promised is None:
        assert n < ceil(1 / (1 - level)) - 1
    else:
        assert float(level) - 1e-12 <= promised <= float(level) + 1 / (n + 1)


@pytest.mark.parametrize("level", LEVELS)
def test_intervals_are_those_of_crepes(level: float) -> None:
    of_cal = conformal.scores(np.zeros(18), np.array(SDS), np.array(ERRORS))[:, None]
    factor = conformal.CalibrationGroup.of(of_cal, [level]).factors[0]
    points, sds = np.array(POINTS), np.array(POINT_SDS)
    low, high = conformal.interval(points, sds, factor)
    np.testing.assert_allclose(np.stack([low, high], 1), np.maximum(CREPES[level], 0), atol=1e-5)


def test_coverage_is_the_promised_one_on_average_over_calibrations() -> None:
    """Whatever the law of the errors: here heavy tails, skewed, and sds that are worthless."""
    rng = np.random.default_rng(4)
    n, genes = 19, 40_000
    cal, new = (rng.standard_t(2, size=(rows, genes)) ** 2 for rows in (n, 1))
    sds = rng.uniform(0.2, 3, size=(n + 1, genes))
    group = conformal.CalibrationGroup.of(cal / sds[:n], LEVELS)
    for row, level in enumerate(LEVELS):
        covered = (new[0] / sds[n] <= group.factors[row]).mean()
        promised = conformal.attainable(n, level)
        assert promised is not None
        assert covered == pytest.approx(promised, abs=4 * np.sqrt(0.25 / genes))


def test_narrow_draws_are_widened_to_what_they_should_be(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["conformal"]
    for level in LEVELS:
        raw, ours = (
            pick(table, gene_set="all", kind=kind, within="pooled", level=level)
            for kind in ("draws", "conformal")
        )
        error = (ours["high"] - ours["low"]) / 3.92
        assert raw["covered"] < level - 0.15
        assert abs(ours["covered"] - level) < 0.02 + error
        assert ours["attainable"] == pytest.approx(level)
        assert (ours["n_cal"], ours["answered"], ours["n"]) == (39, 1, 120)
        assert ours["width_ratio"] == pytest.approx(2, abs=0.15)
        assert raw["width_ratio"] == pytest.approx(1)
        gene = pick(table, gene_set="all", kind="conformal", within="gene", level=level)
        assert gene["low"] < level < gene["high"]


def test_the_table_equals_a_plain_loop(
    made: synthetic_cohort.Synthetic, tables: dict[str, pl.DataFrame]
) -> None:
    cohort = synthetic_cohort.load(made)
    inside, width = [], []
    for path in made.inputs.draws:
        fold = folds.load_fold(cohort, path)
        store = zarr.open_group(path, mode="r")
        ids = list(store.attrs["slide_ids"])
        point, mean, sd = (store[name][:] for name in ("point", "mean", "sd"))
        owner = dict(cohort.slides.select("slide_id", "sample_id").iter_rows())

        def of(name, gene, ids=ids, point=point, mean=mean, sd=sd, owner=owner):  # type: ignore[no-untyped-def]
            rows = [i for i, slide in enumerate(ids) if owner[slide] == name]
            variance = (sd[rows, gene] ** 2).mean() + mean[rows, gene].var()
            return point[rows, gene].mean(), np.sqrt(variance)

        for gene in (1, 37, 99):
            of_cal = []
            for name, y in zip(fold.cal.samples, fold.cal.truth[:, gene], strict=True):
                centre, scale = of(name, gene)
                of_cal.append(abs(y - centre) / scale)
            factor = sorted(of_cal)[ceil(40 * 0.8) - 1]
            given_out = tables["conformal_factors"].filter(
                pl.col("site").is_null()
                & (pl.col("fold") == fold.number)
                & (pl.col("level") == 0.8)
                & (pl.col("gene") == f"GENE{gene:04d}")
            )
            assert given_out["factor"].to_list() == pytest.approx([factor], rel=1e-4)
            for name, y in zip(fold.test.samples, fold.test.truth[:, gene], strict=True):
                centre, scale = of(name, gene)
                inside.append(abs(y - centre) <= factor * scale)
                width.append(2 * factor * scale)
    found = score.score_run(made.inputs, config.defaults("evaluate", bootstrap=10, top=[50]), 1, 1)
    ours = list(conformal.calibrate_all(found, "none"))
    ends = [each.intervals("conformal", 1) for each in ours]
    genes = [1, 37, 99]
    theirs = np.concatenate([(high - low)[:, genes] for low, high, _ in ends])
    assert theirs.mean() == pytest.approx(np.mean(width), rel=1e-4)
    held = [
        ((low <= each.truth) & (each.truth <= high))[:, genes]
        for each, (low, high, _) in zip(ours, ends, strict=True)
    ]
    assert np.concatenate(held).mean() == pytest.approx(np.mean(inside), abs=1e-9)


def test_sites_answer_for_themselves_or_refuse(
    made: synthetic_cohort.Synthetic, tables: dict[str, pl.DataFrame]
) -> None:
    """A third of the patients are from the west: about 13 of 39, enough for 90 %, and never 95."""
    table, factors = tables["conformal"], tables["conformal_factors"]
    row = pick(table, gene_set="all", kind="conformal-site", within="pooled", level=0.9)
    assert row["answered"] == 1
    assert 0.9 <= row["attainable"] < 0.97
    counts = (
        factors.filter(pl.col("site").is_not_null())
        .group_by("fold", "site")
        .agg(pl.col("n_cal").first())
    )
    assert sorted(counts["site"].unique()) == ["east", "west"]
    assert row["n_cal"] == counts["n_cal"].min()
    assert counts.group_by("fold").agg(pl.col("n_cal").sum())["n_cal"].to_list() == [39] * 3
    cohort = synthetic_cohort.load(made)
    fold = folds.load_fold(cohort, made.inputs.draws[0])
    sd = fold.train.truth.std(axis=0, dtype=np.float64)
    point = fold.read("point", fold.test)
    found = conformal.calibrate(fold, point, sd, [0.95], "site", 1)
    _, _, answered = found.intervals("conformal-site", 0)
    enough = {site for site, group in found.by_site.items() if group.count >= 19}
    assert enough == {"east"}
    assert answered.tolist() == [site == "east" for site in found.sites]
    assert np.isfinite(found.intervals("conformal-site", 0)[0]).all(axis=1).tolist() == (
        answered.tolist()
    )
    assert conformal.calibrate(fold, point, sd, [0.95], "none", 1).by_site == {}


def test_too_few_patients_are_refused_and_not_widened(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=45, genes=40, draws=30, cal=2)
    found = run(made, tmp_path / "e")
    for level, answered in ((0.5, 1), (0.8, 0), (0.9, 0)):
        row = pick(
            found["conformal"], gene_set="all", kind="conformal", within="pooled", level=level
        )
        assert (row["answered"], row["n_cal"]) == (answered, 2)
        assert (row["covered"] is None) == (answered == 0)
    assert row["note"] == "refused: it needs 9 calibration patients, not widened"
    refused = found["conformal_factors"].filter(pl.col("level") == 0.9)
    assert refused.select("gene", "factor", "attainable").null_count().row(0) == (3, 3, 3)
    assert found["conformal_factors"].filter(pl.col("level") == 0.5)["factor"].null_count() == 0


def test_a_silent_gene_has_an_interval_from_its_errors_alone() -> None:
    floor = conformal.least_sd(np.array([2.0, 0.0]))
    np.testing.assert_allclose(floor, [0.02, 1.0])
    low, high = conformal.interval(np.array([0.01, 3.0]), floor, np.array([4.0, 0.0]))
    np.testing.assert_allclose([low, high], [[0, 3], [0.09, 3]], atol=1e-6)


def test_a_patient_with_several_samples_gives_one_score(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=30, genes=20, draws=10, cal=6)
    part = folds.load_fold(synthetic_cohort.load(made), made.inputs.draws[0]).cal
    assert len(patients.one_row_per_patient(part.patient_ids, 1, "conformal", 0)) == 6
    twice = ["A", "A", "A", "B", "B", "C"]
    chosen = {
        tuple(patients.one_row_per_patient(twice, seed, "conformal", 0)) for seed in range(40)
    }
    assert {row[0] for row in chosen} == {0, 1, 2}
    assert {row[1:] for row in chosen} == {(3, 5), (4, 5)}


def test_a_patient_counts_once_however_many_its_samples(tmp_path: Path) -> None:
    """Nine test samples of a fold are one patient's, whose draws and points are far off."""
    made = synthetic_cohort.make(tmp_path, patients=60, genes=40, draws=25, cal=19)
    splits = pl.read_csv(made.inputs.splits, separator="\t").filter(pl.col("part") == "test")
    many = {
        unit: f"many {fold}"
        for (fold,), part in splits.group_by("fold")
        for unit in part["unit"].sort()[:9]
    }
    slides = pl.read_parquet(made.inputs.slides)
    owner = pl.col("sample_id").replace(many).alias("patient_id")
    parquet.write(slides.with_columns(owner), made.inputs.slides)
    for path in made.inputs.draws:
        store = zarr.open_group(path, mode="r+")
        ids = [name.split("-")[0] in many for name in store.attrs["slide_ids"]]
        mine = np.flatnonzero(np.array(ids) & (np.array(store.attrs["parts"]) == "test"))
        for name in ("draws", "mean", "point"):
            values = store[name][:]
            values[mine] += 3
            store[name][:] = values
    found = score.score_run(made.inputs, config.defaults("evaluate", bootstrap=20, top=[20]), 1, 1)
    ours = list(conformal.calibrate_all(found, "none"))
    table = conformal_table.table(found, ours, "none")
    for kind in ("draws", "conformal"):
        by_patient: dict[str, list[np.ndarray]] = {}
        for number, (fold, each) in enumerate(zip(found.folds, ours, strict=True)):
            low, high, _ = each.intervals("conformal", 1)
            inside = ((low <= each.truth) & (each.truth <= high))[:, 1:].mean(axis=1)
            if kind == "draws":
                of_draws = found.draw_scores[number]
                inside = of_draws.covered[np.flatnonzero(of_draws.levels == 0.8)[0], :, 0]
            for name, share in zip(fold.test.patient_ids, inside, strict=True):
                by_patient.setdefault(f"{fold.number} {name}", []).append(share)
        row = pick(table, gene_set="all", kind=kind, within="pooled", level=0.8)
        expected = np.mean([np.mean(shares) for shares in by_patient.values()])
        assert row["covered"] == pytest.approx(expected, abs=1e-6)
        assert row["covered"] > np.mean(np.concatenate(list(by_patient.values()))) + 0.2
        gene = pick(table, gene_set="all", kind=kind, within="gene", level=0.8)
        assert gene["covered"] == pytest.approx(expected, abs=0.05)
        assert "with 36 patients a gene" in gene["note"]


def test_shares_count_each_patient_once() -> None:
    found = draw_scores.patient_shares(["b", "a", "b", "c", "b"])
    np.testing.assert_allclose(found, [1 / 3, 1, 1 / 3, 1, 1 / 3])


def test_points_alone_have_none_and_a_summary_has_all_but_the_raw_ones(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=60, genes=40, draws=30, cal=20)
    whole = run(made, tmp_path / "whole")
    for path in made.inputs.draws:
        del zarr.open_group(path, mode="r+")["draws"]
    summary = run(made, tmp_path / "summary")
    ours = whole["conformal"].filter(pl.col("kind") == "conformal")
    drop = ["width_ratio"]
    assert summary["conformal"].drop(drop).equals(ours.drop(drop))
    assert set(summary["calibration"]["quantity"]) == {"nll", "spearman", "sharpness"}
    for quantity in ("nll", "spearman", "sharpness"):
        kept, full = (
            t["calibration"].filter(
                (pl.col("quantity") == quantity)
                & (pl.col("kind") == "draws")
                & (pl.col("interval").is_null())
            )["value"]
            for t in (summary, whole)
        )
        np.testing.assert_allclose(kept, full, rtol=0.02, atol=0.03)
    for path in made.inputs.draws:
        for name in ("mean", "sd"):
            del zarr.open_group(path, mode="r+")[name]
    points = run(made, tmp_path / "points")
    for name in ("conformal", "conformal_factors", "calibration"):
        assert points[name].height == 0
        assert points[name].schema == whole[name].schema
