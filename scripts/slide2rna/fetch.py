"""Files from the net that are whole and right, or not there: resume, checks, locks, many at once.

One request per file: GDC answers several ids with one tar, which can't resume and whose members'
names would have to be trusted. Nothing is ever unpacked here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests

from slide2rna.cli import byte_bar, log
from slide2rna.errors import DownloadError
from slide2rna.io import md5sum
from slide2rna.web import (
    Client,
    Settings,
    Transient,
    body,
    get_json,
    read_token,
    refuse_page,
    request,
    retry,
    session,
)

__all__ = [
    "Client", "Job", "Settings", "fetch_all", "fetch_file", "get_json", "is_whole",
    "read_token", "safe_path", "session",
]  # fmt: skip

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Job:
    """One file to fetch: md5 in hex and size in bytes, where they are known."""

    url: str
    dest: Path
    md5: str | None = None
    size: int | None = None


def safe_path(folder: str | Path, name: str) -> Path:
    """The file `name` in `folder`, for a name that someone else wrote.

    Raises
    ------
    DownloadError
        The name is not a plain file name: a path, hidden, `..`, too long, control characters.
    """
    plain = re.fullmatch(r"[^/\\\x00-\x1f\x7f-\x9f]+", name) and not name.startswith((".", "-"))
    if not plain or len(os.fsencode(name)) > 240:
        cause = "the manifest's file name could lead out of its folder or isn't a plain name"
        raise DownloadError(repr(name), cause, "mend the manifest, and ask where it comes from")
    return Path(folder) / name


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
    settings: Settings,
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
                _Fetch(session, Job(url, dest, md5, size), settings, partial, advance).run()
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


def fetch_all(jobs: Sequence[Job], settings: Settings) -> dict[Path, DownloadError | None]:
    """Fetch many files, `settings.parallel` at a time; a file that fails doesn't stop the others.

    Returns
    -------
    dict
        For each `dest` None, or why it isn't there.

    Raises
    ------
    DownloadError
        The disk is too small for what is still to come; no byte was asked for.
    """
    missing = [job for job in jobs if not is_whole(job.dest, job.md5, job.size)]
    results: dict[Path, DownloadError | None] = {job.dest: None for job in jobs}
    if not missing:
        return results
    check_room(missing)
    total = sum(job.size or 0 for job in missing)

    with byte_bar(total or None, f"{len(missing)} files") as advance:
        stopped = threading.Event()

        def advance_or_stop(n: int) -> None:
            if stopped.is_set():
                raise _Stopped
            advance(n)

        def one(job: Job) -> DownloadError | None:
            with session(settings) as client:
                try:
                    fetch_file(
                        client, job.url, job.dest, job.md5, job.size, settings, advance_or_stop
                    )
                except DownloadError as error:
                    log.info("%s", error)
                    return error
            return None

        with ThreadPoolExecutor(settings.parallel) as pool:
            try:
                for job, error in zip(missing, pool.map(one, missing), strict=True):
                    results[job.dest] = error
            except BaseException:
                # Ctrl-C would otherwise wait until these files are whole.
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results


class _Stopped(Exception):
    pass


def check_room(jobs: Sequence[Job]) -> None:
    """Refuse a download that can't fit; what is here, or of unknown size, counts as nothing.

    Raises
    ------
    DownloadError
        Names the folder, what is needed and what is free, in GB.
    """
    needs: dict[int, tuple[Path, int]] = {}
    for job in jobs:
        folder = next(p for p in job.dest.absolute().parents if p.is_dir())
        paths = (job.dest, partial_of(job.dest))
        here = max((path.stat().st_size for path in paths if path.is_file()), default=0)
        device = folder.stat().st_dev
        _, bytes_ = needs.get(device, (folder, 0))
        needs[device] = (folder, bytes_ + max(0, (job.size or 0) - here))
    for folder, bytes_ in needs.values():
        free = shutil.disk_usage(folder).free
        log.info("%.2f GB to fetch, %.2f GB free", bytes_ / 1e9, free / 1e9)
        if bytes_ > free:
            cause = f"{bytes_ / 1e9:.2f} GB are to come and only {free / 1e9:.2f} GB are free"
            raise DownloadError(folder, cause, "make room, or set keep_slides: false")


@dataclass
class _Fetch:
    """The state of one file between tries."""

    session: Client
    job: Job
    settings: Settings
    partial: IO[bytes]
    advance: Advance
    etag: str | None = None
    wrong: int = 0

    def run(self) -> None:
        if self.job.md5 is None:
            # Nobody could tell whether another process's bytes belong to the same file.
            self.partial.truncate(0)
        self.advance(self._have())
        retry(self._once, self.job.dest.name, self.settings)
        self.partial.flush()
        os.fsync(self.partial.fileno())
        partial_of(self.job.dest).replace(self.job.dest)

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
            self._receive()
        have = self._have()
        if size is not None and have < size:
            raise Transient(f"only {have} of {size} bytes came")
        if size is not None and have > size:
            raise self._drop(f"more than the promised {size} bytes came")
        self.partial.flush()
        if self.job.md5 is not None and md5sum(partial_of(self.job.dest)) != self.job.md5.lower():
            self.wrong += 1
            fault = self._drop(f"the md5 is wrong, {self.job.md5} was promised")
            if self.wrong < 2:
                raise fault
            remedy = "the server's file isn't the manifest's: make the manifest anew"
            raise DownloadError(self.job.dest, f"{fault}, twice", remedy)

    def _receive(self) -> None:
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
                    return  # All was there already; only its size wasn't known.
                raise self._drop("the server refuses to go on from here")
            refuse_page(response)
            self._check_start(response, offset)
            for chunk in body(response, self.settings.timeout_s):
                self.partial.write(chunk)
                self.advance(len(chunk))
                if self.job.size is not None and self._have() > self.job.size:
                    return

    def _check_start(self, response: requests.Response, offset: int) -> None:
        """See that these bytes go where the partial file ends, of a file as long as promised."""
        headers = response.headers
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            if not found or int(found[1]) != offset:
                raise self._drop("the server sent another part than was asked for")
            total = None if found[2] == "*" else int(found[2])
        else:
            if offset:
                self._drop("from the start")
            total = int(headers["Content-Length"]) if "Content-Length" in headers else None
        if total is not None and self.job.size is not None and total != self.job.size:
            raise self._drop(f"the server has {total} bytes, {self.job.size} were promised")
        chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        if total is None and not chunked and self.job.size is None and self.job.md5 is None:
            cause = "neither the server nor the manifest says how long it is"
            raise DownloadError(self.job.dest, cause, "give a size or a md5")
        etag = headers.get("ETag")
        self.etag = etag if etag and not etag.startswith("W/") else None


def partial_of(dest: Path) -> Path:
    return dest.with_name(f"{dest.name}.partial")


@contextmanager
def _locked(dest: Path) -> Iterator[IO[bytes]]:
    """The partial file, open for appending and locked against other processes and threads."""
    while True:
        with open(partial_of(dest), "ab") as handle:
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
