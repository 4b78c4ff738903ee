"""Delimited tables: every line is a row or an error, whatever the quotation marks."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slide2rna.core.delimited_text import split_header, split_line
from slide2rna.core.errors import SheetError
from slide2rna.storage.delimited import LINE, read_table

CELL = st.text(alphabet='ab1 ,;\t"', max_size=6)


@settings(deadline=None, max_examples=300)
@example(rows=[["a", '"b'], ["c", "d"], ['e"', "f"]])
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=8))
def test_no_row_is_lost(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    """Cells that were never quoted: as many rows as lines with a value, or a line in the error."""
    path = tmp_path_factory.mktemp("t") / "t.csv"
    lines = [",".join(row) for row in rows]
    path.write_text("\n".join(["one,two", *lines]))
    table = None
    with contextlib.suppress(SheetError):
        table = read_table(path)
    if table is None:
        return
    filled = [n for n, line in enumerate(lines, 2) if any(split_line(path, line, ","))]
    assert table[LINE].to_list() == filled


@settings(deadline=None)
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=8))
def test_what_a_csv_writer_wrote_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["one", "two"], *rows])
    path.write_text(text.getvalue())
    stripped = [tuple(cell.strip() for cell in row) for row in rows]
    expected = [row for row in stripped if any(row)]
    if not expected:
        with pytest.raises(SheetError):
            read_table(path)
        return
    assert read_table(path).drop(LINE).rows() == expected


@pytest.mark.parametrize("cell", ['"pale stain, rescan', '"one"two', 'x"\n"y'])
def test_an_open_quotation_mark_is_named_with_its_line(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,comment\nA,fine\nB,{cell}\nC,fine\nD,fine\n")
    if cell.startswith("x"):
        # A mark inside a cell is a letter; the next line's opens a cell.
        with pytest.raises(SheetError) as caught:
            read_table(path)
        assert "line 4" in caught.value.where
        return
    with pytest.raises(SheetError) as caught:
        read_table(path)
    assert caught.value.where == f"{path} line 3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sep=;\na;b\n", (";", 1)),
        ('"sep=|"\na|b\n', ("|", 1)),
        ("\n\na\tb,c\td\n", ("\t", 2)),
        ("a,b\n", (",", 0)),
        ("separate;b\n", (";", 0)),
    ],
)
def test_separator(text: str, expected: tuple[str, int]) -> None:
    assert split_header(text) == expected


def test_a_line_that_names_the_separator_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sep=;\nid;n\nA;1\nB;2\n")
    table = read_table(path)
    assert table.columns == [LINE, "id", "n"]
    assert table[LINE].to_list() == [3, 4]
