"""Local slides: measured, compared with what was promised, and failed one by one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
from slide2rna import download
from slide2rna.cohort import SCHEMA
from slide2rna.errors import DownloadError
from slide2rna.io import shard_of

TEXT = b"a slide"
MD5 = hashlib.md5(TEXT, usedforsecurity=False).hexdigest()


def table(*rows: dict[str, object]) -> pl.DataFrame:
    full = [dict.fromkeys(SCHEMA) | {"patient_id": "P", "unit": "P"} | row for row in rows]
    return pl.DataFrame(full, schema=SCHEMA, orient="row")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "a.svs"
    path.write_bytes(TEXT)
    return path


def test_slides_are_measured(slide: Path) -> None:
    result = download.check_shard(table({"slide_id": "S", "path": str(slide)}), 0, 1)
    assert result.columns == [*SCHEMA, "status", "reason"]
    row = result.row(0, named=True)
    assert (row["md5"], row["size"], row["status"], row["reason"]) == (MD5, 7, "ok", None)


def test_features_only_slides_pass() -> None:
    row = download.check_shard(table({"slide_id": "S"}), 0, 1).row(0, named=True)
    assert (row["status"], row["md5"], row["size"]) == ("ok", None, None)


def test_one_bad_slide_does_not_stop_the_others(slide: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.svs"
    empty.touch()
    rows = table(
        {"slide_id": "good", "path": str(slide), "md5": MD5, "size": 7},
        {"slide_id": "md5", "path": str(slide), "md5": "0" * 32},
        {"slide_id": "size", "path": str(slide), "size": 8},
        {"slide_id": "gone", "path": str(tmp_path / "gone.svs")},
        {"slide_id": "empty", "path": str(empty)},
        {"slide_id": "folder", "path": str(tmp_path)},
        {"slide_id": "url", "url": "https://example.org/a.svs"},
    )
    result = {
        row["slide_id"]: row for row in download.check_shard(rows, 0, 1).iter_rows(named=True)
    }
    assert [name for name, row in result.items() if row["status"] == "ok"] == ["good"]
    for name, word in [
        ("md5", "was promised"),
        ("size", "7 bytes, 8 were promised"),
        ("gone", "not there"),
        ("empty", "empty"),
        ("folder", "not there"),
        ("url", "only a url"),
    ]:
        assert word in result[name]["reason"]
        assert str(tmp_path) not in result[name]["reason"]
        assert result[name]["md5"] is None


def test_shards_share_out_the_slides(slide: Path) -> None:
    rows = table(*({"slide_id": f"S{i}", "path": str(slide)} for i in range(50)))
    shards = [download.check_shard(rows, shard, 4) for shard in range(4)]
    assert pl.concat(shards).sort("slide_id")["slide_id"].to_list() == sorted(rows["slide_id"])
    for number, shard in enumerate(shards):
        assert all(shard_of(name, 4) == number for name in shard["slide_id"])


def test_an_empty_shard_keeps_its_columns() -> None:
    result = download.check_shard(table({"slide_id": "S"}), 1 - shard_of("S", 2), 2)
    assert result.is_empty()
    assert result.schema == SCHEMA | {"status": pl.String, "reason": pl.String}


def test_a_shared_file_is_read_once(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(path: str) -> str:
        calls.append(path)
        return MD5

    monkeypatch.setattr(download, "md5sum", count)
    rows = table(*({"slide_id": f"S{i}", "path": str(slide)} for i in range(5)))
    assert (download.check_shard(rows, 0, 1)["md5"] == MD5).all()
    assert len(calls) == 1


def test_an_unreadable_file_is_named(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(download, "md5sum", refuse)
    with pytest.raises(DownloadError, match=r"can't be read .Permission denied."):
        download.check_file(str(slide))
