"""Streaming of slides through download, tiles and features, for disks too small for all slides.

Each downloaded slide is deleted as soon as its features exist, before the next one is processed.
The three stages run unchanged on one slide at a time, so their tables and files equal those of
three jobs. The user's own slides are never deleted.
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

from slide2rna.core.files import read_record, write_json
from slide2rna.core.log import log
from slide2rna.core.rows import CheckedSlideRow, SlideRow
from slide2rna.core.settings import TilesSettings
from slide2rna.features import extract
from slide2rna.features.feature_file import read_attributes
from slide2rna.features.registry import Encoder
from slide2rna.slides import download
from slide2rna.slides import tiles as slides_tiles
from slide2rna.slides.download import MeasuredFiles
from slide2rna.storage import parquet
from slide2rna.transfer import batch, client, resumable


@dataclass(frozen=True)
class ShardManifests:
    """Paths of the three stages' tables; each slide's files are next to them."""

    slides: Path
    tiles: Path
    features: Path


@dataclass(frozen=True)
class SlideStreamer:
    """Work on one slide at a time: fetch it, tile and encode it, delete it."""

    manifests: ShardManifests
    tile_settings: TilesSettings
    encoder: Encoder
    seed: int
    threads: int
    server_settings: client.ServerSettings
    folder: Path = Path()

    @property
    def files(self) -> Path:
        return self.manifests.slides.parent / "files"

    def record_path(self, row: SlideRow) -> Path:
        return self.manifests.slides.parent / "records" / f"{row['slide_id']}.json"

    def finished_row(self, row: SlideRow) -> CheckedSlideRow | None:
        """Return the slide's row of the last run, if its tiles and features are up to date."""
        record_path, folder = self.record_path(row), self.manifests.tiles.parent
        checked: Any = read_record(record_path)
        if not checked or any(
            checked.get(name) != value for name, value in row.items() if value is not None
        ):
            return None
        tiles_row = slides_tiles.cached_row(checked, folder, self.tile_settings, self.seed)
        if tiles_row is None:
            return None
        table = parquet.read(folder / f"{row['slide_id']}.parquet")
        attributes = read_attributes(self.manifests.features.parent / f"{row['slide_id']}.h5")
        key = extract.slide_key(checked, tiles_row["mpp"], table, self.encoder, self.tile_settings)
        return checked if attributes.get("key") == key else None

    def fetch(self, row: SlideRow, stopped: threading.Event) -> CheckedSlideRow:
        """Fetch or check one slide; a finished slide isn't fetched again."""
        remote = download.download_job(row, self.files) is not None
        if remote and (finished := self.finished_row(row)) is not None:
            return finished
        records = MeasuredFiles() if remote else MeasuredFiles(self.files.parent / "measured")
        (checked,) = download.fetch_slides(
            [row], self.files, self.server_settings, stopped, records, self.folder
        )
        if remote and checked["status"] == "ok":
            write_json(checked, self.record_path(row))
        return checked

    def tile_and_encode(
        self, row: CheckedSlideRow, schema: dict[str, Any]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Tile and encode one slide; return its rows of the tables of tiles and features."""
        manifests = self.manifests
        with tempfile.TemporaryDirectory() as name:
            shard, tiles, features = (Path(name) / part for part in ("slides", "tiles", "features"))
            parquet.write(download.checked_table([row], schema), shard)
            tile_rows = slides_tiles.tile_shard(
                shard, manifests.tiles.parent, tiles, self.tile_settings, self.seed, self.folder
            )
            feature_rows = extract.extract_shard(
                shard,
                manifests.tiles.parent,
                tiles,
                manifests.features.parent,
                features,
                self.encoder,
                self.tile_settings,
                self.threads,
                self.folder,
            )
        return tile_rows, feature_rows

    def discard(self, row: SlideRow) -> None:
        """Delete a slide's download, whole or partial."""
        if job := download.download_job(row, self.files):
            job.dest.unlink(missing_ok=True)
            resumable.partial_of(job.dest).unlink(missing_ok=True)


def stream_shard(slides_path: Path, shard: int, shards: int, streamer: SlideStreamer) -> None:
    """Turn a shard of slides.parquet into tiles and features, and write the three manifests.

    At most `server_settings.parallel` downloaded slides are on disk at any moment; the next slides
    are downloaded while one is processed. A rerun continues with the next slide. The path of a
    downloaded slide is null, since the file is deleted.

    Raises
    ------
    DownloadError
        The disk has no room for as many of the largest slides; nothing was fetched.
    """
    slides = parquet.read(slides_path)
    rows = download.shard_rows(slides, shard, shards)
    schema = dict(slides.schema)
    missing = [row for row in rows if streamer.finished_row(row) is None]
    jobs = [job for row in missing if (job := download.download_job(row, streamer.files))]
    largest = sorted(jobs, key=lambda job: job.size or 0)[-streamer.server_settings.parallel :]
    batch.check_room(largest)
    done: list[CheckedSlideRow] = []
    tile_tables = [pl.DataFrame(schema=slides_tiles.MANIFEST_SCHEMA)]
    feature_tables = [pl.DataFrame(schema=extract.MANIFEST_SCHEMA)]
    most = streamer.server_settings.parallel
    with closing(_fetch_ahead(rows, streamer.fetch, most)) as arriving:
        for row, checked in arriving:
            tile_rows, feature_rows = streamer.tile_and_encode(checked, schema)
            streamer.discard(row)
            tile_tables.append(tile_rows)
            feature_tables.append(feature_rows)
            done.append(checked | {"path": row["path"]})
            log.info("consume: %d of %d slides", len(done), len(rows))
    parquet.write(download.checked_table(done, schema), streamer.manifests.slides)
    parquet.write(pl.concat(tile_tables), streamer.manifests.tiles)
    parquet.write(pl.concat(feature_tables), streamer.manifests.features)


def _fetch_ahead(
    rows: Sequence[SlideRow],
    fetch: Callable[[SlideRow, threading.Event], CheckedSlideRow],
    most: int,
) -> Generator[tuple[SlideRow, CheckedSlideRow]]:
    """Yield rows in order, fetched ahead; at most `most` are fetched and not yet processed."""
    with ThreadPoolExecutor(most) as pool:
        in_flight: deque[tuple[SlideRow, Future[CheckedSlideRow]]] = deque()
        stopped = threading.Event()
        try:
            for row in rows:
                in_flight.append((row, pool.submit(fetch, row, stopped)))
                if len(in_flight) == most:
                    first, future = in_flight.popleft()
                    yield first, future.result()
            while in_flight:
                first, future = in_flight.popleft()
                yield first, future.result()
        finally:
            stopped.set()  # Ctrl-C would otherwise wait until these slides are whole.
            for _, future in in_flight:
                future.cancel()
