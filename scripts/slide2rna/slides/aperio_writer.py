"""Aperio writer: pyramidal TIFFs (.svs) that OpenSlide opens with vendor, mpp and power.

The layout follows https://openslide.org/formats/aperio/: full resolution in tiles first, a stripped
thumbnail second, then the lower levels in tiles. The description carries AppMag and MPP.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from slide2rna.core import files
from slide2rna.core.types import Mpp

TILE_PX = 256
THUMBNAIL_PX = 768


def write(
    path: str | Path,
    rgb: NDArray[np.uint8],
    *,
    mpp: Mpp | None = 0.5,
    power: float | None = 20,
    factors: Sequence[int] = (4, 16),
    quality: int = 80,
) -> None:
    """Write an image as an Aperio slide, atomically; the same image gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Path that ends in .svs or .tif.
    rgb : uint8 array (height, width, 3)
        Full resolution.
    mpp : float or None
        Micrometres per pixel; None omits it, as some scanners' exports do.
    power : float or None
        Objective magnification (AppMag); None omits it.
    factors : sequence of int
        Downsampling of the lower levels. A level with a side under 64 px is not written.
    quality : int
        JPEG quality.
    """
    height, width = rgb.shape[:2]
    head = f"Aperio Image Library v12.0.15\n{width}x{height}"
    grid = f"[0,0 {width}x{height}] ({TILE_PX}x{TILE_PX})"
    tail = "" if power is None else f"|AppMag = {power:g}"
    tail += "" if mpp is None else f"|MPP = {mpp:g}"
    jpeg: dict[str, Any] = {
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": quality},
        "metadata": None,  # otherwise tifffile adds its own description
        "software": False,
        "maxworkers": 1,
    }
    tiled = jpeg | {"tile": (TILE_PX, TILE_PX), "subsampling": (2, 2)}
    if mpp is not None:
        tiled |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    image = Image.fromarray(rgb)
    with files.atomic(path) as partial, tifffile.TiffWriter(partial) as writer:
        writer.write(rgb, description=f"{head} {grid} JPEG/RGB Q={quality}{tail}", **tiled)
        thumbnail = image.copy()
        thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
        writer.write(
            np.asarray(thumbnail),
            description=f"{head} -> {thumbnail.width}x{thumbnail.height} - {tail}",
            rowsperstrip=16,
            **jpeg,
        )
        for factor in factors:
            level = np.asarray(image.reduce(factor))
            if min(level.shape[:2]) < 64:
                break
            writer.write(
                level,
                description=f"{head} {grid} -> {level.shape[1]}x{level.shape[0]} JPEG/RGB "
                f"Q={quality}{tail}",
                **(tiled | {"resolution": None} if mpp is not None else tiled),
            )
