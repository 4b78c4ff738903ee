"""Resumable download of one file: ranges, checksum, and a lock between processes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests
import tenacity

from slide2rna.core.errors import DownloadError
from slide2rna.core.files import md5sum
from slide2rna.core.log import log
from slide2rna.transfer.client import (
    Client,
    ServerSettings,
    Transient,
    body,
    refuse_page,
    request,
    retry,
)

STEP_BYTES = 1 << 24
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Download:
    """One file to fetch: md5 in hex and size in bytes, or None."""

    url: str
    dest: Path
    md5: str | None = None
    size: int | None = None


def is_whole(path: Path, md5: str | None = None, size: int | None = None) -> bool:
    """Return whether the file exists with this size and md5; None skips that check."""
    if not path.is_file() or (size is not None and path.stat().st_size != size):
        return False
    return md5 is None or md5sum(path) == md5.lower()


def fetch_file(
    session: Client,
    url: str,
    dest: Path,
    md5: str | None,
    size: int | None,
    settings: ServerSettings,
    advance: Advance = lambda n: None,
) -> None:
    """Fetch one file to `dest`; send no request if it is complete already.

    Bytes go to `<dest>.partial`. With a md5, which can verify the result, the next try or run
    resumes it. A lock on it makes a second process wait and then use the file. `advance` receives
    each number of new bytes (negative for discarded bytes).

    Raises
    ------
    DownloadError
        Not available, wrong twice, or the disk is full; the message names the cause.
    """
    try:
        if is_whole(dest, md5, size):
            advance(dest.stat().st_size)
            return
        dest.parent.mkdir(parents=True, exist_ok=True)
        with _locked(dest) as partial:
            if is_whole(dest, md5, size):  # Another process held the lock and finished.
                partial_of(dest).unlink()
                advance(dest.stat().st_size)
                return
            try:
                _Fetch(session, Download(url, dest, md5, size), settings, partial, advance).run()
            finally:
                # The next run can't use an empty partial file.
                empty = os.fstat(partial.fileno()).st_size == 0
                if empty and _is_same_file(partial, partial_of(dest)):
                    partial_of(dest).unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cause, remedy = "the disk is full", "make room, then rerun the same command to continue"
        else:
            cause, remedy = f"it can't be written ({error.strerror})", "check disk and permissions"
        raise DownloadError(dest, cause, remedy) from error


@dataclass
class _Fetch:
    """The state of one file between tries."""

    session: Client
    job: Download
    settings: ServerSettings
    partial: IO[bytes]
    advance: Advance
    etag: str | None = None
    wrong_md5s: int = 0
    step_start: int = 0
    step_attempt: int = 0

    def run(self) -> None:
        if self.job.md5 is None:
            # Without a md5, bytes of another process can't be verified.
            self.partial.truncate(0)
        self.step_start = self._received()
        self.advance(self.step_start)
        retry(self._attempt, self.job.dest.name, self.settings, self._is_stuck)
        self.partial.flush()
        os.fsync(self.partial.fileno())
        partial_of(self.job.dest).replace(self.job.dest)

    def _is_stuck(self, state: tenacity.RetryCallState) -> bool:
        """Return whether `tries` attempts in a row received fewer than STEP_BYTES.

        Slides are big, and a bad connection may break often, so each step resets the count.
        """
        if self._received() >= self.step_start + STEP_BYTES:
            self.step_start, self.step_attempt = self._received(), state.attempt_number
        return state.attempt_number - self.step_attempt >= self.settings.tries

    def _received(self) -> int:
        return self.partial.seek(0, os.SEEK_END)

    def _discard(self, cause: str) -> Transient:
        """Discard the received bytes and return the fault, which the caller may raise."""
        self.advance(-self._received())
        self.partial.truncate(0)
        self.etag = None
        return Transient(cause)

    def _attempt(self) -> None:
        """Send one request, or none if all bytes are there; then check size and md5."""
        size = self.job.size
        if size is None or self._received() < size:
            announced = self._receive()
            size = announced if size is None else size
        received = self._received()
        if size is not None and received < size:
            raise Transient(f"only {received} of {size} bytes arrived")
        if size is not None and received > size:
            raise self._discard(f"{received} bytes arrived, {size} were expected")
        self.partial.flush()
        if self.job.md5 is not None and md5sum(partial_of(self.job.dest)) != self.job.md5.lower():
            self.wrong_md5s += 1
            fault = self._discard(f"the md5 is wrong, {self.job.md5} was expected")
            if self.wrong_md5s < 2:
                raise fault
            remedy = "the server's file differs from the manifest's: create the manifest again"
            raise DownloadError(self.job.dest, f"{fault}, twice", remedy)

    def _receive(self) -> int | None:
        """Append the server's bytes; return the file's total length in bytes, if announced."""
        offset = self._received()
        if offset and self.job.md5 is None and self.etag is None:
            self._discard("the download can't continue safely")
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and self.etag:
            headers["If-Range"] = self.etag
        with request(
            self.session, self.job.dest.name, "GET", self.job.url, headers=headers
        ) as response:
            if response.status_code == 416:
                if self.job.md5 and is_whole(partial_of(self.job.dest), self.job.md5):
                    return None  # The file was complete; only its size was missing.
                raise self._discard("the server refuses to continue from here")
            refuse_page(response)
            announced = self._check_start(response, offset)
            for chunk in body(response, self.settings.timeout_s):
                self.partial.write(chunk)
                self.advance(len(chunk))
                if self.job.size is not None and self._received() > self.job.size:
                    break
        return announced

    def _check_start(self, response: requests.Response, offset: int) -> int | None:
        """Check that the bytes continue the partial file and that the total size matches."""
        headers, etag = response.headers, response.headers.get("ETag")
        if response.status_code == 206:
            if self.etag and etag and etag != self.etag:
                raise self._discard("the file has changed in the meantime")
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            if not match or int(match[1]) != offset:
                raise self._discard("the server sent another part of the file than requested")
            total = None if match[2] == "*" else int(match[2])
        else:
            if offset:
                self._discard("from the start")
            total = response.raw.length_remaining
        if total is not None and self.job.size is not None and total != self.job.size:
            raise self._discard(f"the server has {total} bytes, {self.job.size} were expected")
        chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        if total is None and not chunked and self.job.size is None and self.job.md5 is None:
            cause = "its size is unknown to the server and to the manifest"
            raise DownloadError(self.job.dest, cause, "give a size or a md5")
        self.etag = etag if etag and not etag.startswith("W/") else None
        return total


def partial_of(dest: Path) -> Path:
    """Return the path of a download's partial file."""
    return dest.with_name(f"{dest.name}.partial")


@contextmanager
def _locked(dest: Path) -> Iterator[IO[bytes]]:
    """Open the partial file for appending, locked against other processes and threads."""
    while True:
        with open(partial_of(dest), "ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: waiting for another process that downloads it", dest.name)
                fcntl.flock(handle, fcntl.LOCK_EX)
            # The lock's previous holder may have renamed the file that was opened here.
            if _is_same_file(handle, partial_of(dest)):
                yield handle
                return


def _is_same_file(handle: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
