"""Download of a shard's slides (stage 2), with a check of each file against the cohort's table."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from slide2rna.core.errors import DownloadError
from slide2rna.core.files import md5sum, read_record, write_json
from slide2rna.core.log import log, progress
from slide2rna.core.rows import CheckedSlideRow, SlideRow
from slide2rna.core.seeds import shard_of
from slide2rna.slides import identity
from slide2rna.storage import parquet, stamps
from slide2rna.transfer import batch, client, resumable

Measurement = tuple[str | None, int | None]  # md5 in hex and size in bytes
Checked = tuple[Measurement, identity.Identity]


@dataclass(frozen=True)
class MeasuredFiles:
    """Records of measured slide files, one JSON file each in `folder`; None keeps no records."""

    folder: Path | None = None

    def _record_path(self, name: str) -> Path | None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        return self.folder and self.folder / f"{digest}.json"

    def md5(self, name: str, status: list[Any]) -> str | None:
        """Return the recorded md5 in hex of a file in the table, if its status is the same."""
        record_path = self._record_path(name)
        record = read_record(record_path) if record_path else {}
        return str(record["md5"]) if record.get("file") == status else None

    def record(self, name: str, status: list[Any], md5: str) -> None:
        """Record a file's md5 with its status from before the file was read."""
        if record_path := self._record_path(name):
            write_json({"file": status, "md5": md5}, record_path)


def file_status(path: str | Path) -> list[Any]:
    """Return a slide's size in bytes, modification time in ns, and stamp; [] if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, stamps.slide_stamp(path)]


NO_RECORDS = MeasuredFiles()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that downloads a shard."""
    parser.add_argument("--slides", type=Path, required=True, help="slides.parquet of the cohort")
    parser.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="number of shards")
    parser.add_argument("--downloads", type=int, default=4, help="number of parallel downloads")
    parser.add_argument("--token-file", help="GDC token; default: the variable GDC_TOKEN")
    parser.add_argument(
        "--api", default=client.ServerSettings.api, help="server that gets the token"
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line with those options; a shard out of range is a usage error."""
    args = parser.parse_args(argv)
    if not 0 <= args.shard < args.shards:
        parser.error(f"--shard must be 0 to {args.shards - 1}")
    return args


def server_settings(args: argparse.Namespace) -> client.ServerSettings:
    """Return the server settings from the parsed options."""
    token = client.read_token(args.token_file)
    return client.ServerSettings(token=token, parallel=max(1, args.downloads), api=args.api)


def check_file(
    path: str, md5: str | None = None, size: int | None = None, recorded_md5: str | None = None
) -> Measurement:
    """Measure a local slide and compare it with the cohort's table.

    Parameters
    ----------
    path, md5, size
        The file, and its expected md5 and size.
    recorded_md5
        The file's md5, if it was measured before and the file has not changed since.

    Returns
    -------
    tuple
        md5 in hex and size in bytes.

    Raises
    ------
    DownloadError
        The file is missing, empty or unreadable, or is not the expected one.
    """
    try:
        if not Path(path).is_file():
            raise DownloadError(path, "the slide is missing", "put it back, or fix the sheet")
        actual_size = Path(path).stat().st_size
        actual_md5 = recorded_md5 or md5sum(path)
    except OSError as error:
        cause = f"the slide can't be read ({error.strerror})"
        raise DownloadError(path, cause, "check its permissions and the disk") from error
    if actual_size == 0:
        raise DownloadError(path, "the file is empty", "copy it again")
    if size is not None and size != actual_size:
        cause = f"it has {actual_size} bytes, {size} were expected"
        raise DownloadError(path, cause, "copy it again")
    if md5 is not None and md5 != actual_md5:
        cause = f"its md5 is {actual_md5}, {md5} was expected"
        raise DownloadError(path, cause, "copy it again, or fix the sheet's md5")
    return actual_md5, actual_size


def shard_rows(slides: pl.DataFrame, shard: int, shards: int) -> list[SlideRow]:
    """Return the rows of one shard, sorted by slide_id."""
    rows: Iterator[Any] = slides.sort("slide_id").iter_rows(named=True)
    return [row for row in rows if shard_of(row["slide_id"], shards) == shard]


def download_job(row: SlideRow, files: Path) -> resumable.Download | None:
    """Return the download job of a slide that has a url and no path, else None.

    The file is named after the slide, so that no two slides share one; OpenSlide detects the
    format from the content.

    Raises
    ------
    DownloadError
        The slide's name is not a valid file name.
    """
    if row["url"] is None or row["path"] is not None:
        return None
    suffix = Path(urlsplit(row["url"]).path).suffix
    suffix = suffix if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,7}", suffix) else ".svs"
    dest = batch.safe_path(files, row["slide_id"] + suffix)
    return resumable.Download(row["url"], dest, row["md5"], row["size"])


def fetch_slides(
    rows: Sequence[SlideRow],
    files: Path,
    settings: client.ServerSettings,
    stopped: threading.Event | None = None,
    records: MeasuredFiles = NO_RECORDS,
    folder: Path = Path(),
) -> list[CheckedSlideRow]:
    """Fetch or check slides; add path, measured md5 and size, identity, status and reason.

    A row without path and url has features only, and passes. A slide that fails keeps its row,
    with the reason, and the others continue. A file that several rows share is read once; of a
    file with an entry in `records` that has not changed since, only the stamp is read. Paths are
    relative to `folder`, which holds the folder `files` of fetched slides.
    """
    jobs = [download_job(row, files) for row in rows]
    present = {
        job.dest
        for row, job in zip(rows, jobs, strict=True)
        if job and _is_unchanged(row, job, records, folder)
    }
    missing = [job for job in jobs if job and job.dest not in present]
    failures = batch.fetch_all(missing, settings, stopped)
    measured: dict[tuple[Any, ...], Checked | DownloadError] = {}
    done: list[CheckedSlideRow] = []
    for row, job in progress(list(zip(rows, jobs, strict=True)), "check slides"):
        path = _relative(job.dest, folder) if job else row["path"]
        key = (path, row["md5"], row["size"])
        if key not in measured:
            failure = failures.get(job.dest) if job else None
            measured[key] = failure or _measure(path, row, bool(job), records, folder)
        result = measured[key]
        if isinstance(result, DownloadError):
            log.info("slide %s: %s", row["slide_id"], result)
            reason = _reason(result)
            failed: SlideRow = {**row, "md5": None, "size": None}
            done.append({**failed, "status": "failed", "reason": reason, **identity.UNKNOWN})
        else:
            (md5, size), found = result
            measured_row: SlideRow = {**row, "path": path, "md5": md5, "size": size}
            done.append({**measured_row, "status": "ok", "reason": None, **found})
    return done


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder if it is below it."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def checked_table(rows: Sequence[CheckedSlideRow], schema: dict[str, Any]) -> pl.DataFrame:
    """Return rows of `fetch_slides` as the stage's table; `schema` is that of slides.parquet."""
    added = ("status", "reason", "quickhash", "stamp")
    schema = dict(schema) | {name: pl.String() for name in added if name not in schema}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("slide_id")


def _is_unchanged(
    row: SlideRow, job: resumable.Download, records: MeasuredFiles, folder: Path
) -> bool:
    """Return whether a slide's fetched file exists, is unchanged and is the expected one."""
    status = file_status(job.dest)
    recorded_md5 = records.md5(_relative(job.dest, folder), status)
    expected_md5 = row["md5"].lower() if row["md5"] else recorded_md5
    size_matches = row["size"] is None or status[:1] == [row["size"]]
    return recorded_md5 is not None and recorded_md5 == expected_md5 and size_matches


def _measure(
    path: str | None, row: SlideRow, fetched: bool, records: MeasuredFiles, folder: Path
) -> Checked | DownloadError:
    """Check a slide's file and record its md5; return the error if the check fails.

    The stamp is of the time before the file was read: a file replaced meanwhile differs from it.
    """
    if path is None:
        return (None, None), identity.UNKNOWN
    status = file_status(folder / path)
    md5 = recorded_md5 = records.md5(path, status)
    if fetched and row["md5"]:  # It has just been compared; reading a slide again takes seconds.
        md5 = row["md5"].lower()
    try:
        measurement = check_file(str(folder / path), row["md5"], row["size"], md5)
    except DownloadError as error:
        return error
    if measurement[0] is not None and measurement[0] != recorded_md5:
        records.record(path, status, measurement[0])
    stamp = status[-1] if status else stamps.MISSING
    return measurement, {"quickhash": identity.quickhash(folder / path), "stamp": stamp}


def _reason(error: DownloadError) -> str:
    # No folder: reasons appear in the report, which must not depend on the machine.
    return f"{Path(error.where).name}: {error.reason}"


def download_shard(
    slides_path: str | Path,
    shard: int,
    shards: int,
    out: str | Path,
    settings: client.ServerSettings,
    folder: Path = Path(),
) -> None:
    """Fetch or check one shard of slides.parquet and write its manifest.

    Fetched slides go to the folder `files` next to the manifest; paths of others are relative to
    `folder`.

    Raises
    ------
    DownloadError
        The disk is too small for the slides that the whole cohort still needs; none was fetched.
    """
    slides, files = parquet.read(slides_path), Path(out).parent / "files"
    rows = shard_rows(slides, shard, shards)
    if any(download_job(row, files) for row in rows):
        cohort_rows: Iterator[Any] = slides.iter_rows(named=True)
        jobs = [download_job(row, files) for row in cohort_rows]
        batch.check_room([job for job in jobs if job])
    records = MeasuredFiles(Path(out).parent / "measured")
    checked = fetch_slides(rows, files, settings, records=records, folder=folder)
    table = checked_table(checked, slides.schema)
    parquet.write(table, out)
    failed = table.filter(pl.col("status") == "failed").height
    log.info("shard %d: %d slides, %d failed", shard, table.height, failed)
