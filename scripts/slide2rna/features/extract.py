"""Feature vectors of a slide's tiles, as h5 files in the layout of TRIDENT, CLAM and STAMP.

One process loads the encoder once for all slides of a shard. Batches never span slides and are
always made of the same tiles, so results depend neither on the shard nor on timing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import STEP_VERSIONS
from slide2rna.core.config import Settings
from slide2rna.core.errors import SlideError, StageError
from slide2rna.core.files import write_parquet
from slide2rna.core.log import log, progress
from slide2rna.features.encode import Meter, extract
from slide2rna.features.feature_file import attributes_of, read, write
from slide2rna.features.registry import Encoder
from slide2rna.slides.failures import stop_if_lost, was_lost
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import fingerprint

MANIFEST_SCHEMA = {
    "slide_id": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "n_tiles": pl.Int64,
    "n_rejected": pl.Int64,
    "dim": pl.Int64,
}


def slide_key(
    row: dict[str, Any], mpp: float, table: pl.DataFrame, encoder: Encoder, tile_settings: Settings
) -> str:
    """Fingerprint of everything that a slide's features depend on."""
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
    tile_settings: Settings,
    threads: int,
) -> pl.DataFrame:
    """Features of a shard's slides; those that failed before are repeated with their reason.

    Leaves <slide_id>.h5 per slide in `out`, and the manifest last of all. A file made from the
    same tiles by the same encoder is kept.

    Raises
    ------
    StageError
        A slide is gone since it was checked; the others are done.
    """
    paths = {row["slide_id"]: row for row in pl.read_parquet(shard).iter_rows(named=True)}
    tiled = pl.read_parquet(tiles_manifest).sort("slide_id")
    if set(tiled["slide_id"]) != set(paths):
        raise StageError(tiles_manifest, f"its slides aren't those of {shard}", "run tiles again")
    rows, meter = [], Meter()
    kept, lost = list[str](), list[str]()

    def one(slide_id: str, mpp: float) -> dict[str, Any]:
        table = pl.read_parquet(tiles / f"{slide_id}.parquet")
        row, target = paths[slide_id], out / f"{slide_id}.h5"
        key = slide_key(row, mpp, table, encoder, tile_settings)
        known = attributes_of(target)
        if known.get("key") != key:
            with open_slide(row["path"], row["mpp"]) as slide:
                found = extract(slide, table, encoder, tile_settings, threads, meter)
            known = {
                "encoder": encoder.name,
                "mpp": tile_settings["mpp"],
                "tile_px": tile_settings["tile_px"],
                "version": STEP_VERSIONS["features"],
                "n_rejected": table.height - len(found.coords),
                "n_tiles": len(found.coords),
                "key": key,
            }
            write(target, found, known)
        else:
            kept.append(slide_id)
        return _ok(slide_id, known["n_tiles"], known["n_rejected"], encoder.dim)

    for row in progress(tiled.iter_rows(named=True), "features", tiled.height):
        if row["status"] != "ok":
            rows.append(_failed(row["slide_id"], row["reason"]))
            continue
        try:
            rows.append(one(row["slide_id"], row["mpp"]))
        except SlideError as error:
            log.warning("%s failed: %s", row["slide_id"], error)
            rows.append(_failed(row["slide_id"], error.reason))
            lost += [row["slide_id"]] * was_lost(paths[row["slide_id"]])
    stop_if_lost(shard, lost)
    log.info("features: %s", meter.text(threads if encoder.parallel else 1))
    log.info("features: %d of %d slides were here already", len(kept), len(rows))
    return _finish(rows, manifest)


def check_provided_features(shard: Path, source: Path, out: Path, manifest: Path) -> pl.DataFrame:
    """Encoder ``files``: check each slide's own h5 file and write it in this layout.

    Raises
    ------
    StageError
        The files' features don't have one common length, or name different encoders.
    """
    rows = []
    encoders: dict[str, str] = {}
    slides = pl.read_parquet(shard).sort("slide_id")
    for row in progress(slides.iter_rows(named=True), "features", slides.height):
        slide_id = row["slide_id"]
        if row["status"] != "ok":
            rows.append(_failed(slide_id, row["reason"]))
            continue
        try:
            path = source / f"{slide_id}.h5"
            found, theirs = read(path), attributes_of(path)
        except SlideError as error:
            log.warning("%s failed: %s", slide_id, error)
            rows.append(_failed(slide_id, error.reason))
            continue
        kept: dict[str, Any] = {key: theirs[key] for key in ("mpp", "tile_px") if key in theirs}
        if found.mpp is not None:
            kept["mpp"] = found.mpp
        if found.encoder is not None:
            kept["made_by"] = found.encoder
            encoders[found.encoder] = slide_id
        version = {"encoder": "files", "version": STEP_VERSIONS["features"]}
        write(out / f"{slide_id}.h5", found, kept | version)
        rows.append(_ok(slide_id, len(found.coords), 0, found.features.shape[1]))
    lengths = {row["dim"]: row["slide_id"] for row in rows if row["status"] == "ok"}
    if len(lengths) > 1:
        raise StageError(
            source,
            "features of different length: "
            + ", ".join(f"{name} has {dim}" for dim, name in sorted(lengths.items())),
            "use one encoder for all slides",
        )
    if len(encoders) > 1:
        raise StageError(
            source,
            "features of different encoders: "
            + ", ".join(f"{slide} is of {name}" for name, slide in sorted(encoders.items())),
            "use one encoder for all slides",
        )
    return _finish(rows, manifest)


def _ok(slide_id: str, n_tiles: int, n_rejected: int, dim: int) -> dict[str, Any]:
    counts = {"n_tiles": int(n_tiles), "n_rejected": int(n_rejected), "dim": int(dim)}
    return {"slide_id": slide_id, "status": "ok", "reason": None} | counts


def _failed(slide_id: str, reason: str) -> dict[str, Any]:
    return {"slide_id": slide_id, "status": "failed", "reason": reason}


def _finish(rows: list[dict[str, Any]], manifest: Path) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema=MANIFEST_SCHEMA)
    write_parquet(table, manifest)
    return table
