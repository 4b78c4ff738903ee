"""Small slides for tests, good and broken, in the layout that Aperio scanners write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import tifffile
from scipy import ndimage

GLASS, EOSIN, NUCLEI = (243, 242, 244), (228, 160, 195), (110, 70, 150)
PENS = {"blue": (30, 60, 190), "green": (20, 140, 70), "black": (25, 25, 30)}


def picture(
    width: int = 2048,
    height: int = 2048,
    tissue: bool = True,
    pen: str | None = None,
    seed: int = 0,
) -> np.ndarray:
    """RGB pixels: an ellipse of textured tissue on glass, and perhaps a stroke of ink."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((height, width)).astype(np.float32), 2)
    noise /= noise.std()
    image = np.empty((height, width, 3), np.float32)
    image[:] = GLASS
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    if tissue:
        nuclei = inside & (noise > 1.2)
        image[inside] = EOSIN
        image[nuclei] = NUCLEI
        image[inside] += 8 * noise[inside][:, None]
    if pen:
        image[height // 16 : height // 8, width // 4 : width // 4 * 3] = PENS[pen]
    image += rng.standard_normal((height, width, 1)) * 1.5
    return np.clip(image, 0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    pixels: np.ndarray,
    mpp: float | str | None = 0.5,
    power: float | None = 20,
    downsamples: tuple[int, ...] = (1, 4, 16),
) -> Path:
    """Write pixels as a pyramidal, tiled JPEG TIFF with an Aperio description."""
    height, width = pixels.shape[:2]
    head = f"Aperio Image Library v12.0.15\n{width}x{height}"
    tags = "".join(
        f"|{name} = {value}"
        for name, value in (("AppMag", power), ("MPP", mpp))
        if value is not None
    )
    options = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "maxworkers": 1}
    options |= {"compressionargs": {"level": 85}, "tile": (256, 256)}
    with tifffile.TiffWriter(path) as tif:
        for downsample in downsamples:
            h, w = height // downsample, width // downsample
            small = pixels[: h * downsample, : w * downsample]
            small = small.reshape(h, downsample, w, downsample, 3).mean((1, 3))
            shape = "" if downsample == 1 else f" -> {w}x{h}"
            tif.write(
                small.astype(np.uint8),
                description=f"{head} [0,0 {width}x{height}] (256x256){shape} JPEG/RGB Q=85{tags}",
                **options,
            )
            if downsample == 1:  # Aperio's second page is a stripped thumbnail
                step = max(1, width // 256)
                tif.write(
                    np.ascontiguousarray(pixels[::step, ::step]),
                    description=f"{head} -> thumbnail",
                    photometric="rgb",
                    compression="jpeg",
                    metadata=None,
                    rowsperstrip=16,
                )
    return path


def corrupt_tile(path: Path, index: int) -> Path:
    """Overwrite the data of one level-0 tile, as a broken copy does."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with open(path, "r+b") as handle:
        handle.seek(offset)
        handle.write(b"\xff\xd8\xff\xc4" + b"\x00" * (count - 4))
    return path


def break_header(path: Path) -> Path:
    """Overwrite the first bytes, so that nothing knows the file."""
    with open(path, "r+b") as handle:
        handle.write(b"\x00" * 16)
    return path


def shard(path: Path, slides: dict[str, Path | None], **columns: list[object]) -> Path:
    """Write a shard's slides table as the download stage leaves it."""
    count = len(slides)
    table = {
        "slide_id": list(slides),
        "patient_id": list(slides),
        "sample_id": list(slides),
        "unit": list(slides),
        "site": [None] * count,
        "path": [None if file is None else str(file) for file in slides.values()],
        "url": [None] * count,
        "md5": [f"md5 of {name}" for name in slides],
        "size": [1] * count,
        "mpp": [None] * count,
        "area": [None] * count,
        "status": ["ok"] * count,
        "reason": [None] * count,
    } | columns
    schema = {"mpp": pl.Float64, "area": pl.String, "reason": pl.String, "path": pl.String}
    pl.DataFrame(table, schema_overrides=schema).write_parquet(path)
    return path
