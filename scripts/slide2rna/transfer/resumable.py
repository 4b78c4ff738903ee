"""One file from the net that is whole and right, or not there: resume, checks, a lock."""

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
    """One file to fetch: md5 in hex and size in bytes, where they are known."""

    url: str
    dest: Path
    md5: str | None = None
    size: int | None = None


def is_whole(path: Path, md5: str | None = None, size: int | None = None) -> bool:
    """Is the file there, with this size and md5? Without either, being there is enough."""
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
    """Fetch one file to `dest`; nothing is asked if it is there already.

    Bytes go to `<dest>.partial`, which is kept for the next try or the next run where a md5 can
    tell whether the result is right. A lock on it lets a second process wait and find the file.
    `advance` is called with each number of new bytes (negative where bytes are thrown away).

    Raises
    ------
    DownloadError
        Not to be had, or wrong twice, or the disk is full; one line that says which.
    """
    try:
        if is_whole(dest, md5, size):
            advance(dest.stat().st_size)
            return
        dest.parent.mkdir(parents=True, exist_ok=True)
        with _locked(dest) as partial:
            if is_whole(dest, md5, size):  # Another process had the lock, and finished.
                partial_of(dest).unlink()
                advance(dest.stat().st_size)
                return
            try:
                _Fetch(session, Download(url, dest, md5, size), settings, partial, advance).run()
            finally:
                # An empty partial file is no use to the next run.
                if _is(partial, partial_of(dest)) and os.fstat(partial.fileno()).st_size == 0:
                    partial_of(dest).unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cause, remedy = "the disk is full", "make room; what has come is kept and goes on"
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
    wrong: int = 0
    most: int = 0
    last_step: int = 0

    def run(self) -> None:
        if self.job.md5 is None:
            # Nobody could tell whether another process's bytes belong to the same file.
            self.partial.truncate(0)
        self.most = self._have()
        self.advance(self.most)
        retry(self._once, self.job.dest.name, self.settings, self._stuck)
        self.partial.flush()
        os.fsync(self.partial.fileno())
        partial_of(self.job.dest).replace(self.job.dest)

    def _stuck(self, state: tenacity.RetryCallState) -> bool:
        """Tries count from the last step ahead: slides are big, and a bad line may break often."""
        if self._have() >= self.most + STEP_BYTES:
            self.most, self.last_step = self._have(), state.attempt_number
        return state.attempt_number - self.last_step >= self.settings.tries

    def _have(self) -> int:
        return self.partial.seek(0, os.SEEK_END)

    def _drop(self, cause: str) -> Transient:
        self.advance(-self._have())
        self.partial.truncate(0)
        self.etag = None
        return Transient(cause)

    def _once(self) -> None:
        """One request, or none if all bytes are there already."""
        size = self.job.size
        if size is None or self._have() < size:
            announced = self._receive()
            size = announced if size is None else size
        have = self._have()
        if size is not None and have < size:
            raise Transient(f"only {have} of {size} bytes came")
        if size is not None and have > size:
            raise self._drop(f"{have} bytes came, {size} were promised")
        self.partial.flush()
        if self.job.md5 is not None and md5sum(partial_of(self.job.dest)) != self.job.md5.lower():
            self.wrong += 1
            fault = self._drop(f"the md5 is wrong, {self.job.md5} was promised")
            if self.wrong < 2:
                raise fault
            remedy = "the server's file isn't the manifest's: make the manifest anew"
            raise DownloadError(self.job.dest, f"{fault}, twice", remedy)

    def _receive(self) -> int | None:
        """Append what the server sends; the whole file's length in bytes, if it says so."""
        offset = self._have()
        if offset and self.job.md5 is None and self.etag is None:
            self._drop("no way to go on safely")
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and self.etag:
            headers["If-Range"] = self.etag
        with request(
            self.session, self.job.dest.name, "GET", self.job.url, headers=headers
        ) as response:
            if response.status_code == 416:
                if self.job.md5 and is_whole(partial_of(self.job.dest), self.job.md5):
                    return None  # All was there already; only its size wasn't known.
                raise self._drop("the server refuses to go on from here")
            refuse_page(response)
            announced = self._check_start(response, offset)
            for chunk in body(response, self.settings.timeout_s):
                self.partial.write(chunk)
                self.advance(len(chunk))
                if self.job.size is not None and self._have() > self.job.size:
                    break
        return announced

    def _check_start(self, response: requests.Response, offset: int) -> int | None:
        """See that these bytes go where the partial file ends, of a file as long as promised."""
        headers, etag = response.headers, response.headers.get("ETag")
        if response.status_code == 206:
            if self.etag and etag and etag != self.etag:
                raise self._drop("the file has changed in the meantime")
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            if not found or int(found[1]) != offset:
                raise self._drop("the server sent another part than was asked for")
            total = None if found[2] == "*" else int(found[2])
        else:
            if offset:
                self._drop("from the start")
            total = response.raw.length_remaining
        if total is not None and self.job.size is not None and total != self.job.size:
            raise self._drop(f"the server has {total} bytes, {self.job.size} were promised")
        chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        if total is None and not chunked and self.job.size is None and self.job.md5 is None:
            cause = "neither the server nor the manifest says how long it is"
            raise DownloadError(self.job.dest, cause, "give a size or a md5")
        self.etag = etag if etag and not etag.startswith("W/") else None
        return total


def partial_of(dest: Path) -> Path:
    return dest.with_name(f"{dest.name}.partial")


@contextmanager
def _locked(dest: Path) -> Iterator[IO[bytes]]:
    """The partial file, open for appending and locked against other processes and threads."""
    while True:
        with open(partial_of(dest), "ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: another process fetches it; waiting", dest.name)
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever held the lock may have renamed the file that was opened here.
            if _is(handle, partial_of(dest)):
                yield handle
                return


def _is(handle: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
