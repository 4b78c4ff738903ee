"""The download engine against a real server on loopback: one test per fault, then many at once."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from fault_server import PASSING, Fault, FaultServer, md5
from fetching import CONTENT, FAST, IMPATIENT, MD5, SIZE, TIMED, get
from slide2rna.core.errors import DownloadError
from slide2rna.transfer import batch, resumable


def partial(dest: Path, content: bytes) -> Path:
    dest.parent.mkdir(exist_ok=True)
    path = dest.with_name(f"{dest.name}.partial")
    path.write_bytes(content)
    return path


def partial_size(dest: Path) -> int:
    return dest.with_name(f"{dest.name}.partial").stat().st_size


@pytest.mark.parametrize("kind", [*PASSING, "corrupt"])
def test_a_passing_fault_is_survived(kind: str, server: FaultServer, dest: Path) -> None:
    get(server.add("/a", kind), dest, IMPATIENT if kind in TIMED else FAST)
    assert dest.read_bytes() == CONTENT
    assert os.listdir(dest.parent) == [dest.name]
    assert server.requests[0][2] == kind


@pytest.mark.parametrize("kind", [k for k in PASSING if k.startswith(("range", "short", "long"))])
def test_a_fault_while_resuming_is_survived(kind: str, server: FaultServer, dest: Path) -> None:
    partial(dest, CONTENT[:1000])
    get(server.add("/a", kind), dest)
    assert dest.read_bytes() == CONTENT
    assert server.ranges("/a")[0] == "bytes=1000-"


@pytest.mark.parametrize("kind", ["reset", "short", "drip"])
def test_it_goes_on_where_it_was(kind: str, server: FaultServer, dest: Path) -> None:
    get(server.add("/a", kind), dest, IMPATIENT if kind in TIMED else FAST)
    first, second, *_ = server.ranges("/a")
    assert first is None
    # A reset may throw away what was still on its way.
    assert 0 < int(str(second).removeprefix("bytes=").removesuffix("-")) <= SIZE
    assert server.requests[1][1]["If-Range"] == f'"{MD5}"'


def test_the_fault_that_stays_is_reported(server: FaultServer, dest: Path) -> None:
    with pytest.raises(DownloadError, match=r"HTTP status 503, 4 times"):
        get(server.add("/a", *["status 503"] * 9), dest)
    assert len(server.requests) == FAST.tries
    assert os.listdir(dest.parent) == []


def test_tries_count_from_the_last_step_ahead(
    server: FaultServer, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [Fault("short", 0.1)] * (FAST.tries + 2)
    monkeypatch.setattr(resumable, "STEP_BYTES", SIZE // 100)
    get(server.add("/a", *faults), dest)
    assert dest.read_bytes() == CONTENT
    dest.unlink()
    monkeypatch.setattr(resumable, "STEP_BYTES", SIZE)
    with pytest.raises(DownloadError, match="4 times"):
        get(server.add("/a", *faults), dest)
    assert partial_size(dest) == pytest.approx(SIZE * (1 - 0.9**FAST.tries), abs=FAST.tries)


def test_a_wrong_md5_is_refused_the_second_time(server: FaultServer, dest: Path) -> None:
    with pytest.raises(DownloadError, match=r"md5 .*0{32}.* twice"):
        get(server.url("/a"), dest, md5="0" * 32)
    assert server.ranges("/a") == [None, None]
    assert os.listdir(dest.parent) == []


def test_a_wrong_size_is_refused_before_the_body(server: FaultServer, dest: Path) -> None:
    with pytest.raises(DownloadError, match=f"{SIZE} bytes.*{SIZE + 1}"):
        get(server.url("/a"), dest, size=SIZE + 1)
    assert not dest.exists()


def test_a_whole_partial_needs_no_request(server: FaultServer, dest: Path) -> None:
    partial(dest, CONTENT)
    get(server.url("/a"), dest)
    assert dest.read_bytes() == CONTENT
    assert not server.requests


@pytest.mark.parametrize(("content", "requests"), [(CONTENT, 1), (CONTENT[::-1], 2)])
def test_416_with_a_whole_partial_is_checked(
    content: bytes, requests: int, server: FaultServer, dest: Path
) -> None:
    partial(dest, content)
    get(server.url("/a"), dest, size=None)
    assert dest.read_bytes() == CONTENT
    assert len(server.requests) == requests


def test_a_poisoned_partial_is_found_out(server: FaultServer, dest: Path) -> None:
    partial(dest, bytes(1000))
    get(server.url("/a"), dest)
    assert dest.read_bytes() == CONTENT
    assert server.ranges("/a") == ["bytes=1000-", None]


def test_without_md5_no_stranger_is_resumed(server: FaultServer, dest: Path) -> None:
    partial(dest, bytes(1000))
    get(server.add("/a", "short"), dest, md5=None)
    assert dest.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, f"bytes={SIZE // 2}-"]


def test_without_md5_a_stranger_of_the_right_size_is_not_taken(
    server: FaultServer, dest: Path
) -> None:
    partial(dest, CONTENT[::-1])
    get(server.url("/a"), dest, md5=None)
    assert dest.read_bytes() == CONTENT


def test_a_page_is_no_file_of_unknown_size(server: FaultServer, dest: Path) -> None:
    get(server.add("/a", "page"), dest, md5=None, size=None)
    assert dest.read_bytes() == CONTENT


def test_a_file_that_changed_is_not_spliced(server: FaultServer, dest: Path) -> None:
    get(server.add("/a", "replaced"), dest, md5=None)
    assert dest.read_bytes() == CONTENT[::-1]
    assert server.ranges("/a") == [None, f"bytes={SIZE // 2}-"]


def test_a_server_that_splices_is_found_out(server: FaultServer, dest: Path) -> None:
    get(server.add("/a", "replaced", "if-range ignored"), dest, md5=None)
    assert dest.read_bytes() == CONTENT[::-1]


def test_half_a_range_is_no_end(server: FaultServer, dest: Path) -> None:
    get(server.add("/a", "short", "range shortened"), dest, md5=None, size=None)
    assert dest.read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_file_of_unknown_size_and_md5_is_refused(server: FaultServer, dest: Path) -> None:
    with pytest.raises(DownloadError, match=r"server.*manifest"):
        get(server.add("/a", "no length"), dest, md5=None, size=None)
    get(server.add("/a", "chunked"), dest, md5=None, size=None)
    assert dest.read_bytes() == CONTENT


def test_a_complete_file_opens_no_socket(
    dest: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(server.url("/a"), dest)

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    get(server.url("/a"), dest)
    assert batch.fetch_all([resumable.Download(server.url("/a"), dest, MD5, SIZE)], FAST) == {
        dest: None
    }
    dest.write_bytes(CONTENT[::-1])
    with pytest.raises(AssertionError, match="a socket"):
        get(server.url("/a"), dest)


def test_a_tar_is_a_file_and_never_unpacked(server: FaultServer, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("../evil", "/tmp/evil", "a.svs"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    content = packed.getvalue()
    server.files["/data"] = content
    dest = tmp_path / "files" / "a.svs"
    get(server.url("/data"), dest, md5=md5(content), size=len(content))
    assert dest.read_bytes() == content
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [dest]


def test_a_full_disk_is_one_line(server: FaultServer, dest: Path) -> None:
    dest.parent.mkdir()
    dest.with_name(f"{dest.name}.partial").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="disk is full"):
        get(server.url("/a"), dest)
    assert not dest.exists()


def child(repo: Path, url: str, dest: Path) -> subprocess.Popen[bytes]:
    """A process of its own that fetches one file."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from slide2rna.transfer import client, resumable;"
        "s = client.ServerSettings(backoff_s=0.01, timeout_s=600);"
        "resumable.fetch_file(client.session(s), sys.argv[2], Path(sys.argv[3]), sys.argv[4],"
        " int(sys.argv[5]), s)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(repo / "scripts"), url, str(dest), MD5, str(SIZE)]
    )


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the child ended too soon"
        assert time.monotonic() < deadline, "the child never came so far"
        time.sleep(0.01)


def test_killed_twice_and_right_in_the_end(repo: Path, server: FaultServer, dest: Path) -> None:
    url = server.add("/a", Fault("stall", 0.5), Fault("stall", 0.5))
    part = dest.with_name(f"{dest.name}.partial")
    for share in (0.5, 0.75):
        process = child(repo, url, dest)
        wait_for(lambda least=share: part.exists() and part.stat().st_size >= least * SIZE, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not dest.exists()
    get(url, dest)
    assert dest.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, f"bytes={SIZE // 2}-", f"bytes={SIZE * 3 // 4}-"]


def test_two_processes_fetch_a_file_once(repo: Path, server: FaultServer, dest: Path) -> None:
    url = server.add("/a", "stall")
    part = dest.with_name(f"{dest.name}.partial")

    def has_it_open(process: subprocess.Popen[bytes]) -> bool:
        folder = Path(f"/proc/{process.pid}/fd")
        return any(os.path.realpath(link) == str(part) for link in folder.iterdir())

    first = child(repo, url, dest)
    wait_for(lambda: server.requests, first)
    second = child(repo, url, dest)
    wait_for(lambda: has_it_open(second), second)
    server.release.set()
    assert (first.wait(300), second.wait(300)) == (0, 0)
    assert dest.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert os.listdir(dest.parent) == [dest.name]
