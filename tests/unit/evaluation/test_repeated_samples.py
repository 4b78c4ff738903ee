"""Several samples of a patient: patients are resampled and counted, and no gene is tested."""

from __future__ import annotations

from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import synthetic_cohort
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.evaluation.scoring.labels import clean_rows
from slide2rna.report import report
from slide2rna.report.sections import run_tables
from slide2rna.storage import parquet

Tables = dict[str, pl.DataFrame]


def run(made: synthetic_cohort.Synthetic, out: Path) -> Tables:
    return evaluated.run(made, out, bootstrap=60, permutations=5, top=[50, 3])


def rename(made: synthetic_cohort.Synthetic, patient_of: dict[str, str]) -> None:
    """Give the samples of a cohort to other patients."""
    table = pl.read_parquet(made.inputs.slides)
    patients = pl.col("sample_id").replace_strict(patient_of)
    parquet.write(table.with_columns(patients.alias("patient_id")), made.inputs.slides)


def in_pairs(made: synthetic_cohort.Synthetic) -> dict[str, str]:
    """Two samples of every test fold for each patient."""
    splits = pl.read_csv(made.inputs.splits, separator="\t").filter(pl.col("part") == "test")
    return {
        unit: f"fold {fold} patient {place // 2}"
        for (fold,), part in splits.group_by("fold")
        for place, unit in enumerate(part["unit"].sort())
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("c"), patients=66, genes=80, draws=20)


@pytest.fixture(scope="module")
def single(made: synthetic_cohort.Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return run(made, tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="module")
def paired(made: synthetic_cohort.Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    again = synthetic_cohort.make(folder, patients=66, genes=80, draws=20)
    rename(again, in_pairs(again))
    run(again, folder / "evaluation" / synthetic_cohort.RUN)
    return folder


def notes(summary: pl.DataFrame, metric: str = "pcc") -> str:
    rows = summary.filter((pl.col("model") == "flow") & (pl.col("metric") == metric))
    return str(rows["note"][0])


def test_one_sample_a_patient_is_drawn_as_before() -> None:
    patient_ids = [f"P{9 - i}" for i in range(9)]
    counts = bootstrap.patient_counts(np.random.default_rng(1), patient_ids, 40)
    expected = bootstrap.resample_counts(np.random.default_rng(1), 9, 40)
    np.testing.assert_array_equal(counts, expected)


def test_a_copy_of_every_sample_adds_nothing() -> None:
    """The same samples twice, as the same patients', have the intervals of once."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 12, 30))
    names = [f"P{i}" for i in range(12)]
    once = bootstrap.patient_counts(np.random.default_rng(3), names, 50)
    twice = bootstrap.patient_counts(np.random.default_rng(3), names * 2, 50)
    np.testing.assert_allclose(twice.sum(axis=1), 24, rtol=1e-6)
    np.testing.assert_allclose(
        bootstrap.PccBootstrap(twice, np.tile(y, (2, 1)))(np.tile(x, (2, 1))),
        bootstrap.PccBootstrap(once, y)(x),
        atol=1e-5,
    )


def test_samples_of_a_patient_are_drawn_together() -> None:
    patient_ids = ["a", "b", "a", "c", "c", "c"]
    counts = bootstrap.patient_counts(np.random.default_rng(4), patient_ids, 100)
    assert (counts[0] == 1).all()
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, 3], counts[:, 5])
    assert (counts[1:] == 0).any()
    np.testing.assert_allclose(counts.sum(axis=1), 6, rtol=1e-6)


def test_a_fold_of_one_patient_resamples_its_samples() -> None:
    counts = bootstrap.patient_counts(np.random.default_rng(5), ["a"] * 6, 40)
    np.testing.assert_array_equal(
        counts, bootstrap.resample_counts(np.random.default_rng(5), 6, 40)
    )


def test_names_of_patients_change_nothing(single: Tables, tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path / "c", patients=66, genes=80, draws=20)
    rename(made, {f"P{i:03d}": f"Q{99 - i}" for i in range(66)})
    found = run(made, tmp_path / "e")
    for name in ("summary", "genes", "pathways", "calibration"):
        assert found[name].equals(single[name]), name


def test_patients_are_counted_and_no_gene_is_tested(paired: Path, single: Tables) -> None:
    tables = {
        path.stem: pl.read_parquet(path) for path in (paired / "evaluation").rglob("*.parquet")
    }
    summary, genes = clean_rows(tables["summary"]), tables["genes"]
    assert set(summary["n_patients"]) == {33}
    assert set(summary["n_samples"]) == {66}
    said = notes(summary)
    assert "(11 in the smallest test fold)" in said
    assert "no per-gene test" in said
    assert "T3" in set(clean_rows(single["summary"])["gene_set"])
    assert "T3" not in set(summary["gene_set"])
    counted = summary.filter(pl.col("metric").str.starts_with("genes_"))
    assert counted["value"].is_null().all()
    assert counted["note"].str.contains("no test per gene").all()
    for column in genes.columns:
        if column in ("p", "fdr") or column.startswith(("p_minus", "fdr_minus")):
            assert genes[column].is_null().all(), column
            assert single["genes"][column].is_not_null().any(), column
    assert genes["r"].equals(single["genes"]["r"])


def test_the_report_of_such_a_cohort_shows_no_test(paired: Path) -> None:
    names = (synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)
    text = report.write(run_tables.load(paired, *names), paired / "report").read_text()
    assert "genes correlate above 0" not in text
    assert "Genes at FDR 5 %" not in text


def test_one_patient_in_all_keeps_its_intervals_and_caveat(single: Tables, tmp_path: Path) -> None:
    caveat = "within one patient, adjacent sections: no claim about patients"
    made = synthetic_cohort.make(tmp_path / "c", patients=66, genes=80, draws=20, caveat=caveat)
    rename(made, {f"P{i:03d}": "A" for i in range(66)})
    tables = run(made, tmp_path / "e")
    assert set(tables["summary"]["caveat"]) == {caveat}
    assert "(of a fold's only patient, samples)" in notes(tables["summary"])
    columns = ["value", "low", "high"]
    whole = (pl.col("metric") == "pcc") & (pl.col("gene_set") == "all")
    found, expected = (t["summary"].filter(whole).select(columns) for t in (tables, single))
    assert found.equals(expected)
