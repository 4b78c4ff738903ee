"""Slides of a shard: fetched, measured, compared with what was promised, failed one by one."""

from __future__ import annotations

import hashlib
import shutil
import socket
from pathlib import Path

import polars as pl
import pytest
from fault_server import FaultServer
from slide2rna.cohort.freeze import SCHEMA
from slide2rna.core.errors import DownloadError
from slide2rna.core.files import md5sum
from slide2rna.core.seeds import shard_of
from slide2rna.slides import download
from slide2rna.storage import stamps
from slide2rna.transfer import client

TEXT = b"a slide"
FAST = client.ServerSettings(tries=2, timeout_s=60, backoff_s=0.002)
MD5 = hashlib.md5(TEXT, usedforsecurity=False).hexdigest()


def table(*rows: dict[str, object]) -> pl.DataFrame:
    full = [dict.fromkeys(SCHEMA) | {"patient_id": "P", "unit": "P"} | row for row in rows]
    return pl.DataFrame(full, schema=SCHEMA, orient="row")


ADDED = ("status", "reason", "quickhash", "stamp")


def check_shard(rows: pl.DataFrame, shard: int, shards: int) -> pl.DataFrame:
    checked = download.fetch_slides(download.shard_rows(rows, shard, shards), Path("none"), FAST)
    return download.checked_table(checked, rows.schema)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "a.svs"
    path.write_bytes(TEXT)
    return path


def test_slides_are_measured(slide: Path) -> None:
    result = check_shard(table({"slide_id": "S", "path": str(slide)}), 0, 1)
    assert result.columns == [*SCHEMA, *ADDED]
    row = result.row(0, named=True)
    assert (row["md5"], row["size"], row["status"], row["reason"]) == (MD5, 7, "ok", None)


def test_features_only_slides_pass() -> None:
    row = check_shard(table({"slide_id": "S"}), 0, 1).row(0, named=True)
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
    )
    result = {row["slide_id"]: row for row in check_shard(rows, 0, 1).iter_rows(named=True)}
    assert [name for name, row in result.items() if row["status"] == "ok"] == ["good"]
    for name, word in [
        ("md5", "md5"),
        ("size", "7 bytes, 8 "),
        ("gone", "missing"),
        ("empty", "empty"),
        ("folder", "missing"),
    ]:
        assert word in result[name]["reason"]
        assert str(tmp_path) not in result[name]["reason"]
        assert result[name]["md5"] is None


def test_shards_share_out_the_slides(slide: Path) -> None:
    rows = table(*({"slide_id": f"S{i}", "path": str(slide)} for i in range(50)))
    shards = [check_shard(rows, shard, 4) for shard in range(4)]
    assert pl.concat(shards).sort("slide_id")["slide_id"].to_list() == sorted(rows["slide_id"])
    for number, shard in enumerate(shards):
        assert all(shard_of(name, 4) == number for name in shard["slide_id"])


def test_an_empty_shard_keeps_its_columns() -> None:
    result = check_shard(table({"slide_id": "S"}), 1 - shard_of("S", 2), 2)
    assert result.is_empty()
    assert result.schema == SCHEMA | dict.fromkeys(ADDED, pl.String)


def test_a_shared_file_is_read_once(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(path: str) -> str:
        calls.append(path)
        return MD5

    monkeypatch.setattr(download, "md5sum", count)
    rows = table(*({"slide_id": f"S{i}", "path": str(slide)} for i in range(5)))
    stamped = []

    expected = stamps.slide_stamp(slide)

    def count_sample(path: Path) -> str:
        stamped.append(path)
        return expected

    monkeypatch.setattr(stamps, "sample", count_sample)
    checked = check_shard(rows, 0, 1)
    assert (checked["md5"] == MD5).all()
    assert (checked["stamp"] == expected).all()
    assert len(calls) == len(stamped) == 1


def test_an_unreadable_file_is_named(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(download, "md5sum", refuse)
    with pytest.raises(DownloadError, match="Permission denied"):
        download.check_file(str(slide))


def cohort_of(server: FaultServer, tmp_path: Path) -> Path:
    """slides.parquet of four slides on a server: good, without md5, withdrawn, and wrong."""
    rows = table(
        {"slide_id": "A", "url": server.url("/data/1"), "md5": MD5, "size": 7},
        {"slide_id": "B", "url": server.url("/b.tiff?x=1")},
        {"slide_id": "C", "url": server.url("/data/3"), "md5": MD5, "size": 7},
        {"slide_id": "D", "url": server.url("/data/1"), "md5": "0" * 32, "size": 7},
    )
    path = tmp_path / "slides.parquet"
    rows.write_parquet(path)
    return path


def test_slides_are_fetched_and_failures_named(tmp_path: Path) -> None:
    out = tmp_path / "slides" / "shard-0.parquet"
    with FaultServer({"/data/1": TEXT, "/b.tiff": TEXT}) as server:
        slides = cohort_of(server, tmp_path)
        download.download_shard(slides, 0, 1, out, FAST)
        found = {row["slide_id"]: row for row in pl.read_parquet(out).iter_rows(named=True)}
        files = tmp_path / "slides" / "files"
        assert sorted(path.name for path in files.iterdir()) == ["A.svs", "B.tiff"]
        for name, file in [("A", "A.svs"), ("B", "B.tiff")]:
            row = found[name]
            assert (row["status"], row["path"], row["md5"]) == ("ok", str(files / file), MD5)
            assert row["size"] == 7
        for name, word in [("C", "HTTP status 404"), ("D", "md5 is wrong")]:
            row = found[name]
            assert (row["status"], row["path"], row["md5"]) == ("failed", None, None)
            assert word in row["reason"]
            assert str(tmp_path) not in row["reason"]


def test_with_all_on_disk_no_socket_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "slides" / "shard-0.parquet"
    with FaultServer({"/data/1": TEXT, "/b.tiff": TEXT}) as server:
        slides = pl.read_parquet(cohort_of(server, tmp_path))[:2]
        slides.write_parquet(tmp_path / "slides.parquet")
        download.download_shard(tmp_path / "slides.parquet", 0, 1, out, FAST)
    first = pl.read_parquet(out)

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    download.download_shard(tmp_path / "slides.parquet", 0, 1, out, FAST)
    assert pl.read_parquet(out).equals(first)


def test_the_room_of_the_whole_cohort_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"slide_id": f"S{i}", "url": f"http://127.0.0.1:9/{i}", "md5": MD5, "size": 100}
        for i in range(10)
    ]
    path = tmp_path / "slides.parquet"
    table(*rows).write_parquet(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 999))
    with pytest.raises(DownloadError, match=r"GB .*GB .*free"):
        download.download_shard(path, 0, 2, tmp_path / "slides" / "shard-0.parquet", FAST)


def test_a_slide_can_not_be_named_out_of_its_folder(tmp_path: Path) -> None:
    rows = table({"slide_id": "../a", "url": "http://127.0.0.1:9/1"})
    with pytest.raises(DownloadError, match="plain name"):
        check_shard(rows, 0, 1)


def test_a_slide_that_is_as_it_was_is_not_read_again(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "b.svs"
    other.write_bytes(TEXT + TEXT)
    rows = table({"slide_id": "S", "path": str(slide)}, {"slide_id": "T", "path": str(other)})
    rows.write_parquet(tmp_path / "slides.parquet")
    read: list[str] = []

    def counted(path: str) -> str:
        read.append(Path(path).name)
        return md5sum(path)

    monkeypatch.setattr(download, "md5sum", counted)
    out = tmp_path / "slides" / "shard-0.parquet"

    def again() -> pl.DataFrame:
        read.clear()
        download.download_shard(tmp_path / "slides.parquet", 0, 1, out, FAST)
        return pl.read_parquet(out)

    first = again()
    assert read == ["a.svs", "b.svs"]
    out.unlink()
    assert again().equals(first)
    assert read == []
    other.write_bytes(b"another")
    assert again()["md5"].to_list() != first["md5"].to_list()
    assert read == ["b.svs"]
    for record in (tmp_path / "slides" / "measured").iterdir():
        record.write_text(record.read_text().replace('"md5"', '"md4"'))
    assert again()["status"].to_list() == ["ok", "ok"]
    assert read == ["a.svs", "b.svs"]  # damaged records say nothing
    other.unlink()
    assert again()["status"].to_list() == ["ok", "failed"]


def test_a_fetched_slide_that_is_as_it_was_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer({"/data/1": TEXT}) as server:
        rows = table({"slide_id": "A", "url": server.url("/data/1"), "md5": MD5, "size": 7})
        rows.write_parquet(tmp_path / "slides.parquet")
        out = tmp_path / "slides" / "shard-0.parquet"
        download.download_shard(tmp_path / "slides.parquet", 0, 1, out, FAST)
        first = pl.read_parquet(out)
        assert first["status"].to_list() == ["ok"]

    def refuse(path: object) -> str:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(download, "md5sum", refuse)
    monkeypatch.setattr("slide2rna.transfer.resumable.md5sum", refuse)
    download.download_shard(tmp_path / "slides.parquet", 0, 1, out, FAST)
    assert pl.read_parquet(out).equals(first)
