"""Features of a shard's slides, as h5 files in the layout of TRIDENT, CLAM and STAMP.

One process loads the encoder once for all slides of a shard. Batches never span slides and always
hold the same tiles, so results depend neither on the shard nor on timing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import STEP_VERSIONS
from slide2rna.core.errors import SlideError, StageError
from slide2rna.core.log import log, progress
from slide2rna.core.rows import CheckedSlideRow, FeaturesRow
from slide2rna.core.settings import TilesSettings
from slide2rna.core.types import Mpp
from slide2rna.features.encode import Meter, extract
from slide2rna.features.feature_file import read_attributes, write
from slide2rna.features.registry import Encoder
from slide2rna.slides.failures import check_lost, within_memory
from slide2rna.slides.identity import check_unchanged, checked_slides, has_changed
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import fingerprint
from slide2rna.storage import parquet

MANIFEST_SCHEMA = {
    "slide_id": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "n_tiles": pl.Int64,
    "n_rejected": pl.Int64,
    "dim": pl.Int64,
}


def slide_key(
    row: CheckedSlideRow,
    mpp: Mpp | None,
    table: pl.DataFrame,
    encoder: Encoder,
    tile_settings: TilesSettings,
) -> str:
    """Return the fingerprint of everything that a slide's features depend on."""
    return fingerprint(
        STEP_VERSIONS["features"],
        encoder.identity,
        row["md5"] or row["size"],
        mpp,
        json.dumps([tile_settings["tile_px"], tile_settings["min_contrast"]]),
        fingerprint(table.write_csv()),
    )


def extract_shard(
    shard: Path,
    tiles: Path,
    tiles_manifest: Path,
    out: Path,
    manifest: Path,
    encoder: Encoder,
    tile_settings: TilesSettings,
    threads: int,
    folder: Path = Path(),
) -> pl.DataFrame:
    """Extract the features of a shard's slides; slides that failed earlier keep their reason.

    Writes <slide_id>.h5 per slide to `out`, and the manifest last. A file from the same tiles and
    the same encoder is reused.

    Raises
    ------
    StageError
        A slide vanished or changed after the check; the other slides are done.
    """
    slides: dict[str, Any] = {row["slide_id"]: row for row in checked_slides(shard, folder)}
    tiled = parquet.read(tiles_manifest).sort("slide_id")
    if set(tiled["slide_id"]) != set(slides):
        raise StageError(
            tiles_manifest, f"its slides aren't those of {shard}", "rerun the stage tiles"
        )
    rows, meter = [], Meter()
    cached, lost = list[str](), list[str]()

    def extract_slide(slide_id: str, mpp: Mpp) -> FeaturesRow:
        table = parquet.read(tiles / f"{slide_id}.parquet", remedy="rerun the stage tiles")
        row, target = slides[slide_id], out / f"{slide_id}.h5"
        key = slide_key(row, mpp, table, encoder, tile_settings)
        attributes = read_attributes(target)
        if attributes.get("key") != key:
            check_unchanged(row)
            with open_slide(row["path"], row["mpp"]) as slide:
                features = extract(slide, table, encoder, tile_settings, threads, meter)
            attributes = {
                "encoder": encoder.name,
                "mpp": tile_settings["mpp"],
                "tile_px": tile_settings["tile_px"],
                "version": STEP_VERSIONS["features"],
                "n_rejected": table.height - len(features.coords),
                "n_tiles": len(features.coords),
                "key": key,
            }
            write(target, features, attributes)
        else:
            cached.append(slide_id)
        return ok_row(slide_id, attributes["n_tiles"], attributes["n_rejected"], encoder.dim)

    for row in progress(tiled.iter_rows(named=True), "features", tiled.height):
        if row["status"] != "ok":
            rows.append(failed_row(row["slide_id"], row["reason"]))
            continue
        try:
            with within_memory(row["slide_id"]):
                rows.append(extract_slide(row["slide_id"], row["mpp"]))
        except SlideError as error:
            log.warning("%s failed: %s", row["slide_id"], error)
            rows.append(failed_row(row["slide_id"], error.reason))
            lost += [row["slide_id"]] * has_changed(slides[row["slide_id"]])
    check_lost(shard, lost)
    log.info("features: %s", meter.text(threads if encoder.parallel else 1))
    log.info("features: %d of %d slides were up to date", len(cached), len(rows))
    return write_manifest(rows, manifest)


def ok_row(slide_id: str, n_tiles: int, n_rejected: int, dim: int) -> FeaturesRow:
    return {
        "slide_id": slide_id,
        "status": "ok",
        "reason": None,
        "n_tiles": int(n_tiles),
        "n_rejected": int(n_rejected),
        "dim": int(dim),
    }


def failed_row(slide_id: str, reason: str) -> FeaturesRow:
    return {
        "slide_id": slide_id,
        "status": "failed",
        "reason": reason,
        "n_tiles": None,
        "n_rejected": None,
        "dim": None,
    }


def write_manifest(rows: list[FeaturesRow], manifest: Path) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema=MANIFEST_SCHEMA)
    parquet.write(table, manifest)
    return table
