"""A cohort is frozen whole or not at all, from a sheet or from her2st's layout."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from slide2rna.cohort import freeze
from slide2rna.core import cli, config
from slide2rna.core.errors import ConfigError, SheetError, UserError
from slide2rna.core.files import read_json

FOLDS = config.defaults("folds")
FILES = ("slides.parquet", "expression.parquet", "splits.tsv", "cohort.json")


def make_sheet(folder: Path, patients: int = 12, extra: dict[str, list[str]] | None = None) -> Path:
    """A sheet with a slide per patient and a second one of P00, beside its expression table."""
    folder.mkdir(exist_ok=True)
    names = [f"P{i:02d}" for i in range(patients)] + ["P00"]
    rows = {
        "slide_id": [f"S{i:02d}" for i in range(len(names))],
        "patient_id": names,
        "slide": [f"s{i}.svs" for i in range(len(names))],
        "site": ["a" if i % 3 else "b" for i in range(len(names))],
    } | (extra or {})
    for name in rows["slide"]:
        (folder / name).write_text(name)
    pl.DataFrame(rows).write_csv(folder / "sheet.tsv", separator="\t")
    rng = np.random.default_rng(1)
    genes = {gene: rng.uniform(0, 12, patients + 1) for gene in ("TP53", "A1BG", "ESR1")}
    table = pl.DataFrame({"sample_id": [*dict.fromkeys(names), "unused"]} | genes)
    table.write_parquet(folder / "rna.parquet")
    return folder


def source_of(folder: Path, **changes: Any) -> dict[str, Any]:
    paths = {"sheet": str(folder / "sheet.tsv"), "expression": str(folder / "rna.parquet")}
    return {"source": "sheet"} | paths | changes


def test_a_sheet_becomes_four_files(tmp_path: Path) -> None:
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

    monkeypatch.setattr(freeze, "write_text", die)
    with pytest.raises(KeyboardInterrupt):
        freeze.freeze_cohort("mine", source_of(folder), FOLDS, 2, tmp_path / "out")
    assert not (tmp_path / "out" / "cohort.json").exists()


def test_too_few_patients_for_the_folds(tmp_path: Path) -> None:
    folder = make_sheet(tmp_path / "in", patients=4)
    with pytest.raises(ConfigError, match=r"\{n: 4\}"):
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
    with pytest.raises(SheetError, match="split"):
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
        with pytest.raises(SheetError, match=r"sheet\.tsv line 5: slide of S03 "):
            main(arguments)
    mine["settings"]["features"] = {"encoder": "files", "path": "features"}
    configured.write_text(json.dumps({"cohorts": {"mine": mine}}))
    main(by_config)


# Below: through the command line's own exit, one thing wrong at a time.


def replace(name: str, old: str, new: str) -> Callable[[Path], dict[str, Any]]:
    def spoil(lab: Path) -> dict[str, Any]:
        text = (lab / name).read_text()
        assert old in text
        (lab / name).write_text(text.replace(old, new, 1))
        return {}

    return spoil


def put(name: str, content: str | bytes, **keys: str) -> Callable[[Path], dict[str, Any]]:
    """Write a file; `keys` are keys of the source block that name files of the folder."""

    def spoil(lab: Path) -> dict[str, Any]:
        (lab / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return {key: str(lab / value) for key, value in keys.items()}

    return spoil


def transpose(lab: Path) -> dict[str, Any]:
    table = pl.read_csv(lab / "rna.csv")
    turned = table.transpose(include_header=True, header_name="gene", column_names="sample_id")
    turned.write_csv(lab / "rna.csv")
    return {}


def star(value: str = "1.5", last: int = 9, **keys: str) -> Callable[[Path], dict[str, Any]]:
    """A folder of STAR counts of P1 to P`last`; P3 has `value` for TP53."""
    header = "gene_id\tgene_name\tgene_type\tunstranded\ttpm_unstranded\tfpkm_uq_unstranded\n"

    def spoil(lab: Path) -> dict[str, Any]:
        (lab / "star").mkdir()
        for number in range(1, last + 1):
            own = value if number == 3 else "2.5"
            text = f"# gene-model: GENCODE v36\n{header}N_unmapped\t\t\t9\t\t\n"
            text += f"ENSG1.1\tTP53\tprotein_coding\t4\t1\t{own}\nENSG2.1\tESR1\tlnc\t4\t1\t1\n"
            (lab / "star" / f"P{number}.counts.tsv").write_text(text)
        return {"expression": str(lab / "star")} | keys

    return spoil


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Ten slides of nine patients in a TSV, three genes of ten patients in a CSV."""
    rows = ["slide_id\tpatient_id\tslide\tsite\tmpp"]
    for number in range(10):
        (tmp_path / f"{number}.svs").write_text(f"slide {number}")
        rows.append(f"S{number}\tP{max(number, 1)}\t{number}.svs\tsite{number % 2}\t0.5")
    (tmp_path / "sheet.tsv").write_text("\n".join(rows) + "\n")
    rows = [f"P{number},{number / 2},{number % 3},1.25" for number in range(1, 11)]
    (tmp_path / "rna.csv").write_text("\n".join(["sample_id,TP53,ERBB2,ESR1", *rows]) + "\n")
    return tmp_path


def lab_source(lab: Path) -> dict[str, Any]:
    return source_of(lab, expression=str(lab / "rna.csv"))


BAD = {
    "no sheet": (lambda lab: {"sheet": str(lab / "none.tsv")}, "none.tsv", "no such file"),
    "empty sheet": (put("sheet.tsv", ""), "sheet.tsv", "the file is empty"),
    "header only": (put("sheet.tsv", "slide_id,patient_id,slide\n"), "sheet.tsv", "no row"),
    "workbook": (put("sheet.tsv", b"PK\x03\x04xx"), "sheet.tsv", "a spreadsheet"),
    "latin-1": (put("sheet.tsv", b"slide_id\xe9\n1\n"), "sheet.tsv", "isn't UTF-8"),
    "broken gzip": (put("sheet.tsv", b"\x1f\x8b\x08" + b"x" * 40), "sheet.tsv", "gzip"),
    "missing file": (replace("sheet.tsv", "3.svs", "x.svs"), "line 5", "'x.svs' is not a file"),
    "duplicate slide": (replace("sheet.tsv", "S4", "S3"), "lines 5, 6", "'S3'"),
    "same file": (replace("sheet.tsv", "4.svs", "3.svs"), "lines 5, 6", "used by 2 rows"),
    "patient without": (replace("sheet.tsv", "P4", "P77"), "rna.csv", "no expression for P77"),
    "patient NA": (replace("sheet.tsv", "P4", "NA"), "line 6", "patient_id is empty or NA"),
    "negative mpp": (replace("sheet.tsv", "0.5", "-0.5"), "line 2", "mpp '-0.5'"),
    "mpp in words": (replace("sheet.tsv", "0.5", "20x"), "line 2", "mpp '20x'"),
    "short row": (replace("sheet.tsv", "\tsite0\t0.5", ""), "line 2", "fewer fields"),
    "long row": (replace("sheet.tsv", "\t0.5", "\t0.5\t1"), "line 2", "more fields"),
    "no table": (lambda lab: {"expression": str(lab / "x.csv")}, "x.csv", "no such file"),
    "empty table": (put("rna.csv", "\n"), "rna.csv", "the file is empty"),
    "no samples": (put("rna.csv", "sample_id,TP53\n"), "rna.csv", "no samples"),
    "fake parquet": (put("e.parquet", "x,y\n", expression="e.parquet"), "e.parquet", "parquet"),
    "NaN": (replace("rna.csv", "1.25", "NaN"), "rna.csv", "first gene ESR1 of P1"),
    "gap": (replace("rna.csv", "1.25", ""), "rna.csv", "first gene ESR1 of P1"),
    "infinite": (replace("rna.csv", "1.25", "inf"), "rna.csv", "first gene ESR1 of P1"),
    "negative": (replace("rna.csv", "1.25", "-1.25"), "rna.csv", "1 values are negative"),
    "text": (replace("rna.csv", "1.25", "high"), "line 2", "gene ESR1 of sample P1 is 'high'"),
    "grouped": (replace("rna.csv", "1.25", "1_250"), "line 2", "is '1_250', not a number"),
    "row too long": (replace("rna.csv", "1.25", "1.25,7"), "line 2", "5 cells"),
    "sample twice": (replace("rna.csv", "P10", "P9"), "rna.csv", "sample P9"),
    "gene twice": (replace("rna.csv", "ESR1", "TP53"), "rna.csv", "gene TP53"),
    "nameless gene": (replace("rna.csv", "ESR1", ""), "line 1", "column 4"),
    "linear as log2": (replace("rna.csv", "1.25", "1250"), "rna.csv", "can't be log2(x+1)"),
    "transposed": (transpose, "rna.csv", "columns"),
    "other genes": (put("g.txt", "gene\nA\nTP53\n", genes="g.txt"), "rna.csv", "1 of 2 listed"),
    "empty gene list": (put("g.txt", "gene\n", genes="g.txt"), "g.txt", "no genes"),
    "STAR value": (star("x"), "P3.counts.tsv", "gene TP53 (ENSG1.1) has the value 'x'"),
    "STAR file": (star(last=8), "star", "P9"),
    "STAR column": (
        star(expression_column="fpkm_unstranded"),
        "P1.counts.tsv",
        "'fpkm_unstranded'",
    ),
    "unknown key": (lambda _: {"expresion": "x"}, "cohorts.mine", "'expresion'"),
    "wrong type": (lambda _: {"sheet": 7}, "cohorts.mine.sheet", "7 is not allowed"),
    "wrong unit": (lambda _: {"expression_unit": "tpm"}, "expression_unit", "not allowed"),
}


def load_command(repo: Path) -> Callable[..., None]:
    """`main` of scripts/cohort.py."""
    return runpy.run_path(str(repo / "scripts" / "cohort.py"))["main"]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(
    lab: Path, repo: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, where, cause = BAD[case]
    arguments = ["--name", "mine", "--folds", '{"n": 3}', "--out", str(lab / "out"), "--source"]
    with pytest.raises(SystemExit) as stop:
        cli.run(load_command(repo), [*arguments, json.dumps(lab_source(lab) | spoil(lab))])
    assert stop.value.code == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert where in line
    assert cause in line
    assert re.search(r"; \w", line), "no remedy"
    assert not (lab / "out").exists()


def test_a_failed_rerun_keeps_the_old_cohort(lab: Path) -> None:
    folds = FOLDS | {"n": 3}
    freeze.freeze_cohort("mine", lab_source(lab), folds, 1, lab / "out")
    before = {name: (lab / "out" / name).read_bytes() for name in FILES}
    replace("rna.csv", "1.25", "-1")(lab)
    with pytest.raises(SheetError):
        freeze.freeze_cohort("mine", lab_source(lab), folds, 1, lab / "out")
    assert {path.name: path.read_bytes() for path in (lab / "out").iterdir()} == before


def test_neither_row_order_nor_line_ends_matter(lab: Path) -> None:
    freeze.freeze_cohort("mine", lab_source(lab), FOLDS | {"n": 3}, 1, lab / "a")
    header, *rows = (lab / "sheet.tsv").read_text().splitlines()
    (lab / "sheet.tsv").write_bytes("\r\n".join([header, *rows[::-1]]).encode("utf-8-sig"))
    header, *rows = (lab / "rna.csv").read_text().splitlines()
    (lab / "rna.csv").write_bytes("\r\n".join([header, *rows[::-1], "", ""]).encode("utf-8-sig"))
    freeze.freeze_cohort("mine", lab_source(lab), FOLDS | {"n": 3}, 1, lab / "b")
    for name in FILES:
        assert (lab / "a" / name).read_bytes() == (lab / "b" / name).read_bytes()


def test_a_folder_of_star_counts(lab: Path) -> None:
    freeze.freeze_cohort("mine", lab_source(lab) | star()(lab), FOLDS | {"n": 3}, 1, lab / "out")
    table = pl.read_parquet(lab / "out" / "expression.parquet")
    assert table.columns == ["sample_id", "ESR1", "TP53"]
    assert table["ESR1"].to_list() == [1.0] * 9
