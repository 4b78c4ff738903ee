"""Windows that slide over a slide's tiles: a bag per window, and the windows over each tile.

SEQUOIA makes maps from a model of whole slides in the same way, with windows over the tile grid and
an average over all windows of a tile: Pizurica et al. 2024, doi:10.1038/s41467-024-54182-5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.errors import ConfigError, SlideError
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import BagsSettings
from slide2rna.core.types import Indices

# A quarter of a window's positions, which windows at borders and corners of the tissue reach.
LEAST_SHARE = 0.25


@dataclass(frozen=True)
class WindowShape:
    """Edge and step of windows in tiles, and the fewest tiles of a window."""

    # The names enter the key of maps.json, so renamed fields would recompute all maps.
    window: int
    stride: int
    least: int

    @classmethod
    def of(cls, window: int, stride: int, least: int | None = None) -> WindowShape:
        """Check the numbers; by default a window needs a quarter of its positions.

        Raises
        ------
        ConfigError
            A number is out of range.
        """
        quarter = max(1, round(LEAST_SHARE * window**2))
        shape = cls(window, stride, quarter if least is None else least)
        for name, value, top in (
            ("--window", window, 100),
            ("--stride", stride, window),
            ("--min-tiles", shape.least, window**2),
        ):
            if not 1 <= value <= top:
                raise ConfigError(name, f"{value} is out of range", f"give 1 to {top}")
        return shape


def grid_cells(coords: NDArray[np.int64], size: int, where: object = "maps") -> Indices:
    """Return column and row (n, 2) of each tile in the grid, by its top left corner in level-0 px.

    Raises
    ------
    SlideError
        Two tiles are in one cell: they overlap, and a window would count some tissue twice.
    """
    cells = np.round((coords - coords.min(axis=0)) / size).astype(np.int64)
    if len(np.unique(cells, axis=0)) < len(cells):
        cause = f"tiles of {size} px overlap"
        raise SlideError(where, cause, "give tiles on a grid without overlap")
    return cells


def sliding(cells: Indices, shape: WindowShape, where: object = "maps") -> list[Indices]:
    """Return the tiles of each window, as rows of `cells`; windows are in order of rows, columns.

    Windows overlap the border of the tissue, so that a tile there is in as many windows as any
    other. Windows with too few tiles are left out, and windows of the same tiles count once.

    Raises
    ------
    SlideError
        No window has enough tiles.
    """
    cells = cells - cells.min(axis=0)
    columns, rows = cells.max(axis=0) + 1
    margin = shape.window
    grid = np.full((rows + 2 * margin, columns + 2 * margin), -1, np.int64)
    grid[cells[:, 1] + margin, cells[:, 0] + margin] = np.arange(len(cells))
    first = margin - (shape.window - 1) // shape.stride * shape.stride
    windows: dict[bytes, Indices] = {}
    for top in range(first, rows + margin, shape.stride):
        for left in range(first, columns + margin, shape.stride):
            block = grid[top : top + shape.window, left : left + shape.window]
            tiles = block[block >= 0]
            if len(tiles) >= shape.least:
                windows.setdefault(tiles.tobytes(), tiles)
    if not windows:
        edge = f"{shape.window} x {shape.window}"
        cause = f"no window of {edge} tiles has {shape.least} of the {len(cells)} tiles"
        raise SlideError(where, cause, "lower --window or --min-tiles")
    return list(windows.values())


def cover(windows: list[Indices], tiles: int) -> sparse.csr_array:
    """Return membership of tiles in windows: 0/1 (tiles, windows)."""
    rows = np.concatenate(windows)
    columns = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    shape = (tiles, len(windows))
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def bag_blocks(
    features: NDArray[np.float32],
    windows: list[Indices],
    settings: BagsSettings,
    seed: int,
    block: int,
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield bags of the windows in blocks: slice of windows, means (b, k, d), sizes (b, k).

    Parameters
    ----------
    features
        (n, d) of the slide's tiles.
    settings
        Section `bags`. In a window of at most k tiles, each tile is a cluster.
    """
    from slide2rna.features import clusters  # loads FAISS

    k = settings["k"]
    for start in range(0, len(windows), block):
        part = windows[start : start + block]
        means = np.zeros((len(part), k, features.shape[1]), np.float32)
        sizes = np.zeros((len(part), k), np.float32)
        for row, tiles in enumerate(part):
            window_seed = seed_for(seed, "maps", int(tiles[0]), len(tiles))
            means[row], sizes[row] = clusters.bag(
                features[tiles], k, settings["iterations"], window_seed
            )
        yield slice(start, start + len(part)), means, sizes
