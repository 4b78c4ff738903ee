"""Picture of a slide's tiles on its overview, for people."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.segmentation import find_boundaries

THUMBNAIL_PX = 1400


class TilesOfSlide(Protocol):
    """Tiles of a slide with their overview, as `slides.tiles.Tiling` has them."""

    @property
    def table(self) -> pl.DataFrame: ...
    @property
    def overview(self) -> np.ndarray: ...
    @property
    def mask(self) -> np.ndarray: ...
    @property
    def downsample(self) -> float: ...


def draw(tiling: TilesOfSlide) -> Image.Image:
    """Draw the overview with the mask's outline in green and the chosen tiles in blue."""
    image = Image.fromarray(tiling.overview)
    scale = min(1.0, THUMBNAIL_PX / max(image.size))
    grow = max(1, min(8, int(500 / max(image.size)) + 1)) if scale == 1 else 1
    size = (max(1, round(image.width * scale * grow)), max(1, round(image.height * scale * grow)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    mask = np.asarray(Image.fromarray(tiling.mask).resize(size, Image.Resampling.NEAREST))
    per_px = size[0] / tiling.overview.shape[1] / tiling.downsample
    tint = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(tint)
    for x, y, edge in tiling.table.select("x", "y", "size").iter_rows():
        box = [x * per_px, y * per_px, (x + edge) * per_px - 1, (y + edge) * per_px - 1]
        pen.rectangle(box, fill=(30, 90, 200, 40), outline=(30, 90, 200, 150))
    image = Image.alpha_composite(image.convert("RGBA"), tint).convert("RGB")
    pixels = np.asarray(image).copy()
    pixels[ndimage.binary_dilation(find_boundaries(mask, mode="inner"))] = (20, 140, 60)
    return Image.fromarray(pixels)
