"""A cohort's input with one thing wrong at a time, through the command line's own exit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sheet_cohorts import FILES, FOLDS, load_command, source_of
from slide2rna.cohort import freeze
from slide2rna.core import cli
from slide2rna.core.errors import SheetError


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
    "sample twice": (replace("rna.csv", "P10", "P9"), "rna.csv", "sample P9 has several rows"),
    "gene twice": (replace("rna.csv", "ESR1", "TP53"), "rna.csv", "gene TP53 has several columns"),
    "nameless gene": (replace("rna.csv", "ESR1", ""), "line 1", "column 4 has no name"),
    "linear as log2": (replace("rna.csv", "1.25", "1250"), "rna.csv", "can't be log2(x+1)"),
    "transposed": (transpose, "rna.csv", "the samples are its columns"),
    "other genes": (put("g.txt", "gene\nA\nTP53\n", genes="g.txt"), "rna.csv", "1 of 2 listed"),
    "empty gene list": (put("g.txt", "gene\n", genes="g.txt"), "g.txt", "no genes"),
    "STAR value": (star("x"), "P3.counts.tsv", "gene TP53 (ENSG1.1) has the value 'x'"),
    "STAR file": (star(last=8), "star", "no expression for P9"),
    "STAR column": (
        star(expression_column="fpkm_unstranded"),
        "P1.counts.tsv",
        "column 'fpkm_unstranded' is missing",
    ),
    "unknown key": (lambda _: {"expresion": "x"}, "cohorts.mine", "unknown key 'expresion'"),
    "wrong type": (lambda _: {"sheet": 7}, "cohorts.mine.sheet", "7 is not allowed"),
    "wrong unit": (lambda _: {"expression_unit": "tpm"}, "expression_unit", "not allowed"),
}


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
    assert {path.name: path.read_bytes() for path in (lab / "out").glob("[!.]*")} == before


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
