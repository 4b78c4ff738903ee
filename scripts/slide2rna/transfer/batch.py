"""Batch downloads over HTTP: each file is complete and correct, or absent.

One request per file: GDC answers several ids with one tar, which can't resume and whose member
names would need trust. This module never unpacks anything.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slide2rna.core.errors import DownloadError
from slide2rna.core.files import is_plain_name
from slide2rna.core.log import byte_bar, log
from slide2rna.transfer.client import ServerSettings, session
from slide2rna.transfer.resumable import Download, fetch_file, partial_of


def safe_path(folder: str | Path, name: str) -> Path:
    """Return the path of file `name` in `folder`, for a name from an untrusted source.

    Raises
    ------
    DownloadError
        The name is not a plain file name: a path, hidden, `..`, too long, control characters.
    """
    if not is_plain_name(name) or name.startswith((".", "-")):
        cause = "the manifest's file name could lead out of its folder or isn't a plain name"
        raise DownloadError(repr(name), cause, "fix the manifest, and ask where it comes from")
    return Path(folder) / name


def fetch_all(
    jobs: Sequence[Download], settings: ServerSettings, stopped: threading.Event | None = None
) -> dict[Path, DownloadError | None]:
    """Fetch many files, `settings.parallel` at a time; a failed file doesn't stop the others.

    Existing files are checked against their md5, without a request. Another thread may set
    `stopped`: the next bytes received then raise `Stopped`.

    Returns
    -------
    dict
        For each `dest` None, or the error that left it missing.

    Raises
    ------
    DownloadError
        The disk is too small for the remaining bytes; no byte was requested.
    """
    if not jobs:
        return {}
    check_room(jobs)
    stopped = stopped or threading.Event()
    total = sum(job.size or 0 for job in jobs)
    results: dict[Path, DownloadError | None] = {}
    with byte_bar(total or None, f"{len(jobs)} files") as advance:

        def advance_or_stop(n: int) -> None:
            if stopped.is_set():
                raise Stopped
            advance(n)

        def fetch(job: Download) -> DownloadError | None:
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
                for job, error in zip(jobs, pool.map(fetch, jobs), strict=True):
                    results[job.dest] = error
            except BaseException:
                # Otherwise Ctrl-C would wait until these files are complete.
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results


class Stopped(Exception):
    """The download was interrupted; the received bytes stay on disk."""


def check_room(jobs: Sequence[Download]) -> None:
    """Refuse a download that exceeds the free space; files of unknown size count as 0 bytes.

    Bytes already on disk are subtracted.

    Raises
    ------
    DownloadError
        Names the folder, the needed and the free space, in GB.
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
        if not bytes_:
            continue
        free = shutil.disk_usage(folder).free
        log.info("%.2f GB to fetch, %.2f GB free", bytes_ / 1e9, free / 1e9)
        if bytes_ > free:
            cause = f"{bytes_ / 1e9:.2f} GB are needed and only {free / 1e9:.2f} GB are free"
            raise DownloadError(folder, cause, "make room, or set keep_slides: false")
