"""Tiles: coordinates of the non-overlapping squares that cover a slide's tissue.

All decisions use an overview at about 8 um/px, so that no level-0 tile is read if the slide has
coarser levels. Coordinates are level-0 pixels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from scipy import ndimage
from skimage.measure import points_in_poly

from slide2rna import STEP_VERSIONS
from slide2rna.core.errors import SlideError
from slide2rna.core.files import atomic, read_record, write_json
from slide2rna.core.log import log, progress
from slide2rna.core.rows import CheckedSlideRow, TilesRow
from slide2rna.core.seeds import rng_for
from slide2rna.core.settings import TilesSettings
from slide2rna.slides.area import parse_area
from slide2rna.slides.failures import check_lost, within_memory
from slide2rna.slides.identity import check_unchanged, checked_slides, has_changed
from slide2rna.slides.reader import Slide, open_slide
from slide2rna.slides.tile_picture import draw
from slide2rna.slides.tissue import tissue_mask
from slide2rna.storage import parquet

GIVE_AREA = "give [[x, y], ...]"
TILE_SCHEMA = {"x": pl.Int64, "y": pl.Int64, "level": pl.Int64, "size": pl.Int64}
MANIFEST_SCHEMA = {
    "slide_id": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "mpp": pl.Float64,
    "mpp_source": pl.String,
    "mpp_note": pl.String,
    "power": pl.Float64,
    "vendor": pl.String,
    "width_px": pl.Int64,
    "height_px": pl.Int64,
    "n_candidates": pl.Int64,
    "n_tissue": pl.Int64,
    "n_tiles": pl.Int64,
}


@dataclass(frozen=True)
class Tiling:
    """Tiles of one slide, with the overview and mask that they were chosen on.

    Attributes
    ----------
    table : x, y, level, size, tissue; sorted by (y, x).
    overview : (h, w, 3) uint8.
    mask : (h, w) bool.
    downsample : level-0 px per overview px.
    n_candidates, n_tissue : tiles of the grid (within the area), and those with enough tissue and
        contrast.
    """

    table: pl.DataFrame
    overview: np.ndarray
    mask: np.ndarray
    downsample: float
    n_candidates: int
    n_tissue: int


def tile_slide(
    slide: Slide, settings: TilesSettings, seed: int, slide_id: str, area: str | None = None
) -> Tiling:
    """Lay the grid, drop background and low-contrast tiles, sample at most `max_tiles`.

    Parameters
    ----------
    seed : int
        The run's seed; each slide has its own random stream.
    area : str, optional
        JSON list of [x, y], a polygon in level-0 px; a tile counts if its centre lies inside.

    Raises
    ------
    SlideError
        Fewer than `min_tiles` remain, or the overview can't be read.
    """
    rgb, downsample = slide.overview(settings["mask_um_px"])
    mask = tissue_mask(rgb, slide.mpp * downsample)
    target = settings["mpp"] / slide.mpp
    size = max(1, round(settings["tile_px"] * target))
    columns, rows = (edge // size for edge in slide.size)
    y, x = (axis.ravel() * size for axis in np.mgrid[:rows, :columns])
    if area is not None:
        centres = np.stack([x + size / 2, y + size / 2], 1)
        if (corners := parse_area(area)) is None:
            raise SlideError(slide_id, f"its area {area[:60]} isn't a polygon", GIVE_AREA)
        inside = points_in_poly(centres, corners)
        x, y = x[inside], y[inside]
    n_candidates = len(x)
    tissue = box_means(mask, x / downsample, y / downsample, size / downsample)
    chosen = np.flatnonzero(tissue >= 1 - settings["max_background"])
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    span = _contrast(grey, x[chosen] / downsample, y[chosen] / downsample, size / downsample)
    chosen = chosen[span >= settings["min_contrast"]]
    n_tissue = len(chosen)
    if n_tissue < settings["min_tiles"]:
        raise SlideError(
            slide.path,
            f"too little tissue: {n_tissue} of {n_candidates} tiles have it",
            f"leave the slide out, or lower tiles.min_tiles ({settings['min_tiles']})",
        )
    if n_tissue > settings["max_tiles"]:
        rng = rng_for(seed, "tiles", slide_id)
        chosen = np.sort(rng.choice(chosen, settings["max_tiles"], replace=False))
    table = pl.DataFrame(
        {
            "x": x[chosen],
            "y": y[chosen],
            "level": np.full(len(chosen), slide.level_for(target)),
            "size": np.full(len(chosen), size),
        },
        schema=TILE_SCHEMA,
    ).with_columns(pl.Series("tissue", tissue[chosen], dtype=pl.Float32))
    return Tiling(table.sort("y", "x"), rgb, mask, downsample, n_candidates, n_tissue)


def box_means(image: np.ndarray, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the mean of an image over squares with fractional corners, weighted by area.

    A summed-area table, interpolated linearly between pixel corners, gives exact means.

    Parameters
    ----------
    image : ndarray, shape (h, w)
    x, y : ndarray, shape (n,)
        Top left corners in px; pixels outside the image count as 0.
    edge : float
        Edge of the squares in px.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    table = np.pad(image.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def corner(cx: np.ndarray, cy: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(table, [cy, cx], order=1, mode="nearest")

    right, bottom = x + edge, y + edge
    total = corner(right, bottom) - corner(x, bottom) - corner(right, y) + corner(x, y)
    return np.clip(total / edge**2, 0, 1)


def _contrast(grey: np.ndarray, x: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    """Return the span from the 2nd to the 98th percentile of each tile's grey values, 0 to 1."""
    pixels = max(1, int(edge))
    step = np.arange(pixels)
    spans = [np.empty(0)]
    for part in np.array_split(np.arange(len(x)), max(1, len(x) * pixels**2 // 4_000_000)):
        rows = np.minimum(y[part].astype(int)[:, None] + step, grey.shape[0] - 1)
        columns = np.minimum(x[part].astype(int)[:, None] + step, grey.shape[1] - 1)
        values = grey[rows[:, :, None], columns[:, None, :]].reshape(len(part), pixels**2)
        values.sort(1)
        low, high = (round(q * (values.shape[1] - 1)) for q in (0.02, 0.98))
        spans.append((values[:, high].astype(float) - values[:, low]) / 255)
    return np.concatenate(spans)


def fingerprint(*parts: object) -> str:
    """Return a short hash of everything that a result depends on, to reuse it in a rerun."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def slide_key(row: CheckedSlideRow, settings: TilesSettings, seed: int) -> str:
    """Return the fingerprint of everything that a slide's tiles depend on."""
    return fingerprint(
        STEP_VERSIONS["tiles"],
        row["slide_id"],
        row["md5"] or row["size"],
        row["mpp"],
        row["area"],
        json.dumps(settings, sort_keys=True),
        seed,
    )


def tile_shard(
    shard: Path,
    out: Path,
    manifest: Path,
    settings: TilesSettings,
    seed: int,
    folder: Path = Path(),
) -> pl.DataFrame:
    """Tile the slides of a shard; a slide's tiles from the same inputs are reused.

    Writes a table, a mask, an overview and a small record per slide to `out`, and the manifest
    last. A failed slide is listed there; the others continue.

    Raises
    ------
    StageError
        A slide has vanished or changed since it was checked; the others are done.
    """
    rows: list[TilesRow | dict[str, Any]] = []
    n_cached, lost = 0, list[str]()
    for row in progress(checked_slides(shard, folder), "tiles"):
        failed = {"slide_id": row["slide_id"], "status": "failed"}
        if row["status"] != "ok":
            rows.append(failed | {"reason": row["reason"]})
            continue
        try:
            if (cached := cached_row(row, out, settings, seed)) is not None:
                n_cached += 1
            with within_memory(row["slide_id"]):
                rows.append(cached or _tile_to_files(row, out, settings, seed))
        except SlideError as error:
            log.warning("%s failed: %s", row["slide_id"], error)
            rows.append(failed | {"reason": error.reason})
            lost += [row["slide_id"]] * has_changed(row)
    check_lost(shard, lost)
    table = pl.DataFrame(rows, schema=MANIFEST_SCHEMA)
    parquet.write(table, manifest)
    log.info("tiles: %d of %d slides were up to date", n_cached, table.height)
    return table


def cached_row(
    row: CheckedSlideRow, out: Path, settings: TilesSettings, seed: int
) -> TilesRow | None:
    """Return a slide's row of the manifest if its files are intact and of the same inputs."""
    name = row["slide_id"]
    files = [out / f"{name}{suffix}" for suffix in (".json", ".parquet", ".mask.png", ".jpg")]
    if not all(file.is_file() for file in files) or not parquet.is_intact(files[1]):
        return None
    record = read_record(files[0])
    return record["row"] if record.get("key") == slide_key(row, settings, seed) else None


def _tile_to_files(row: CheckedSlideRow, out: Path, settings: TilesSettings, seed: int) -> TilesRow:
    """Tile one slide, write its files and return its row of the manifest."""
    name, key = row["slide_id"], slide_key(row, settings, seed)
    if row["path"] is None:
        raise SlideError(name, "the slide file is missing", "use encoder: files, or give the path")
    check_unchanged(row)
    with open_slide(row["path"], row["mpp"]) as slide:
        tiling = tile_slide(slide, settings, seed, name, row["area"])
        result: TilesRow = {
            "slide_id": name,
            "status": "ok",
            "reason": None,
            "mpp": slide.mpp,
            "mpp_source": slide.resolution.source,
            "mpp_note": slide.resolution.note,
            "power": slide.power,
            "vendor": slide.vendor,
            "width_px": slide.size[0],
            "height_px": slide.size[1],
            "n_candidates": tiling.n_candidates,
            "n_tissue": tiling.n_tissue,
            "n_tiles": tiling.table.height,
        }
    parquet.write(tiling.table, out / f"{name}.parquet")
    with atomic(out / f"{name}.mask.png") as partial:
        Image.fromarray(tiling.mask).save(partial, optimize=True)
    with atomic(out / f"{name}.jpg") as partial:
        draw(tiling).save(partial, quality=85)
    # Last: it certifies the other three.
    write_json({"key": key, "row": result}, out / f"{name}.json")
    return result
