"""Stage 2: fetch the slides of a shard; see that each is whole and what was promised."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from slide2rna.core.errors import DownloadError
from slide2rna.core.files import md5sum, read_json, write_json, write_parquet
from slide2rna.core.log import log, progress
from slide2rna.core.seeds import shard_of
from slide2rna.transfer import batch, client, resumable

Checked = tuple[str | None, int | None]


@dataclass(frozen=True)
class MeasuredFiles:
    """One small record per slide file in `folder`; None remembers nothing."""

    folder: Path | None = None

    def _record(self, path: str | Path) -> Path | None:
        name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
        return self.folder and self.folder / f"{name}.json"

    def md5(self, path: str | Path) -> str | None:
        """The md5 in hex of a file, if it was measured and is as it was then."""
        record = self._record(path)
        if record is None or not record.is_file():
            return None
        found = read_json(record)
        return str(found["md5"]) if found["file"] == stamp(path) else None

    def keep(self, was: list[Any], md5: str) -> None:
        """Remember a file's md5; `was` is its `stamp` from before it was read."""
        if record := self._record(was[0]):
            write_json({"file": was, "md5": md5}, record)


def stamp(path: str | Path) -> list[Any]:
    """Path, size in bytes and time of modification in ns of a file; [path] if it isn't there."""
    try:
        found = os.stat(path)
    except OSError:
        return [str(path)]
    return [str(path), found.st_size, found.st_mtime_ns]


NOTHING = MeasuredFiles()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a command that downloads a shard."""
    parser.add_argument("--slides", type=Path, required=True, help="slides.parquet of the cohort")
    parser.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="how many shards there are")
    parser.add_argument("--downloads", type=int, default=4, help="files at a time")
    parser.add_argument("--token-file", help="GDC token; default: the variable GDC_TOKEN")
    parser.add_argument(
        "--api", default=client.ServerSettings.api, help="the server that gets the token"
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line with those options; a shard that there isn't is a usage error."""
    args = parser.parse_args(argv)
    if not 0 <= args.shard < args.shards:
        parser.error(f"--shard must be 0 to {args.shards - 1}")
    return args


def settings_of(args: argparse.Namespace) -> client.ServerSettings:
    """The settings that those options give."""
    token = client.read_token(args.token_file)
    return client.ServerSettings(token=token, parallel=max(1, args.downloads), api=args.api)


def check_file(
    path: str, md5: str | None = None, size: int | None = None, known: str | None = None
) -> Checked:
    """Measure a local slide and compare it with what the cohort says of it.

    Parameters
    ----------
    path, md5, size
        The file, and what was promised of it.
    known
        Its md5, where it has been measured before and the file is as it was.

    Returns
    -------
    tuple
        md5 in hex and size in bytes.

    Raises
    ------
    DownloadError
        The file is missing, empty, unreadable, or not the promised one.
    """
    try:
        if not Path(path).is_file():
            raise DownloadError(path, "the slide is not there", "put it back or mend the sheet")
        found_size = Path(path).stat().st_size
        found_md5 = known or md5sum(path)
    except OSError as error:
        cause = f"the slide can't be read ({error.strerror})"
        raise DownloadError(path, cause, "check its permissions and the disk") from error
    if found_size == 0:
        raise DownloadError(path, "the file is empty", "copy it again")
    if size is not None and size != found_size:
        cause = f"it has {found_size} bytes, {size} were promised"
        raise DownloadError(path, cause, "copy it again")
    if md5 is not None and md5 != found_md5:
        cause = f"its md5 is {found_md5}, {md5} was promised"
        raise DownloadError(path, cause, "copy it again or mend the sheet's md5")
    return found_md5, found_size


def shard_rows(slides: pl.DataFrame, shard: int, shards: int) -> list[dict[str, Any]]:
    """The rows of one shard, in the order of their slides."""
    rows = slides.sort("slide_id").iter_rows(named=True)
    return [row for row in rows if shard_of(row["slide_id"], shards) == shard]


def download_of(row: dict[str, Any], files: Path) -> resumable.Download | None:
    """What to fetch for a slide that has a url and no path of its own.

    The file is named by the slide, so that two never share one; OpenSlide goes by the content.

    Raises
    ------
    DownloadError
        The slide's name can't be a file's name.
    """
    if row["url"] is None or row["path"] is not None:
        return None
    suffix = Path(urlsplit(row["url"]).path).suffix
    suffix = suffix if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,7}", suffix) else ".svs"
    dest = batch.safe_path(files, row["slide_id"] + suffix)
    return resumable.Download(row["url"], dest, row["md5"], row["size"])


def get_rows(
    rows: Sequence[dict[str, Any]],
    files: Path,
    settings: client.ServerSettings,
    stopped: threading.Event | None = None,
    records: MeasuredFiles = NOTHING,
) -> list[dict[str, Any]]:
    """Fetch or check slides; the rows get path, measured md5 and size, status and reason.

    A row without a path and a url brings only features and passes; a slide that fails keeps its
    row, with the reason, and the others go on. A file that several rows share is read once, and
    one that `records` has, and that is as it was, not at all.
    """
    jobs = [download_of(row, files) for row in rows]
    here = {
        job.dest for row, job in zip(rows, jobs, strict=True) if job and _kept(row, job, records)
    }
    wanted = [job for job in jobs if job and job.dest not in here]
    failures = batch.fetch_all(wanted, settings, stopped)
    measured: dict[tuple[Any, ...], Checked | DownloadError] = {}
    done = []
    for row, job in progress(list(zip(rows, jobs, strict=True)), "check slides"):
        path = str(job.dest) if job else row["path"]
        key = (path, row["md5"], row["size"])
        if key not in measured:
            failure = failures.get(job.dest) if job else None
            measured[key] = failure or _measure(path, row, bool(job), records)
        result = measured[key]
        found: dict[str, Any]
        if isinstance(result, DownloadError):
            log.info("slide %s: %s", row["slide_id"], result)
            found = {"md5": None, "size": None, "status": "failed", "reason": _reason(result)}
        else:
            found = {"md5": result[0], "size": result[1], "status": "ok", "reason": None}
            found["path"] = path
        done.append(row | found)
    return done


def as_table(rows: Sequence[dict[str, Any]], schema: dict[str, Any]) -> pl.DataFrame:
    """Rows of `get_rows` as the stage's table; `schema` is that of slides.parquet."""
    schema = dict(schema) | {"status": pl.String(), "reason": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("slide_id")


def _kept(row: dict[str, Any], job: resumable.Download, records: MeasuredFiles) -> bool:
    """Is what was fetched for a slide still there, as it was and as it is promised?"""
    known = records.md5(job.dest)
    promised = row["md5"].lower() if row["md5"] else known
    sized = row["size"] is None or stamp(job.dest)[1:2] == [row["size"]]
    return known is not None and known == promised and sized


def _measure(
    path: str | None, row: dict[str, Any], fetched: bool, records: MeasuredFiles
) -> Checked | DownloadError:
    if path is None:
        return None, None
    was, known = stamp(path), records.md5(path)
    md5 = known
    if fetched and row["md5"]:  # It has just been compared; reading a slide again takes seconds.
        md5 = row["md5"].lower()
    try:
        found = check_file(path, row["md5"], row["size"], md5)
    except DownloadError as error:
        return error
    if found[0] is not None and found[0] != known:
        records.keep(was, found[0])
    return found


def _reason(error: DownloadError) -> str:
    # Without the folder: reasons reach the report, which must not depend on the machine.
    return f"{Path(error.where).name}: {error.reason}"


def download_shard(
    slides_path: str | Path,
    shard: int,
    shards: int,
    out: str | Path,
    settings: client.ServerSettings,
) -> None:
    """Fetch or check one shard of slides.parquet and write its manifest.

    Fetched slides go to the folder `files` beside the manifest.

    Raises
    ------
    DownloadError
        The disk is too small for what the whole cohort still needs; nothing was fetched.
    """
    slides, files = pl.read_parquet(slides_path), Path(out).parent / "files"
    ours = shard_rows(slides, shard, shards)
    if any(download_of(row, files) for row in ours):
        jobs = [download_of(row, files) for row in slides.iter_rows(named=True)]
        batch.check_room([job for job in jobs if job])
    records = MeasuredFiles(Path(out).parent / "measured")
    table = as_table(get_rows(ours, files, settings, records=records), slides.schema)
    write_parquet(table, out)
    failed = table.filter(pl.col("status") == "failed").height
    log.info("shard %d: %d slides, %d failed", shard, table.height, failed)
