"""The sample sheet: what a spreadsheet may do to it, and each kind of trouble as one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from slide2rna.cohort.sheet import read_sheet
from slide2rna.core.errors import SheetError
from slide2rna.storage.delimited import read_table

HEADER = "slide_id\tpatient_id\tslide\n"
AREA = json.dumps([[0, 0], [9, 0], [9, 9]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.svs", "b.svs", "c d.svs"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "sheet.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


PLAIN = "slide_id\tpatient_id\tslide\tsite\nS1\tP1\ta.svs\tone\nS2\tP1\tb.svs\tNA\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\t", ",").encode(),
        PLAIN.replace("\t", ";").encode(),
        PLAIN.replace("S1", '"S1"').replace("site", '"site"').encode(),
        PLAIN.replace("\nS2", "\n\t\t\t\n  S2 ").encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        gzip.compress(PLAIN.encode()),
    ],
    ids=[
        "tsv",
        "crlf",
        "bom",
        "utf16",
        "comma",
        "semicolon",
        "quoted",
        "blank-row",
        "no-end",
        "cr",
        "gzip",
    ],
)
def test_any_spreadsheet_gives_the_same_table(folder: Path, content: bytes) -> None:
    table = read_sheet(write(folder, content))
    assert table["slide_id"].to_list() == ["S1", "S2"]
    assert table["sample_id"].to_list() == ["P1", "P1"]
    assert table["site"].to_list() == ["one", None]
    assert table["path"].to_list() == ["a.svs", "b.svs"]


def test_all_columns_and_their_types(folder: Path) -> None:
    header = "slide_id,patient_id,slide,sample_id,site,mpp,md5,split,area,colour\n"
    row = f'S1,P1,"c d.svs",R1,x,0.25,{"A" * 32},2,"{AREA}",red\n'
    table = read_sheet(write(folder, header + row))
    assert table.row(0, named=True) == {
        "slide_id": "S1",
        "patient_id": "P1",
        "sample_id": "R1",
        "site": "x",
        "path": "c d.svs",
        "mpp": 0.25,
        "md5": "a" * 32,
        "split": "2",
        "area": AREA,
    }


def test_unknown_columns_are_named_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="slide2rna"):
        read_sheet(write(folder, "slide_id,patient_id,slide,mmp,hue\nS1,P1,a.svs,0.5,1\n"))
    assert "did you mean 'mpp'" in caplog.text
    assert "column 'hue'" in caplog.text


def test_features_only_rows_need_no_file(folder: Path) -> None:
    table = read_sheet(write(folder, HEADER + "S1\tP1\t\nS2\tP2\tNA\n"))
    assert table["path"].to_list() == [None, None]


def test_one_file_may_hold_several_areas(folder: Path) -> None:
    other = AREA.replace("9", "8")
    text = "slide_id;patient_id;slide;area\n"
    text += f"S1;P1;a.svs;{AREA}\nS2;P1;a.svs;{other}\n"
    assert read_sheet(write(folder, text)).height == 2


@pytest.mark.parametrize(
    ("text", "where", "cause"),
    [
        ("", "sheet.tsv", "the file is empty"),
        (" \n\n", "sheet.tsv", "the file is empty"),
        (HEADER, "sheet.tsv", "no row"),
        (b"PK\x03\x04junk", "sheet.tsv", "spreadsheet"),
        (b"slide_id\tpatient_id\tslide\n\xe9\t1\t2\n", "sheet.tsv", "isn't UTF-8"),
        ("slide_id\tpatient\tslide\nS\tP\ta.svs\n", "sheet.tsv", "'patient_id'"),
        (HEADER.replace("slide\n", "slide\tslide\n"), "line 1", "repeated"),
        (HEADER + "S1\tP1\ta.svs\tx\n", "sheet.tsv", "more fields"),
        (HEADER + "S1\tP1\tgone.svs\n", "line 2", "'gone.svs' is not a file"),
        (HEADER + "S1\tP1\ta.svs\nS1\tP2\tb.svs\n", "lines 2, 3", "slide_id 'S1'"),
        (HEADER + "S1\tP1\ta.svs\nS2\tP2\t./a.svs\n", "lines 2, 3", "used by 2 rows"),
        (HEADER + "S1\tP1\ta.svs\n\tP2\tb.svs\n", "line 3", "slide_id is empty"),
        (HEADER + "S1\t\ta.svs\n", "line 2", "patient_id is empty"),
        (HEADER + "S/1\tP1\ta.svs\n", "line 2", "'S/1' can't be a file name"),
        (HEADER + "..\tP1\ta.svs\n", "line 2", "'..' can't be a file name"),
        (HEADER + "a..b\tP1\ta.svs\n", "line 2", "'a..b' can't be a file name"),
        (HEADER + "S 1\tP1\ta.svs\n", "line 2", "'S 1' can't be a file name"),
        (HEADER + "-S\tP1\ta.svs\n", "line 2", "'-S' can't be a file name"),
        (HEADER + f"{'S' * 300}\tP1\ta.svs\n", "line 2", "can't be a file name"),
        (HEADER + "S1\tP 1\ta.svs\n", "line 2", "patient_id 'P 1'"),
        (HEADER + "S1\tP1\t.\n", "line 2", "is a folder"),
    ],
)
def test_bad_sheets(folder: Path, text: str | bytes, where: str, cause: str) -> None:
    with pytest.raises(SheetError) as caught:
        read_sheet(write(folder, text))
    message = str(caught.value)
    assert where in caught.value.where
    assert cause in caught.value.cause
    assert caught.value.remedy
    assert "\n" not in message


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("mpp", "0", "mpp '0'"),
        ("mpp", "-0.5", "mpp '-0.5'"),
        ("mpp", "0,5", "mpp '0,5'"),
        ("mpp", "inf", "mpp 'inf'"),
        ("mpp", "fine", "mpp 'fine'"),
        ("md5", "abc", "md5"),
        ("split", "training", "split 'training'"),
        ("split", "-1", "split '-1'"),
        ("area", "[[0, 0], [1, 1]]", "polygon"),
        ("area", "box", "polygon"),
        ("area", "[[0, 0], [NaN, 1], [2, 0]]", "polygon"),
        ("area", "[[0, 0], [true, 1], [2, 0]]", "polygon"),
        ("area", '[["a", 0], [1, 1], [2, 0]]', "polygon"),
    ],
)
def test_bad_values(folder: Path, column: str, value: str, cause: str) -> None:
    cell = '"' + value.replace('"', '""') + '"'
    text = HEADER.strip() + f"\t{column}\nS1\tP1\ta.svs\tNA\nS2\tP2\tb.svs\t{cell}\n"
    with pytest.raises(SheetError) as caught:
        read_sheet(write(folder, text))
    assert caught.value.where.endswith("line 3")
    assert cause in caught.value.cause


def test_one_sample_has_one_patient(folder: Path) -> None:
    text = HEADER.strip() + "\tsample_id\nS1\tP1\ta.svs\tR\nS2\tP2\tb.svs\tR\n"
    with pytest.raises(SheetError, match=r"sample_id 'R'.* P1 and P2"):
        read_sheet(write(folder, text))


def test_long_lists_of_lines_are_cut(folder: Path) -> None:
    rows = "".join(f"S{i}\tP{i}\tgone{i}.svs\n" for i in range(9))
    with pytest.raises(SheetError, match=r"lines 2, 3, 4, 5, 6 and 4 more: slide 'gone0.svs'"):
        read_sheet(write(folder, HEADER + rows))


def test_a_link_to_the_same_file_is_the_same_file(folder: Path) -> None:
    (folder / "link.svs").symlink_to(folder / "a.svs")
    with pytest.raises(SheetError, match="2 rows"):
        read_sheet(write(folder, HEADER + "S1\tP1\ta.svs\nS2\tP2\tlink.svs\n"))


def test_a_short_row_is_not_a_row_without_a_slide(folder: Path) -> None:
    with pytest.raises(SheetError, match=r"line 3: .*\(2, not 3\)"):
        read_sheet(write(folder, HEADER + "S1\tP1\ta.svs\nS2\tP2\n"))


@pytest.mark.parametrize("value", ["NA", "nan", "None"])
@pytest.mark.parametrize("column", ["slide_id", "patient_id"])
def test_unknown_patients_are_not_one_patient(folder: Path, column: str, value: str) -> None:
    row = {"slide_id": "S2", "patient_id": "P2", "slide": "b.svs"} | {column: value}
    with pytest.raises(SheetError, match=f"line 3: {column} .*NA"):
        read_sheet(write(folder, HEADER + "S1\tP1\ta.svs\n" + "\t".join(row.values()) + "\n"))


def test_a_damaged_gzip_file_is_named(folder: Path) -> None:
    raw = bytearray(gzip.compress(PLAIN.encode() * 50))
    for broken in (bytes(raw[:40]), bytes(raw[:20]) + b"\xff" * 30 + bytes(raw[50:])):
        with pytest.raises(SheetError, match="gzip"):
            read_table(write(folder, broken))


def test_missing_sheet(tmp_path: Path) -> None:
    with pytest.raises(SheetError, match="no such file"):
        read_table(tmp_path / "none.tsv")


def test_line_numbers_count_blank_lines(folder: Path) -> None:
    table = read_table(write(folder, "a,b\n1,2\n,\n\n3,4\n"))
    assert table.select("line", "a").rows() == [(2, "1"), (5, "3")]
    assert table.schema["a"] == pl.String


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("TCGA-A2-A000-01A", "TCGA-A2-A000-01B"),
        ("TCGA-A2-A000", "TCGA-A2-A000-01Z-00-DX1"),
        ("tcga-a2-a000-01A", "TCGA.A2.A000.01B.11R"),
    ],
)
def test_barcodes_of_samples_give_one_patient(
    folder: Path, caplog: pytest.LogCaptureFixture, first: str, second: str
) -> None:
    text = f"slide_id\tpatient_id\tslide\nS1\t{first}\ta.svs\nS2\t{second}\tb.svs\n"
    table = read_sheet(write(folder, text))
    assert table["patient_id"].to_list() == ["TCGA-A2-A000"] * 2
    # The row of the expression table is still the one that the sheet names.
    assert table["sample_id"].to_list() == [first, second]
    assert "barcode" in caplog.text


@pytest.mark.parametrize("name", ["TCGA-A2", "TCGA-A2-A00", "XTCGA-A2-A000", "TCGA_A2_A000"])
def test_other_names_are_no_barcodes(folder: Path, name: str) -> None:
    text = f"slide_id\tpatient_id\tslide\nS1\t{name}\ta.svs\n"
    assert read_sheet(write(folder, text))["patient_id"].to_list() == [name]
