"""Evaluation of a cohort whose law is known, through files of the stages' own layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import zarr
from evaluated import pick
from evaluated import run_small as run
from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.data import patients
from slide2rna.evaluation.scoring import folds, score
from slide2rna.evaluation.scoring.labels import clean_rows
from slide2rna.features import bag_file
from slide2rna.storage import parquet


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), patients=90)


@pytest.fixture(scope="module")
def tables(
    made: synthetic_cohort.Synthetic, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    return run(made, tmp_path_factory.mktemp("evaluation"))


def test_exact_draws_are_found_calibrated(tables: dict[str, pl.DataFrame]) -> None:
    calibration = tables["calibration"]
    for level in (0.5, 0.8, 0.9):
        row = pick(calibration, gene_set="all", quantity="coverage", within="pooled", nominal=level)
        assert abs(row["covered"] - level) < 0.015
        assert row["low"] <= row["covered"] <= row["high"]
    shares = calibration.filter((pl.col("quantity") == "pit") & (pl.col("gene_set") == "all"))
    assert shares["covered"].sum() == pytest.approx(1)
    assert np.abs(shares["covered"].to_numpy() - 0.05).max() < 0.01
    nll = {
        kind: pick(calibration, gene_set="all", quantity="nll", kind=kind)["value"]
        for kind in ("draws", "train-normal")
    }
    assert nll["draws"] < nll["train-normal"]


def test_overconfident_draws_are_found_out(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", genes=60, draw_sd=0.5)
    calibration = run(made, tmp_path / "e")["calibration"]
    row = pick(calibration, gene_set="all", quantity="coverage", within="pooled", nominal=0.9)
    assert row["covered"] < 0.7


def test_the_true_mean_beats_every_null_and_one_draw(tables: dict[str, pl.DataFrame]) -> None:
    summary = clean_rows(tables["summary"])
    for null in ("color-ridge", "ridge", "site-mean", "permuted"):
        row = pick(summary, model="flow", gene_set="all", metric=f"pcc_minus:{null}")
        assert row["low"] > 0, null
    assert pick(summary, model="flow", gene_set="all", metric="rmse_minus:constant")["high"] < 0
    assert pick(summary, model="flow", gene_set="all", metric="crps_minus:constant")["high"] < 0
    one, mean = (
        pick(summary, model="flow", gene_set="T50", metric=metric)["value"]
        for metric in ("pcc_one_draw", "pcc_draw_mean")
    )
    assert one == pytest.approx(mean**2, abs=0.08)
    assert pick(summary, model="constant", gene_set="all", metric="pcc")["value"] == 0
    assert pick(summary, model="constant", gene_set="all", metric="rmse_ratio")["value"] == 1


def test_summary_equals_a_plain_loop_over_folds_and_genes(
    made: synthetic_cohort.Synthetic, tables: dict[str, pl.DataFrame]
) -> None:
    cohort = synthetic_cohort.load(made)
    pcc, errors, of_twenty = [], [], []
    for path in made.inputs.draws:
        fold = folds.load_fold(cohort, path)
        store = zarr.open_group(path, mode="r")
        ids, point = list(store.attrs["slide_ids"]), store["point"][:]
        owner = dict(cohort.slides.select("slide_id", "sample_id").iter_rows())

        def rows(part, ids=ids, point=point, owner=owner):  # type: ignore[no-untyped-def]
            return np.array(
                [
                    np.mean([point[i] for i, s in enumerate(ids) if owner[s] == name], axis=0)
                    for name in part.samples
                ]
            )

        def r_of(part: patients.Part, gene: int, rows=rows) -> float:  # type: ignore[no-untyped-def]
            return float(np.corrcoef(rows(part)[:, gene], part.truth[:, gene])[0, 1])

        genes = range(1, len(cohort.genes))
        test, val = ([r_of(part, gene) for gene in genes] for part in (fold.test, fold.val))
        pcc.append(np.mean(test))
        error = rows(fold.test) - fold.test.truth
        errors.append(np.sqrt((error**2).mean(axis=0))[1:].mean())
        of_twenty.append(np.mean([test[i] for i in np.argsort(val)[-20:]]))
    summary = clean_rows(tables["summary"])
    for metric, expected in (("pcc", pcc), ("rmse", errors)):
        row = pick(summary, model="flow", gene_set="all", metric=metric)
        assert row["value"] == pytest.approx(np.mean(expected), abs=1e-5)
        assert row["n_patients"] == 90
        assert row["n_genes"] == 199
    row = pick(summary, model="flow", gene_set="T20", metric="pcc")
    assert row["value"] == pytest.approx(np.mean(of_twenty), abs=1e-5)


def test_genes_table_has_sets_flags_and_fdr(tables: dict[str, pl.DataFrame]) -> None:
    genes = tables["genes"]
    first = pick(genes, gene="GENE0000")
    assert first["r"] is None
    assert first["constant_in_train"]
    strong = genes.tail(20)
    assert (strong["fdr"] < 0.05).all()
    known = genes.filter(pl.col("r").is_not_null())
    assert (known["r_low"] <= known["r"]).all()
    assert (known["r"] <= known["r_high"]).all()
    for k in (100, 50, 20):
        memberships = genes[f"in_T{k}"].explode().drop_nulls()
        assert memberships.value_counts()["count"].to_list() == [k] * 3
    assert abs(genes["r_floor"].mean()) < 0.1
    assert genes["covered90"].tail(199).mean() == pytest.approx(0.9, abs=0.02)


def only(made: synthetic_cohort.Synthetic, fold: int, count: int) -> None:
    """Leave this number of test samples in a fold."""
    splits = pl.read_csv(made.inputs.splits, separator="\t")
    tested = (pl.col("fold") == fold) & (pl.col("part") == "test")
    kept = splits.filter(tested).head(count)
    splits = pl.concat([splits.filter(~tested), kept])
    made.inputs.splits.write_text(splits.write_csv(separator="\t"))


def test_the_noise_floor_is_that_of_the_folds_that_count(tmp_path: Path) -> None:
    """A fold of three has no part in the correlation, so it has none in its floor."""
    made = synthetic_cohort.make(tmp_path / "c", patients=45, genes=60, draws=4)
    only(made, 0, 3)
    less = replace(made.inputs, draws=made.inputs.draws[1:], models=made.inputs.models[1:])
    every = run(made, tmp_path / "e")["summary"]
    rest = run(replace(made, inputs=less), tmp_path / "f")["summary"]
    for metric in ("pcc", "pcc_floor"):
        keys = {"protocol": "clean", "model": "flow", "gene_set": "all", "metric": metric}
        found, expected = (pick(table, **keys) for table in (every, rest))
        ends = ("value", "low", "high")
        assert [found[k] for k in ends] == pytest.approx([expected[k] for k in ends]), metric


def test_folds_too_small_for_any_correlation_have_neither_score_nor_floor(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=45, genes=60, draws=4)
    for fold in range(3):
        only(made, fold, 3)
    summary = clean_rows(run(made, tmp_path / "e")["summary"])
    for metric in ("pcc", "pcc_floor"):
        assert pick(summary, model="flow", gene_set="all", metric=metric)["value"] is None


def test_pathways_and_samples(tables: dict[str, pl.DataFrame]) -> None:
    pathways, samples = tables["pathways"], tables["samples"]
    assert pathways.height == 8
    assert pathways["r"].to_list() == sorted(pathways["r"].to_list(), reverse=True)
    assert pathways["covered90"].mean() == pytest.approx(0.9, abs=0.08)
    assert samples.height == 90
    assert samples["n_slides"].sum() == 108
    assert tables["examples"]["gene"].n_unique() == score.EXAMPLES


def test_slides_that_failed_and_samples_without_truth_are_left_out(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=40, genes=30, draws=20, failed=3)
    table = pl.read_parquet(made.inputs.expression).filter(pl.col("sample_id") != "P001")
    parquet.write(table, made.inputs.expression)
    samples = run(made, tmp_path / "e")["samples"]
    assert samples.height == 36
    assert "P001" not in samples["sample_id"].to_list()


def test_caveat_and_names_are_in_every_table(tmp_path: Path) -> None:
    caveat = "within one patient, adjacent sections: no claim about patients"
    made = synthetic_cohort.make(tmp_path / "c", patients=30, genes=30, draws=20, caveat=caveat)
    for name, table in run(made, tmp_path / "e").items():
        if name == "search":
            assert table.is_empty()
            continue
        assert set(table["caveat"]) == {caveat}, name
        assert set(table["cohort"]) == {"synthetic"}
        assert set(table["protocol"]) - {"clean"} == ({"published"} if name == "summary" else set())
        assert set(table["run"]) == {synthetic_cohort.RUN}
    summary = clean_rows(pl.read_parquet(tmp_path / "e/summary.parquet"))
    note = pick(summary, model="flow", gene_set="all", metric="pcc")["note"]
    assert "too few for per-gene claims" in note


def test_few_draws_refuse_wide_intervals_instead_of_inventing_them(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=30, genes=30, draws=10)
    calibration = run(made, tmp_path / "e")["calibration"]
    nominal = calibration.filter(pl.col("quantity") == "coverage")["nominal"]
    assert nominal.max() == 0.8


def test_same_seed_same_tables(made: synthetic_cohort.Synthetic, tmp_path: Path) -> None:
    small = {"bootstrap": 20, "permutations": 5}
    first, second = run(made, tmp_path / "a", **small), run(made, tmp_path / "b", **small)
    for name, table in first.items():
        assert table.equals(second[name]), name


def test_a_cohort_without_sites_or_colour_says_why_a_null_is_absent(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=30, genes=30, draws=20, color=False)
    table = pl.read_parquet(made.inputs.slides).with_columns(pl.lit(None, pl.String).alias("site"))
    parquet.write(table, made.inputs.slides)
    summary = run(made, tmp_path / "e")["summary"]
    absent = dict(summary.filter(pl.col("metric") == "absent").select("model", "note").iter_rows())
    assert set(absent) == {"site-mean", "color-ridge"}


def test_inputs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=30, genes=30, draws=4)
    path = made.inputs.models[0] / "model.json"
    meta = json.loads(path.read_text())
    files.write_json(meta | {"genes": meta["genes"][::-1]}, path)
    with pytest.raises(StageError, match="genes"):
        run(made, tmp_path / "e")
    files.write_json(meta, path)
    table = pl.read_parquet(made.inputs.expression)
    parquet.write(table.drop("GENE0005"), made.inputs.expression)
    with pytest.raises(StageError, match=r"1 of .*30 genes.*GENE0005"):
        run(made, tmp_path / "e")
    parquet.write(table, made.inputs.expression)
    splits = made.inputs.splits.read_text().replace("\ttest", "\tswap").replace("\tval", "\ttest")
    made.inputs.splits.write_text(splits.replace("\tswap", "\tval"))
    with pytest.raises(StageError, match="splits"):
        run(made, tmp_path / "e")


def test_draws_are_read_per_sample_and_pooled_over_its_slides(
    made: synthetic_cohort.Synthetic,
) -> None:
    cohort = synthetic_cohort.load(made)
    fold = folds.load_fold(cohort, made.inputs.draws[0])
    raw = fold.array("draws")[:]
    for row, draws in fold.test_draws():
        slides = [fold.test.slide_ids[i] for i in np.flatnonzero(fold.test.pool[row])]
        np.testing.assert_array_equal(draws, raw[[fold.rows[slide] for slide in slides]])
    assert isinstance(cohort.bags, bag_file.Bags)


def test_lost_draws_stop_the_evaluation(tmp_path: Path) -> None:
    """zarr reads a lost chunk as its fill value."""
    made = synthetic_cohort.make(tmp_path / "cohort", patients=40)
    store = sorted(made.inputs.draws)[0]
    attributes = zarr.open_group(store, mode="r").attrs
    parts, slides = (list(attributes[name]) for name in ("parts", "slide_ids"))
    row = parts.index("test")
    lost = [path for path in (store / "draws" / "c").glob(f"{row}/**/*") if path.is_file()]
    assert lost
    lost[0].unlink()
    with pytest.raises(StageError) as caught:
        run(made, tmp_path / "evaluation")
    assert slides[row] in caught.value.cause
