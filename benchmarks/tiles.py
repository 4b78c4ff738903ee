"""Tiling from the overview against the published way: read every level-0 tile, then filter."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import tempfile
from pathlib import Path

import common
import numpy as np
from slide2rna.core import config
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tiles import tile_slide
from slide_factory import picture, write_slide

EDGE_PX, TILE_PX = 8192, 256


def main() -> None:
    settings = config.defaults("tiles")
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.tile(picture(2048, 2048), (4, 4, 1))
        path = write_slide(Path(folder) / "slide.svs", pixels)
        del pixels

        def ours() -> int:
            with open_slide(path) as slide:
                return tile_slide(slide, settings, 1, "slide").table.height

        def published() -> int:
            kept = 0
            with open_slide(path) as slide:
                for y in range(0, EDGE_PX, TILE_PX):
                    for x in range(0, EDGE_PX, TILE_PX):
                        tile = slide.read(x, y, 0, TILE_PX, TILE_PX)
                        background = np.asarray(tile).min(2) > 220
                        grey = np.asarray(tile.convert("L"))
                        flat = np.subtract(*np.percentile(grey, [98, 2])) / 255
                        kept += bool(
                            background.mean() <= settings["max_background"]
                            and flat >= settings["min_contrast"]
                        )
            return kept

        both = ours(), published()
        if abs(both[0] - both[1]) > 0.1 * both[1]:
            raise SystemExit(
                f"the two ways keep {both[0]} and {both[1]} tiles, so the comparison is not fair"
            )
        result = common.compare(
            "tiling",
            ours,
            published,
            "every level-0 tile read, then filtered; same slide, one process",
            5,
            work=(EDGE_PX // TILE_PX) ** 2,
            unit="tiles/s",
        )
    common.finish([result])


if __name__ == "__main__":
    main()
