"""Download, tiles and features as one job, for disks that can't hold all slides at once.

Each downloaded slide is deleted as soon as its features are there, and the next one comes only
then. The three stages are called as they are, with one slide at a time, so that their tables and
files are those of three jobs; slides of the user's own are never deleted.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core.config import Settings
from slide2rna.core.files import read_json, write_json, write_parquet
from slide2rna.core.log import log
from slide2rna.core.types import Row
from slide2rna.features import extract
from slide2rna.features.feature_file import attributes_of
from slide2rna.features.registry import Encoder
from slide2rna.slides import download
from slide2rna.slides import tiles as slides_tiles
from slide2rna.slides.download import MeasuredFiles
from slide2rna.transfer import batch, client, resumable


@dataclass(frozen=True)
class ShardManifests:
    """Where the tables of the three stages go; each slide's files go beside them."""

    slides: Path
    tiles: Path
    features: Path


@dataclass(frozen=True)
class SlideStreamer:
    """What the work on a slide needs besides the slide."""

    manifests: ShardManifests
    tile_settings: Settings
    encoder: Encoder
    seed: int
    threads: int
    fetching: client.ServerSettings

    @property
    def files(self) -> Path:
        return self.manifests.slides.parent / "files"

    def record(self, row: Row) -> Path:
        return self.manifests.slides.parent / "records" / f"{row['slide_id']}.json"

    def known(self, row: Row) -> Row | None:
        """The slide as it was measured, if its tiles and features are there and up to date."""
        record, folder = self.record(row), self.manifests.tiles.parent
        if not record.is_file():
            return None
        found = read_json(record)
        if any(found.get(name) != value for name, value in row.items() if value is not None):
            return None
        tiled = slides_tiles.cached_row(found, folder, self.tile_settings, self.seed)
        if tiled is None:
            return None
        table = pl.read_parquet(folder / f"{row['slide_id']}.parquet")
        made = attributes_of(self.manifests.features.parent / f"{row['slide_id']}.h5")
        key = extract.slide_key(found, tiled["mpp"], table, self.encoder, self.tile_settings)
        return found if made.get("key") == key else None

    def get(self, row: Row, stopped: threading.Event) -> Row:
        """Fetch or check one slide; one that nobody needs any more isn't fetched again."""
        remote = download.download_of(row, self.files) is not None
        if remote and (found := self.known(row)) is not None:
            return found
        records = MeasuredFiles() if remote else MeasuredFiles(self.files.parent / "measured")
        got = download.get_rows([row], self.files, self.fetching, stopped, records)[0]
        if remote and got["status"] == "ok":
            write_json(got, self.record(row))
        return got

    def digest(self, row: Row, schema: dict[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Tiles and features of one slide: its rows for both tables."""
        to = self.manifests
        with tempfile.TemporaryDirectory() as name:
            shard, tiled, made = (Path(name) / part for part in ("slides", "tiles", "features"))
            download.as_table([row], schema).write_parquet(shard)
            tile_rows = slides_tiles.tile_shard(
                shard, to.tiles.parent, tiled, self.tile_settings, self.seed
            )
            feature_rows = extract.extract_shard(
                shard,
                to.tiles.parent,
                tiled,
                to.features.parent,
                made,
                self.encoder,
                self.tile_settings,
                self.threads,
            )
        return tile_rows, feature_rows

    def discard(self, row: Row) -> None:
        """Delete what was downloaded of a slide: all of it, or a part that failed."""
        if job := download.download_of(row, self.files):
            job.dest.unlink(missing_ok=True)
            resumable.partial_of(job.dest).unlink(missing_ok=True)


def stream_shard(slides_path: Path, shard: int, shards: int, consumer: SlideStreamer) -> None:
    """Turn a shard of slides.parquet into tiles and features and leave the three manifests.

    At most `fetching.parallel` downloaded slides are on disk at any moment; the next ones come
    while one is worked on. A rerun goes on with the next slide. Where the normal mode names a
    downloaded slide's path, there is none, since it is gone.

    Raises
    ------
    DownloadError
        The disk can't hold that many of the largest slides; nothing was fetched.
    """
    slides = pl.read_parquet(slides_path)
    rows = download.shard_rows(slides, shard, shards)
    schema = dict(slides.schema)
    missing = [row for row in rows if consumer.known(row) is None]
    jobs = [job for row in missing if (job := download.download_of(row, consumer.files))]
    largest = sorted(jobs, key=lambda job: job.size or 0)[-consumer.fetching.parallel :]
    batch.check_room(largest)
    done: list[Row] = []
    tile_tables = [pl.DataFrame(schema=slides_tiles.MANIFEST_SCHEMA)]
    feature_tables = [pl.DataFrame(schema=extract.MANIFEST_SCHEMA)]
    with closing(_arriving(rows, consumer.get, consumer.fetching.parallel)) as arriving:
        for row, found in arriving:
            tiled, made = consumer.digest(found, schema)
            consumer.discard(row)
            tile_tables.append(tiled)
            feature_tables.append(made)
            done.append(found | {"path": row["path"]})
            log.info("consume: %d of %d slides", len(done), len(rows))
    write_parquet(download.as_table(done, schema), consumer.manifests.slides)
    write_parquet(pl.concat(tile_tables), consumer.manifests.tiles)
    write_parquet(pl.concat(feature_tables), consumer.manifests.features)


def _arriving(
    rows: Sequence[Row], get: Callable[[Row, threading.Event], Row], most: int
) -> Generator[tuple[Row, Row]]:
    """Rows in order, got ahead of time; never more than `most` got and not yet worked on."""
    with ThreadPoolExecutor(most) as pool:
        flying: deque[tuple[Row, Future[Row]]] = deque()
        stopped = threading.Event()
        try:
            for row in rows:
                flying.append((row, pool.submit(get, row, stopped)))
                if len(flying) == most:
                    first, future = flying.popleft()
                    yield first, future.result()
            while flying:
                first, future = flying.popleft()
                yield first, future.result()
        finally:
            stopped.set()  # Ctrl-C would otherwise wait until these slides are whole.
            for _, future in flying:
                future.cancel()
