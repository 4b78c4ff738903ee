"""A cohort is frozen whole or not at all, from a sheet or from her2st's layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sheet_cohorts import FILES, FOLDS, load_command, make_sheet, source_of
from slide2rna.cohort import freeze
from slide2rna.core.errors import ConfigError, SheetError, UserError
from slide2rna.core.files import read_json
from slide2rna.storage import split_file


def test_a_sheet_becomes_five_files(tmp_path: Path) -> None:
    folder = make_sheet(tmp_path / "in")
    freeze.freeze_cohort("mine", source_of(folder), FOLDS, 1, tmp_path / "out")
    slides = pl.read_parquet(tmp_path / "out" / "slides.parquet")
    assert dict(slides.schema) == freeze.SCHEMA
    assert slides["slide_id"].is_sorted()
    assert slides["unit"].equals(slides["patient_id"].alias("unit"))
    expression = pl.read_parquet(tmp_path / "out" / "expression.parquet")
    assert expression.columns == ["sample_id", "A1BG", "ESR1", "TP53"]
    assert expression["sample_id"].to_list() == [f"P{i:02d}" for i in range(12)]
    folds = pl.read_csv(tmp_path / "out" / "splits.tsv", separator="\t")
    assert folds.columns == ["unit", "fold", "part"]
    assert folds.height == 12 * 5
    summary = read_json(tmp_path / "out" / "cohort.json")
    assert summary == {
        "name": "mine",
        "source": "sheet",
        "split_unit": "patient",
        "caveat": None,
        "n_slides": 13,
        "n_patients": 12,
        "n_samples": 12,
        "n_genes": 3,
        "n_sites": 2,
        "gene_names": {"found": {"symbol": 3}, "unknown": []},
        "flow": [
            {"step": "in the sheet", "slides": 13, "patients": 12},
            {"step": "with expression", "slides": 13, "patients": 12},
        ],
        "dropped": [],
    }


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    folder = make_sheet(tmp_path / "in")
    for out in ("one", "two"):
        freeze.freeze_cohort("mine", source_of(folder), FOLDS, 1, tmp_path / out)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_demo_and_law_read_what_their_generator_left(tmp_path: Path) -> None:
    folder = make_sheet(tmp_path / "source")
    (folder / "rna.parquet").rename(folder / "expression.parquet")
    freeze.freeze_cohort("demo", {"source": "demo"}, FOLDS, 1, tmp_path)
    assert read_json(tmp_path / "cohort.json")["n_slides"] == 13
    blank = pl.read_csv(folder / "sheet.tsv", separator="\t").with_columns(slide=pl.lit(None))
    blank.write_csv(folder / "sheet.tsv", separator="\t")
    freeze.freeze_cohort("law", {"source": "law"}, FOLDS, 1, tmp_path)
    assert pl.read_parquet(tmp_path / "slides.parquet")["path"].null_count() == 13


def spoil_expression(folder: Path, **columns: Any) -> None:
    path = folder / "rna.parquet"
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def drop_patient(folder: Path) -> None:
    path = folder / "rna.parquet"
    pl.read_parquet(path).filter(pl.col("sample_id") != "P03").write_parquet(path)


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (drop_patient, {}, "no expression for P03"),
        (lambda f: spoil_expression(f, TP53=-1.0), {}, "negative"),
        (lambda f: spoil_expression(f, TP53=float("nan")), {}, "NaN"),
        (lambda f: spoil_expression(f, TP53=pl.lit("x")), {}, "'TP53' is not numeric"),
        (lambda f: spoil_expression(f, TP53=500.0), {}, "expression_unit"),
        (lambda f: (f / "s3.svs").unlink(), {}, "line 5: slide 's3.svs' is not a file"),
        (lambda f: (f / "sheet.tsv").unlink(), {}, "no such file"),
        (lambda f: (f / "rna.parquet").unlink(), {}, "rna.parquet"),
        (lambda f: (f / "genes.txt").write_text("TP53\nXYZ1\n"), {"genes": "genes.txt"}, "XYZ1"),
        (
            lambda f: (f / "split.tsv").write_text("patient_id\tfold\tpart\nP00\t0\tdev\n"),
            {"splits": "split.tsv"},
            "part 'dev' is unknown",
        ),
        (lambda f: None, {"split_unit": "section"}, "sample P00 is measured on several sections"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path: Path, spoil, changes, message: str) -> None:
    folder = make_sheet(tmp_path / "in")
    spoil(folder)
    for key in ("genes", "splits"):
        if key in changes:
            changes = changes | {key: str(folder / changes[key])}
    with pytest.raises(UserError) as caught:
        freeze.freeze_cohort("mine", source_of(folder, **changes), FOLDS, 1, tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_rewrite_leaves_no_old_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sheet(tmp_path / "in")
    freeze.freeze_cohort("mine", source_of(folder), FOLDS, 1, tmp_path / "out")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(split_file, "write", die)
    with pytest.raises(KeyboardInterrupt):
        freeze.freeze_cohort("mine", source_of(folder), FOLDS, 2, tmp_path / "out")
    assert not (tmp_path / "out" / "cohort.json").exists()


def test_too_few_patients_for_the_folds(tmp_path: Path) -> None:
    folder = make_sheet(tmp_path / "in", patients=4)
    with pytest.raises(ConfigError, match=r"set folds: \{n: 4\}"):
        freeze.freeze_cohort("mine", source_of(folder), FOLDS, 1, tmp_path / "out")


def test_sections_as_units_carry_the_caveat(tmp_path: Path) -> None:
    own = {"sample_id": [f"R{i:02d}" for i in range(13)]}
    folder = make_sheet(tmp_path / "in", extra=own)
    table = pl.DataFrame({"sample_id": own["sample_id"], "TP53": [1.0] * 13})
    table.write_parquet(folder / "rna.parquet")
    freeze.freeze_cohort(
        "mine", source_of(folder, split_unit="section"), FOLDS, 1, tmp_path / "out"
    )
    summary = read_json(tmp_path / "out" / "cohort.json")
    assert "no claim about patients" in summary["caveat"]
    slides = pl.read_parquet(tmp_path / "out" / "slides.parquet")
    assert slides["unit"].n_unique() == 13


def test_split_column_and_split_file_exclude_each_other(tmp_path: Path) -> None:
    part = ["train"] * 9 + ["val", "cal", "test", "train"]
    folder = make_sheet(tmp_path / "in", extra={"split": part})
    one = FOLDS | {"n": 1}
    freeze.freeze_cohort("mine", source_of(folder), one, 1, tmp_path / "out")
    folds = pl.read_csv(tmp_path / "out" / "splits.tsv", separator="\t")
    assert folds["part"].to_list() == part[:12]
    with pytest.raises(SheetError, match="exclude each other"):
        freeze.freeze_cohort("mine", source_of(folder, splits="x.tsv"), one, 1, tmp_path / "out")


def test_command_line(tmp_path: Path, repo: Path) -> None:
    folder = make_sheet(tmp_path / "in")
    command = [sys.executable, str(repo / "scripts" / "cohort.py"), "--name", "mine"]
    command += ["--out", str(tmp_path / "out"), "--source"]
    done = subprocess.run(
        [*command, json.dumps(source_of(folder))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "out" / name).is_file() for name in FILES)
    main = load_command(repo)
    for bad, word in [
        ('{"source": "sheet"}', "'sheet'"),
        ('{"source": "gcd"}', "gcd"),
        ("{", "JSON"),
        ("[]", "not allowed"),
    ]:
        with pytest.raises(ConfigError, match=word):
            main([*command[2:], bad])


def test_an_empty_slide_is_refused_where_features_are_made_from_slides(
    tmp_path: Path, repo: Path
) -> None:
    folder = make_sheet(tmp_path / "in")
    sheet = pl.read_csv(folder / "sheet.tsv", separator="\t")
    slide = pl.when(pl.col("slide_id") != "S03").then("slide")
    sheet.with_columns(slide).write_csv(folder / "sheet.tsv", separator="\t")
    mine = source_of(folder) | {"settings": {"features": {"encoder": "color"}}}
    configured = tmp_path / "config.yaml"
    configured.write_text(json.dumps({"cohorts": {"mine": mine}}))
    main = load_command(repo)
    by_config = ["mine", "--config", str(configured), "--out", str(tmp_path / "out")]
    by_rule = ["--name", "mine", "--out", str(tmp_path / "out"), "--source", json.dumps(mine)]
    for arguments in (by_config, [*by_rule, "--needs-slides"]):
        with pytest.raises(SheetError, match=r"sheet.tsv line 5: slide of S03 is empty; give each"):
            main(arguments)
    mine["settings"]["features"] = {"encoder": "files", "path": "features"}
    configured.write_text(json.dumps({"cohorts": {"mine": mine}}))
    main(by_config)
