"""Batches of downloads: safe names, room on the disk, one bad file, an interruption."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest
from fault_server import FaultServer
from fetching import CONTENT, FAST, MD5, SIZE, run_sequences
from slide2rna.core.errors import DownloadError
from slide2rna.transfer import batch, client, resumable


def partial(dest: Path, content: bytes) -> Path:
    dest.parent.mkdir(exist_ok=True)
    path = dest.with_name(f"{dest.name}.partial")
    path.write_bytes(content)
    return path


def partial_size(dest: Path) -> int:
    return dest.with_name(f"{dest.name}.partial").stat().st_size


@pytest.mark.parametrize(
    "name", ["../a", "/etc/a", "a/b", "..", ".a", "a\\b", "a\nb", "a\x00", "", "x" * 300, "a\x9b"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="isn't a plain name"):
        batch.safe_path(tmp_path, name)


def test_a_real_name_is_taken(tmp_path: Path) -> None:
    name = "TCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf-40ea-8213-45c2b100ac01.svs"
    assert batch.safe_path(tmp_path, name) == tmp_path / name


def test_a_disk_that_is_too_small_is_seen_before_the_first_byte(
    server: FaultServer, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, SIZE))
    jobs = [resumable.Download(server.url("/a"), dest.with_name(name), MD5, SIZE) for name in "ab"]
    with pytest.raises(DownloadError, match=r"GB .* only .* free"):
        batch.fetch_all(jobs, FAST)
    assert not server.requests
    partial(jobs[0].dest, CONTENT)  # What is here already needs no room.
    assert set(batch.fetch_all(jobs, FAST).values()) == {None}


def test_one_bad_file_does_not_stop_the_others(server: FaultServer, dest: Path) -> None:
    good = [
        resumable.Download(server.url("/a"), dest.with_name(f"{i}"), MD5, SIZE) for i in range(5)
    ]
    bad = resumable.Download(server.url("/gone"), dest, MD5, SIZE)
    results = batch.fetch_all([bad, *good], FAST)
    assert [path for path, error in results.items() if error] == [dest]
    assert all(resumable.is_whole(job.dest, MD5, SIZE) for job in good)


def test_progress_without_a_terminal_is_lines(
    server: FaultServer, dest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    batch.fetch_all([resumable.Download(server.url("/a"), dest, MD5, SIZE)], FAST)
    assert any("1 files: 307k of 307k, " in line for line in caplog.messages), caplog.messages
    caplog.clear()
    assert batch.fetch_all([], FAST) == {}
    assert not caplog.messages


def test_control_c_ends_at_once_and_keeps_what_came(
    server: FaultServer, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("/a", "drip")
    real = resumable.fetch_file

    def interrupted(session: client.Client, url: str, path: Path, *rest: object) -> None:
        if path != dest:
            # What the server has sent may still be on its way: wait for bytes on disk.
            partial = resumable.partial_of(dest)
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                if partial.exists() and partial.stat().st_size >= SIZE // 4:
                    break
                time.sleep(0.01)
            raise KeyboardInterrupt
        real(session, url, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "fetch_file", interrupted)
    jobs = [resumable.Download(url, path, MD5, SIZE) for path in (dest.with_name("b"), dest)]
    with pytest.raises(KeyboardInterrupt):
        batch.fetch_all(jobs, FAST)
    assert SIZE // 4 <= partial_size(dest) < SIZE


def test_thirty_random_sequences(tmp_path: Path) -> None:
    print(dict(run_sequences(30, 1, tmp_path)))
