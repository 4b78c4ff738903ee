"""The published folds as a cohort's split, and how many patients the published pairing shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sheet_cohorts import make_sheet, source_of
from slide2rna.cohort import freeze, leak_guard, published_splits
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, LeakError, SheetError
from slide2rna.core.files import read_json, sha256sum

FOLDS = config.defaults("folds")
# Test patients that are also in training, and test patients, per run of the published loader.
OVERLAP = {
    "LUAD": ([0, 14, 84, 10, 84], [95, 95, 95, 94, 94]),
    "BRCA": ([0, 18, 182, 20, 189], [212, 212, 212, 212, 211]),
    "COAD": ([0, 13, 82, 9, 78], [90, 90, 89, 89, 89]),
}


def units(names: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"unit": names}).with_columns(site=pl.lit(None, pl.String))


def rotating(names: list[str]) -> pl.DataFrame:
    """Five folds; fold f tests every fifth name from f on, and the next fold's names are val."""
    rows = [
        (name, fold, {0: "test", 1: "val"}.get((i - fold) % 5, "train"))
        for fold in range(5)
        for i, name in enumerate(names)
    ]
    return pl.DataFrame(rows, schema=["patient_id", "fold", "part"], orient="row")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "TCGA-MINE.tsv"
    rotating([f"P{i:02d}" for i in range(40)]).write_csv(path, separator="\t")
    return path


@pytest.mark.parametrize("project", OVERLAP)
def test_the_published_pairing_shares_patients(shared_data: Path, project: str) -> None:
    path = shared_data / "splits" / f"TCGA-{project}.tsv"
    given = pl.read_csv(path, separator="\t")
    names = given["patient_id"].unique().sort().to_list()
    table, lost = published_splits.read_published_split(path, units(names), FOLDS, 1)
    assert lost == []
    runs = published_splits.published_pairs(table)
    assert [len(run.shared) for run in runs] == OVERLAP[project][0]
    assert [len(run.test) for run in runs] == OVERLAP[project][1]
    assert [(run.part, run.fold) for run in runs] == [
        *(("train", 0), ("val", 0), ("train", 1), ("val", 1), ("train", 2))
    ]
    for run in runs:
        of_file = given.filter((pl.col("fold") == run.fold) & (pl.col("part") == run.part))
        assert run.train == of_file["patient_id"].sort().to_list()


def test_pairs_of_five_rotating_folds(file: Path) -> None:
    names = [f"P{i:02d}" for i in range(40)]
    table, _ = published_splits.read_published_split(file, units(names), FOLDS, 1)
    assert (table["part"] == "cal").sum() == 5 * 2
    runs = published_splits.published_pairs(table)
    # By rest of i modulo 5: val0 = test1 = 1; train1 = 0, 3, 4 and test2 = 2; val1 = 2 and
    # test3 = 3; train2 = 0, 1, 4 and test4 = 4.
    assert [len(run.shared) for run in runs] == [0, 8, 0, 0, 8]
    assert [len(run.train) for run in runs] == [24, 8, 24, 8, 24]
    assert runs[1].shared == [name for i, name in enumerate(names) if i % 5 == 1]


def test_the_guard_refuses_the_published_pairing(file: Path) -> None:
    names = [f"P{i:02d}" for i in range(40)]
    table, _ = published_splits.read_published_split(file, units(names), FOLDS, 1)
    rows = [
        (unit, run.run, part)
        for run in published_splits.published_pairs(table)
        for part, of_run in (("train", run.train), ("test", run.test))
        for unit in of_run
    ]
    paired = pl.DataFrame(rows, schema=["unit", "fold", "part"], orient="row")
    slides = pl.DataFrame(
        {"slide_id": names, "patient_id": names, "unit": names, "path": names}
    ).with_columns(md5=pl.lit(None, pl.String))
    with pytest.raises(LeakError, match="P01 \\(test and train\\)"):
        leak_guard.check_split(slides, paired)


def test_a_cohort_takes_the_published_folds(tmp_path: Path, file: Path) -> None:
    """P40 and P41 aren't in the file and leave; P02 is in the file and not in the cohort."""
    folder = make_sheet(tmp_path / "in", patients=42)
    sheet = pl.read_csv(folder / "sheet.tsv", separator="\t")
    sheet.filter(pl.col("patient_id") != "P02").write_csv(folder / "sheet.tsv", separator="\t")
    source = source_of(folder, splits="published", published_splits=str(file))
    config.validate({"cohorts": {"mine": source}})
    out = tmp_path / "out"
    freeze.freeze_cohort("mine", source, FOLDS, 1, out)
    given = pl.read_csv(file, separator="\t").filter(pl.col("patient_id") != "P02")
    table = pl.read_csv(out / "splits.tsv", separator="\t")
    both = table.join(given.rename({"patient_id": "unit"}), on=["unit", "fold"], suffix="_given")
    assert table.height == given.height == both.height
    moved = both.filter(pl.col("part") != pl.col("part_given"))
    assert moved.select("part_given", "part").unique().rows() == [("train", "cal")]
    info = read_json(out / "cohort.json")
    assert [(row["patient_id"], row["reason"]) for row in info["dropped"]] == [
        ("P40", "not in the published folds (TCGA-MINE.tsv)"),
        ("P41", "not in the published folds (TCGA-MINE.tsv)"),
    ]
    assert info["flow"][-1] == {"step": "in the published folds", "slides": 40, "patients": 39}
    facts = info["published_splits"]
    assert (facts["name"], facts["sha256"]) == ("TCGA-MINE.tsv", sha256sum(file))
    assert [row["n_shared"] for row in facts["overlap"]] == [0, 8, 0, 0, 8]
    assert facts["overlap"][1]["trained_on"] == "val of fold 0"
    assert info["n_samples"] == 39
    kept = pl.read_parquet(out / "expression.parquet")["sample_id"]
    assert set(kept) == set(pl.read_parquet(out / "slides.parquet")["sample_id"])


def test_a_published_file_that_is_missing_or_of_others_is_one_line(
    tmp_path: Path, file: Path
) -> None:
    folder = make_sheet(tmp_path / "in")
    source = source_of(folder, splits="published", published_splits=str(tmp_path / "no.tsv"))
    with pytest.raises(SheetError, match=r"no\.tsv: no such file"):
        freeze.freeze_cohort("mine", source, FOLDS, 1, tmp_path / "out")
    rotating([f"Q{i}" for i in range(9)]).write_csv(file, separator="\t")
    with pytest.raises(SheetError, match=r"\(P00 ...\)"):
        freeze.freeze_cohort(
            "mine", source | {"published_splits": str(file)}, FOLDS, 1, tmp_path / "out"
        )
    assert not (tmp_path / "out" / "cohort.json").exists()


@pytest.mark.parametrize("keys", [{"splits": "published"}, {"published_splits": "a.tsv"}])
def test_the_two_keys_go_together(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"cohorts\.mine: "):
        config.validate({"cohorts": {"mine": {"source": "demo", **keys}}})
