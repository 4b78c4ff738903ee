"""Random inputs of strangers, for a few examples in the unit tests and many in the soak tests."""

from __future__ import annotations

import csv
import string
import tempfile
from collections import Counter
from pathlib import Path

import h5py
from hypothesis import strategies as st
from slide2rna.cohort.sheet import read_sheet
from slide2rna.core.errors import SheetError, UserError, has_control
from slide2rna.predict import encode_slide
from slide2rna.storage import delimited
from slide2rna.transfer import batch

CELL = st.text(alphabet='ab1 .é,;\t"', max_size=5)
QUOTED = CELL.map(lambda text: '"' + text.replace('"', '""') + '"')
PLAIN = st.text(alphabet="ab1 .é", max_size=5)
PAIR = st.lists(st.one_of(PLAIN, PLAIN, PLAIN, QUOTED, QUOTED, CELL), min_size=2, max_size=2)
ROW = st.one_of(PAIR, PAIR, PAIR, PAIR, st.lists(CELL, min_size=1, max_size=3))
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
TABLES = st.tuples(st.lists(st.one_of(PAIR, ROW), max_size=6), st.sampled_from(",;\t"), ENDS)
PARTS = ["..", ".", "/", "\\", "a", "results", "~", "$(x)", "\0", "\x1b", "\u202e", "%2e", " ", "é"]
NAMES = st.one_of(st.lists(st.sampled_from(PARTS), max_size=6).map("".join), st.text(max_size=12))
LETTERS = string.ascii_uppercase + string.digits
SITE, PATIENT = (st.text(alphabet=LETTERS, min_size=n, max_size=n) for n in (2, 4))
TAILS = ["", "-01", "-01A", "-01A-11R", "-01A-11R-A262-07", "-01Z-00-DX1"]
BARCODES = st.tuples(SITE, PATIENT, st.sampled_from(TAILS), st.sampled_from("-."), st.booleans())


def check_table(rows: list[list[str]], separator: str, end: str) -> str:
    """Read a table that nobody quoted with care; return what became of it: read or refused.

    Python's csv.reader in strict mode, a line at a time, is the oracle. Every line with a value
    is a row of the table, or the error names it or an earlier line that can't be read.
    """
    lines = [separator.join(["one", "two"]), *(separator.join(row) for row in rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(end.join(lines).encode())
        expected, fault = strictly_read(lines[1:], separator)
        wrong = [number for number, cells in expected if len(cells) != 2]
        table, where = None, ""
        try:
            table = delimited.read_table(path)
        except SheetError as error:
            where = error.where.removeprefix(str(path)).removeprefix(" line ")
    first = fault or (wrong[0] if wrong else None)
    if table is None:
        assert where == (str(first) if first else ""), (where, fault, wrong)
        assert first or not expected
        return "refused"
    assert first is None
    assert table.rows() == [(number, *cells) for number, cells in expected]
    return "read"


def strictly_read(
    lines: list[str], separator: str
) -> tuple[list[tuple[int, list[str]]], int | None]:
    """Return numbered lines with a value, as cells, and the first line that csv refuses."""
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines, start=2):
        try:
            parsed = next(iter(csv.reader([line], delimiter=separator, strict=True)), [])
        except csv.Error:
            return rows, number
        cells = [cell.strip() for cell in parsed]
        if any(cells):
            rows.append((number, cells))
    return rows, None


def check_name(name: str) -> str:
    """Use a stranger's name on every way to a path; return what became of it: taken or refused."""
    outcomes = set()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out").resolve()
        path = Path(folder, "features.h5")
        with h5py.File(path, "w") as file:
            try:
                file.attrs["slide"] = name
            except (UnicodeEncodeError, ValueError):  # HDF5 itself has no such text
                file.attrs["slide"] = "a/b"
        sheet = Path(folder, "sheet.csv")
        quoted = '"' + name.replace('"', '""') + '"'
        sheet.write_bytes(f"slide_id,patient_id,slide\n{quoted},P,\n".encode(errors="replace"))
        for place in (
            lambda: out / encode_slide.slide_name(path),
            lambda: out / encode_slide.slide_name(Path(folder, "x", f"{Path(name).name}.svs")),
            lambda: batch.safe_path(out, name),
            lambda: out / read_sheet(sheet)["slide_id"][0],
        ):
            found = None
            try:
                found = place()
            except UserError as error:
                outcomes.add("refused in raw letters" if has_control(str(error)) else "refused")
            if found is not None:
                outcomes.add("taken" if found.resolve().parent == out else "led away")
    assert not outcomes & {"led away", "refused in raw letters"}
    return " and ".join(sorted(outcomes))


def check_barcode(site: str, patient: str, tail: str, mark: str, lower: bool) -> str:
    """Read a barcode as patient_id: the patient is its first three fields, in capitals."""
    whole = f"TCGA-{site}-{patient}"
    written = f"{whole}{tail}".replace("-", mark)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sheet.csv")
        written = written.lower() if lower else written
        path.write_text(f"slide_id,patient_id,slide\nS,{written},\n")
        assert read_sheet(path)["patient_id"].to_list() == [whole]
    return tail or "patient"


def summary(counts: Counter[str]) -> str:
    """Write the outcomes on a line."""
    return f"{counts.total()} examples: " + ", ".join(
        f"{count} {name}" for name, count in counts.most_common()
    )
