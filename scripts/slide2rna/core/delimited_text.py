"""Text of delimited tables: encodings, separators, and rows of cells.

A laboratory's table comes from a spreadsheet: tab, comma or semicolon, any line ends, with or
without a byte order mark. The Snakefile reads sheets with this module, so no heavy imports.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from pathlib import Path

from slide2rna.core.errors import SheetError

MISSING = ("", "NA", "N/A", "na", "nan", "NaN", "null", "None")
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
Rows = list[tuple[int, list[str]]]


def read_text(path: str | Path) -> str:
    """Read a table's text, gzipped or not, as UTF-8 or (with its mark) UTF-16; lines end in LF.

    Raises
    ------
    SheetError
        The file is missing, is empty, or isn't text.
    """
    try:
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or "the gzip stream is broken"
        raise SheetError(path, cause.lower(), "give a readable TSV or CSV file") from error
    if raw[:2] == b"PK":
        raise SheetError(path, "this is a spreadsheet or zip file", "save it as CSV or TSV")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        cause = f"it isn't UTF-8 text (byte {error.start})"
        raise SheetError(path, cause, "save it as 'CSV UTF-8'") from error
    if not text.strip():
        raise SheetError(path, "the file is empty", "give a header line and rows below it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_header(text: str) -> tuple[str, int]:
    """Return a table's separator and the number of lines before its header.

    The separator is the one of tab, comma and semicolon that is most frequent in the header. A
    first line `sep=;`, as Excel and many devices write it, names the separator.
    """
    for number, line in enumerate(text.split("\n")):
        if found := SEPARATOR_LINE.fullmatch(line.strip(" ")):
            return found[1], number + 1
        if line.strip():
            return max("\t,;", key=line.count), number
    return ",", 0


def split_line(where: object, line: str, separator: str) -> list[str]:
    """Split a line into its cells, without blanks around them.

    Raises
    ------
    SheetError
        A quotation mark opens and isn't closed on the line: a reader that goes on looking for its
        end takes the rows below for one cell.
    """
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error as error:
        cause = "a quotation mark opens here and isn't closed as it should be on the line"
        if "NUL" in str(error) or "limit" in str(error):
            cause = str(error)
        raise SheetError(where, cause, "remove it, or the line break inside the cell") from error
    return [cell.strip() for cell in cells]


def read_cells(path: str | Path) -> tuple[int, list[str], Rows]:
    """Return the line of a table's header, its names, and each row's line and cells.

    Rows without any value are left out.

    Raises
    ------
    SheetError
        The file is no text table, or has a quotation mark that isn't closed on its line.
    """
    text = read_text(path)
    separator, skipped = split_header(text)
    lines = list(enumerate(text.split("\n"), start=1))[skipped:]
    cells = [
        (number, split_line(f"{path} line {number}", line, separator))
        for number, line in lines
        if line.strip()
    ]
    (head, names), *rows = [(line, row) for line, row in cells if any(row)]
    return head, names, rows
