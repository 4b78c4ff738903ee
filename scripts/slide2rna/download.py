"""Stage 2: see that every slide of a shard is there, whole, and the file that was promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.cli import log, progress
from slide2rna.errors import DownloadError
from slide2rna.io import md5sum, shard_of, write_parquet

Checked = tuple[str | None, int | None]


def check_file(path: str, md5: str | None = None, size: int | None = None) -> Checked:
    """Measure a local slide and compare it with what the cohort says of it.

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
        found_md5 = md5sum(path)
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


def check_shard(slides: pl.DataFrame, shard: int, shards: int) -> pl.DataFrame:
    """The rows of one shard with md5 and size measured, status and reason.

    A row without a path brings only features and passes; a slide that fails keeps its row, with
    the reason, and the others go on. A file that several rows share is read once.
    """
    rows = [
        row for row in slides.iter_rows(named=True) if shard_of(row["slide_id"], shards) == shard
    ]
    measured: dict[tuple[Any, ...], Checked | DownloadError] = {}
    for row in progress(rows, f"check slides, shard {shard}"):
        key = (row["path"], row["md5"], row["size"])
        if key not in measured:
            measured[key] = _measure(row)
        result = measured[key]
        if isinstance(result, DownloadError):
            log.info("slide %s: %s", row["slide_id"], result)
            row |= {"md5": None, "size": None, "status": "failed", "reason": _reason(result)}
        else:
            row |= {"md5": result[0], "size": result[1], "status": "ok", "reason": None}
    schema = dict(slides.schema) | {"status": pl.String(), "reason": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("slide_id")


def _measure(row: dict[str, Any]) -> Checked | DownloadError:
    if row["path"] is None and row["url"] is None:
        return None, None
    try:
        if row["path"] is None:
            raise DownloadError(row["url"], "only a url is known", "put the slide on disk")
        return check_file(row["path"], row["md5"], row["size"])
    except DownloadError as error:
        return error


def _reason(error: DownloadError) -> str:
    # Without the folder: reasons reach the report, which must not depend on the machine.
    return f"{Path(error.where).name}: {error.reason}"


def run(slides_path: str | Path, shard: int, shards: int, out: str | Path) -> None:
    """Check one shard of slides.parquet and write its manifest."""
    table = check_shard(pl.read_parquet(slides_path), shard, shards)
    write_parquet(table, out)
    failed = table.filter(pl.col("status") == "failed").height
    log.info("shard %d: %d slides, %d failed", shard, table.height, failed)
