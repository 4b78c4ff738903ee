"""Tables come back as they were written, and damage to them is named."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet as other
from slide2rna.core import seal
from slide2rna.core.errors import StageError
from slide2rna.storage import parquet

TABLE = pl.DataFrame(
    {
        "slide_id": ["S1", None, "µ"],
        "A.1": [1.5, None, 2.5],
        "A": [1, 2, None],
        "members": [[1], None, [2, 3]],
        "small": pl.Series([1, 2, 3], dtype=pl.Float32),
        "ok": [True, None, False],
    }
)


def test_a_table_comes_back_and_has_one_form(tmp_path: Path) -> None:
    one, two = tmp_path / "1.parquet", tmp_path / "2.parquet"
    parquet.write(TABLE, one)
    parquet.write(TABLE, two)
    assert one.read_bytes() == two.read_bytes()
    read = parquet.read(one)
    assert read.equals(TABLE)
    assert read.schema == TABLE.schema
    assert pl.read_parquet(one).equals(TABLE)
    assert parquet.read(one, ["A", "slide_id"]).equals(TABLE.select("A", "slide_id"))
    assert parquet.read_names(one) == TABLE.columns
    assert parquet.count_rows(one) == 3


def test_a_flipped_number_is_noticed_by_the_page_alone(tmp_path: Path) -> None:
    """Other programs compare the page's checksum, and know no seal."""
    path = tmp_path / "a.parquet"
    parquet.write(pl.DataFrame({"x": [1.0, 2.0]}), path)
    column = other.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"(?i)crc"):
        parquet.read_foreign(path)
    with pytest.raises(StageError, match=r"a\.parquet: damaged or edited.*delete it and rerun"):
        parquet.read(path)


def test_a_truncated_or_missing_table(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write(TABLE, path)
    assert parquet.is_intact(path)
    path.write_bytes(path.read_bytes()[:300])
    assert not parquet.is_intact(path)
    with pytest.raises(StageError, match=r"not a readable table.*rerun the stage tiles"):
        parquet.read(path, remedy="rerun the stage tiles")
    with pytest.raises(OSError, match=r"(?i)parquet"):
        parquet.read_foreign(path)
    with pytest.raises(FileNotFoundError):
        parquet.read(tmp_path / "absent.parquet")


def test_a_copy_by_another_program_is_a_table_of_the_user(tmp_path: Path) -> None:
    """pyarrow copies the seal into the new file, where it doesn't fit."""
    parquet.write(TABLE, tmp_path / "ours.parquet")
    copied = other.ParquetFile(tmp_path / "ours.parquet").read().slice(1)
    other.write_table(copied, tmp_path / "theirs.parquet", compression="gzip")
    assert seal.is_intact(tmp_path / "theirs.parquet") is False
    assert parquet.read_foreign(tmp_path / "theirs.parquet").equals(TABLE[1:])
    other.write_table(pa.table({"x": [1]}), tmp_path / "plain.parquet")
    assert parquet.read(tmp_path / "plain.parquet")["x"].to_list() == [1]


def test_no_other_reader_of_tables(repo: Path) -> None:
    """polars compares no checksums."""
    pattern = re.compile(r"pl\.(read|scan)_parquet|\.(write|sink)_parquet\(")
    assert not [path for path in repo.glob("scripts/**/*.py") if pattern.search(path.read_text())]
