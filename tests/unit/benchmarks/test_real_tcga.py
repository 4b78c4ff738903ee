"""The benchmark on real patients: its configuration, signatures by hand, and its page."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import real_tcga
import real_tcga_config as planned
import real_tcga_signature_tables as signature_tables
import real_tcga_signatures as signatures
import real_tcga_tables as tables
import synthetic_cohort
from slide2rna.cohort import expression, sheet
from slide2rna.core import config, seeds
from slide2rna.core.errors import ConfigError
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.evaluation.scoring import folds

NAMES = ["mean of ten", "noise", "half measured"]


def write_folder(folder: Path, sites: list[str | None]) -> Path:
    """A cohort of twelve slides in the layout of tcga_hif."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(folder.name))
    ids = [f"P{i:02d}" for i in range(12)]
    slides = [f"{name}-S1" for name in ids]
    features = {"slide_id": slides, "patient_id": ids, "AREA": rng.normal(size=12)}
    pl.DataFrame(features).write_parquet(folder / "features.parquet")
    genes = {f"G{i}": rng.uniform(0, 9, 12) for i in range(4)}
    pl.DataFrame({"sample_id": ids} | genes).write_parquet(folder / "expression.parquet")
    rows = {"slide_id": slides, "patient_id": ids, "slide": [""] * 12, "site": sites}
    pl.DataFrame(rows).write_csv(folder / "sheet.tsv", separator="\t")
    return folder


def test_configuration_of_two_folders(tmp_path: Path) -> None:
    data = tmp_path / "data" / "hif"
    write_folder(data / "luad", ["A", "B", "C"] * 4)
    write_folder(data / "lusc", ["A", "B", "C", "D", "E", "F"] * 2)
    (data / "incomplete").mkdir()
    cohorts = planned.benchmark_cohorts(planned.cohort_folders(data, []), tmp_path / "out")
    settings = planned.configuration(cohorts, tmp_path / "out")
    full = config.validate(settings)
    names = ["LUAD-alone", "LUAD", "LUAD-sites", "LUSC-alone", "LUSC", "LUSC-sites"]
    assert list(full["cohorts"]) == names
    # Site cohorts are of the same patients: their partner is the other cancer alone.
    assert [config.partners(full, name) for name in names] == [
        *([], ["LUSC"], ["LUSC"]),
        *([], ["LUAD"], ["LUAD"]),
    ]
    luad = config.for_cohort(full, "LUAD")
    assert luad["folds"]["by"] == "patient"
    assert luad["bags"]["k"] == 1
    assert luad["features"]["scale"] == "rank"
    by_site = [config.for_cohort(full, f"{name}-sites")["folds"] for name in ("LUAD", "LUSC")]
    assert [(folds["by"], folds["n"]) for folds in by_site] == [
        ("leave-site-out", 3),
        ("leave-site-out", 5),
    ]
    assert full["external"][0] == {"train": "LUAD-alone", "test": "LUSC-alone"}
    assert real_tcga.run_names(settings)["LUAD-sites"] == "files-flow-go-bp"


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    write_folder(tmp_path / "luad", [None, *["A", "B"] * 5, "A"])
    folders = planned.cohort_folders(tmp_path, ["luad"])
    names = [cohort.name for cohort in planned.benchmark_cohorts(folders, tmp_path)]
    assert names == ["LUAD"]
    with pytest.raises(ConfigError, match="sheet"):
        planned.cohort_folders(tmp_path, ["coad"])
    with pytest.raises(ConfigError, match="folder"):
        planned.cohort_folders(tmp_path / "luad", [])


def test_patients_with_the_whole_genome(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hif" / "brca", ["A", "B", "C"] * 4)
    (tmp_path / "bulk").mkdir()
    with gzip.open(tmp_path / planned.WHOLE_GENOME["brca"], "wt") as file:
        file.write(",P03,P99,P01\nX,1,5,30\nY,3,5,10\n")
    cohorts = planned.benchmark_cohorts([folder], tmp_path / "out")
    bulk = next(cohort.entry for cohort in cohorts if cohort.name == "BRCA-bulk")
    assert sheet.read_sheet(bulk["sheet"])["patient_id"].to_list() == ["P01", "P03"]
    table = expression.read_expression(bulk["expression"], bulk["expression_unit"])
    # Counts per million of both genes, log2(x + 1).
    expected = np.log2(np.array([[0.75, 0.25], [0.25, 0.75]]) * 1e6 + 1)
    assert table["sample_id"].to_list() == ["P01", "P03"]
    np.testing.assert_allclose(table.select("X", "Y").to_numpy(), expected, rtol=1e-6)


def test_a_signature_is_fitted_on_the_patients_that_have_it() -> None:
    rng = np.random.default_rng(3)
    x, val_x = rng.normal(size=(60, 5)), rng.normal(size=(20, 5))
    slopes = rng.normal(size=(5, 3))
    y = x @ slopes + 0.1 * rng.normal(size=(60, 3))
    val_y = val_x @ slopes + 0.1 * rng.normal(size=(20, 3))
    y[10:25, 1], val_y[3, 1], y[5:, 2] = np.nan, np.nan, np.nan
    model = signatures.fit(x, y, val_x, val_y)
    rows, inside = np.isfinite(y[:, 1]), np.isfinite(val_y[:, 1])
    alone = signatures.fit(x[rows], y[rows, 1:2], val_x[inside], val_y[inside, 1:2])
    np.testing.assert_allclose(model.weights[:, 1], alone.weights[:, 0])
    np.testing.assert_allclose(model.weights[:, :2], slopes[:, :2], atol=0.1)
    error = (model.apply(val_x) - val_y)[:, 0]
    assert model.residual_sd[0] == pytest.approx(np.sqrt((error**2).mean()))
    assert np.isnan(model.residual_sd[2])  # five train patients are too few


def by_hand(draws: np.ndarray, truth: float) -> float:
    """CRPS of an equal mixture of slides, (slides, D): every pair of draws looked at."""
    distance = np.abs(draws - truth).mean()
    slides, count = draws.shape
    spread = 0.0
    for a in range(slides):
        for b in range(slides):
            pairs = np.abs(draws[a][:, None] - draws[b][None, :]).sum()
            spread += pairs / (count * (count - 1) if a == b else count**2)
    return float(distance - spread / slides**2 / 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    """A finished cohort whose last ten genes make a signature, and a table of signatures."""
    made = synthetic_cohort.make(tmp_path_factory.mktemp("real") / "X", patients=75, genes=60)
    table = pl.read_parquet(made.folder / "expression.parquet")
    values = table.drop("sample_id").to_numpy()[:, -10:].mean(axis=1)
    rng = np.random.default_rng(0)
    half = np.where(np.arange(75) % 3 == 0, np.nan, values)
    columns = [values, rng.normal(size=75), half]
    frame = {"patient_id": table["sample_id"]} | dict(zip(NAMES, columns, strict=True))
    pl.DataFrame(frame)[1:].write_parquet(made.folder / "signatures.parquet")
    return made


def test_scores_of_draws_by_hand(made: synthetic_cohort.Synthetic) -> None:
    path, run = made.folder / "signatures.parquet", synthetic_cohort.RUN
    cohort = synthetic_cohort.load(made)
    fold = folds.load_fold(cohort, made.folder / f"draws/{run}/fold-0.zarr")
    scored = signatures.score_fold(fold, path, NAMES, "X")
    train, val = (
        signatures.read_values(path, part.patient_ids, NAMES) for part in (fold.train, fold.val)
    )
    model = signatures.fit(fold.train.truth, train, fold.val.truth, val)
    rng = seeds.rng_for(signatures.SEED, "signatures", "X", 0)
    several = 0
    for row, draws in fold.test_draws():
        noise = rng.standard_normal((*draws.shape[:2], 3))
        several += len(draws) > 1
        for column in range(3):
            weights, offset = model.weights[:, column], model.offsets[column]
            values = draws.astype(float) @ weights + offset
            assert scored.points["draw_mean"][row, column] == pytest.approx(values.mean())
            values += model.residual_sd[column] * noise[..., column]
            truth = scored.truth[row, column]
            if np.isnan(truth):
                assert np.isnan([scored.crps[row, column], scored.covered[row, column]]).all()
                continue
            assert scored.crps[row, column] == pytest.approx(by_hand(values, truth), rel=1e-6)
            low, high = np.quantile(values, [0.05, 0.95], method="weibull")
            assert scored.covered[row, column] == (low <= truth <= high)
            known = train[np.isfinite(train[:, column]), column]
            expected = by_hand(known[None], truth)
            assert scored.crps_train[row, column] == pytest.approx(expected, rel=1e-6)
    assert several


def test_tables_of_the_signatures(made: synthetic_cohort.Synthetic) -> None:
    path = made.folder / "signatures.parquet"
    scored = signatures.score_cohort(made.folder, synthetic_cohort.RUN, path, NAMES)
    table = signature_tables.signature_table(scored, NAMES)
    assert table["n_missing"].to_list() == [1, 1, 25]
    assert table["n_patients"].to_list() == [74, 74, 50]
    good, noise, _ = table.iter_rows(named=True)
    # The draws follow the law of the genes, and the signature is linear in them.
    assert good["pcc_draw_mean"] > 0.4
    assert good["pcc_draw_mean_low"] < good["pcc_draw_mean"] < good["pcc_draw_mean_high"]
    assert good["pcc_measured"] > 0.9
    assert good["crps"] < good["crps_train"]
    assert 0.8 < good["covered90"] < 1
    assert abs(noise["pcc_draw_mean"]) < 0.35
    means = signature_tables.summary_table(scored)
    mean = evaluated.pick(means, quantity="pcc_point")
    assert mean["value"] == pytest.approx(table["pcc_point"].mean())
    ratio = (table["crps"] / table["crps_train"]).mean()
    assert evaluated.pick(means, quantity="crps_ratio")["value"] == pytest.approx(ratio)


def test_correlations_leave_missing_values_out() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 30, 2)) + 50
    y[4:9, 1] = np.nan
    counts = bootstrap.resample_counts(rng, 30, 3).round()
    r = signature_tables.resampled_pcc(counts, x, y)
    for row, weights in enumerate(counts):
        for column in range(2):
            used = np.repeat(np.arange(30), weights.astype(int))
            used = used[np.isfinite(y[used, column])]
            expected = np.corrcoef(x[used, column], y[used, column])[0, 1]
            assert r[row, column] == pytest.approx(expected)


def test_the_page_shows_the_evaluation(made: synthetic_cohort.Synthetic, tmp_path: Path) -> None:
    out = tmp_path / "X" / "evaluation" / synthetic_cohort.RUN
    found = evaluated.run(made, out, bootstrap=20, permutations=5)
    cohort = planned.BenchmarkCohort("X", planned.PATIENT, tmp_path / "none.parquet", {})
    table = tables.cohort_rows(tmp_path, cohort, synthetic_cohort.RUN)
    clean = found["summary"].filter(protocol="clean", gene_set="all")
    ridge = evaluated.pick(clean, model="ridge", metric="pcc")["value"]
    assert evaluated.pick(table, model="ridge", quantity="pcc")["value"] == ridge
    assert evaluated.pick(table, model="flow, draws", quantity="coverage90")["low"] < 1
    path = made.folder / "signatures.parquet"
    with_signatures = replace(cohort, signatures=path)
    names = {"X": synthetic_cohort.RUN}
    immune = real_tcga.signature_table(made.folder.parent, [with_signatures], names)
    text = tables.page(table, immune, ["note"])
    assert f"| ridge | {ridge:.3f} [" in text
    for part in ("CRPS, train profiles", "90% intervals hold", "(GSC), flow, draws", "| noise |"):
        assert part in text
    assert "X: the best 3" in text
