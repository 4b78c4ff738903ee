"""Figure of an expression map: H&E, mean and sd, with colour bars and a scale bar."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from PIL import Image

from slide2rna.core.types import Mpp, Um
from slide2rna.report.figures.style import INK, plt, styled
from slide2rna.slides.reader import Slide
from slide2rna.slides.tiles import Tiling

PICTURE_PX = 1200  # longer edge; more isn't visible at 150 dpi
READ_PX = 60_000_000
BAR_SHARE = 0.28  # largest share of the width
MARGIN_TILES = 1.5
WIDE = 1.7  # from this width over height on, panels are stacked
# Inches: largest panel, smallest figure, and the elements around the panels.
PANEL_WIDTH, PANEL_HEIGHT, STACKED_WIDTH, LEAST_WIDTH = 3.7, 6.5, 7.6, 8.0
PAD, PANEL_TITLE, BAR_WIDTH, BAR_ROOM = 0.15, 0.27, 0.2, 1.15
# Inches of a letter and a line of the title (13 points) and of the note (9 points).
TITLE_LETTER, TITLE_LINE, LETTER, LINE = 0.125, 0.27, 0.074, 0.17


@dataclass(frozen=True)
class Picture:
    """Image of the part of a slide that has tiles.

    Attributes
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
    box : left, right, bottom, top in level-0 px.
    mpp : um per level-0 px.
    """

    rgb: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    mpp: Mpp


def read_picture(slide: Slide, tiling: Tiling) -> Picture:
    """Read the part of a slide that has tiles, with a margin.

    The coarsest level with enough resolution is read. If that is too large, the overview of the
    tissue detection is used instead.
    """
    size = int(tiling.table["size"][0])
    margin = MARGIN_TILES * size
    x, y = (tiling.table[axis].to_numpy() for axis in ("x", "y"))
    left, top = (max(0, int(values.min() - margin)) for values in (x, y))
    right, bottom = (
        min(length, int(values.max() + size + margin))
        for length, values in zip(slide.size, (x, y), strict=True)
    )
    target = max(right - left, bottom - top) / PICTURE_PX
    level = slide.level_for(target)
    scale = slide.downsamples[level]
    width, height = (max(1, int(edge / scale)) for edge in (right - left, bottom - top))
    if target < tiling.downsample and width * height <= READ_PX:
        image = slide.read(left, top, level, width, height)
        box = (float(left), float(right), float(bottom), float(top))
    else:
        down = tiling.downsample
        rows = slice(int(top / down), int(bottom / down) + 1)
        columns = slice(int(left / down), int(right / down) + 1)
        image = Image.fromarray(tiling.overview[rows, columns])
        x0, y0 = columns.start * down, rows.start * down
        box = (x0, x0 + image.width * down, y0 + image.height * down, y0)
    image.thumbnail((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS)
    return Picture(np.asarray(image), box, slide.mpp)


def bar_length(width_um: Um) -> float:
    """Return the longest of 1, 2, 5 times a power of ten mm within `BAR_SHARE` of a width."""
    longest = width_um * BAR_SHARE / 1000
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))


@styled
def draw(
    picture: Picture,
    tiles: pl.DataFrame,
    title: str,
    note: str,
    unit: str,
    min_span: float = 0.0,
    sd_title: str = "sd",
) -> Figure:
    """Draw H&E, mean and sd of one gene or gene set, side by side, or stacked for a wide slide.

    Parameters
    ----------
    tiles
        x, y, size, mean, sd of one gene or gene set; a tile without a value shows faded tissue.
    title, note
        Above and below the panels; wrapped to the figure's width.
    unit
        Of the colour bars.
    min_span
        Smallest span of a colour scale, so that a flat map looks flat.
    """
    left, right, bottom, top = picture.box
    figure, panels, bars = _layout((right - left) / (bottom - top), title, note)
    panels[0].imshow(picture.rgb, extent=picture.box, interpolation="antialiased")
    panels[0].set_title("tissue")
    _scale_bar(panels[0], picture)
    for axis, bar, column, name, colours in (
        (panels[1], bars[0], "mean", "mean", "viridis"),
        (panels[2], bars[1], "sd", sd_title, "magma"),
    ):
        axis.imshow(faded(picture.rgb), extent=picture.box, interpolation="antialiased")
        grid, extent = raster(tiles, column)
        low, high = limits(grid.compressed(), min_span)
        image = axis.imshow(
            grid, extent=extent, cmap=colours, vmin=low, vmax=high, interpolation="nearest"
        )
        axis.set(xlim=(left, right), ylim=(bottom, top))
        axis.set_title(name)
        figure.colorbar(image, cax=bar, label=unit)
    for axis in panels:
        axis.set_axis_off()
        axis.grid(False)
    return figure


def _layout(ratio: float, title: str, note: str) -> tuple[Figure, list[Axes], list[Axes]]:
    """Lay out a figure with three panels of one aspect ratio, and colour bars for the last two.

    All sizes are in inches, for a tight fit: matplotlib's layouts leave empty bands if a panel is
    narrower than its share.
    """
    stacked = ratio > WIDE
    width = STACKED_WIDTH if stacked else min(PANEL_WIDTH, PANEL_HEIGHT * ratio)
    height = width / ratio
    full = 2 * PAD + (width + BAR_ROOM if stacked else 3 * width + 2 * BAR_ROOM + PAD)
    full = max(full, LEAST_WIDTH)
    lines = _wrapped(title, int(full / TITLE_LETTER)) + _wrapped(note, int(full / LETTER))
    heading = len(_wrapped(title, int(full / TITLE_LETTER)))
    above = PAD + heading * TITLE_LINE
    panel = PANEL_TITLE + height
    below = PAD + (len(lines) - heading) * LINE + PAD
    tall = above + (3 * panel + 2 * PAD if stacked else panel) + below
    figure = plt.figure(figsize=(full, tall), layout="none")

    def place(x: float, y: float, w: float, h: float) -> Axes:
        """Add axes by left, top, width and height in inches from the figure's top left."""
        return figure.add_axes((x / full, 1 - (y + h) / tall, w / full, h / tall))

    panels, bars = [], []
    for number in range(3):
        x = PAD + (0 if stacked else number * (width + PAD) + max(0, number - 1) * (BAR_ROOM - PAD))
        y = above + PANEL_TITLE + (number * (panel + PAD) if stacked else 0)
        panels.append(place(x, y, width, height))
        if number:
            bars.append(place(x + width + 0.1, y + 0.05 * height, BAR_WIDTH, 0.9 * height))
    common: Any = {"ha": "left", "va": "top", "color": INK}
    x = PAD / full
    head, foot = "\n".join(lines[:heading]), "\n".join(lines[heading:])
    figure.text(x, 1 - PAD / tall, head, fontsize=13, fontweight="bold", **common)
    figure.text(x, (below - PAD) / tall, foot, fontsize=9, linespacing=1.3, **common)
    return figure, panels, bars


def _wrapped(text: str, letters: int) -> list[str]:
    return [part for line in text.splitlines() for part in textwrap.wrap(line, letters) or [""]]


def raster(
    tiles: pl.DataFrame, column: str
) -> tuple[np.ma.MaskedArray, tuple[float, float, float, float]]:
    """Return an image with a pixel per tile, masked between tiles, and its extent (level-0 px)."""
    size = int(tiles["size"][0])
    x, y = (tiles[axis].to_numpy() for axis in ("x", "y"))
    columns, rows = (np.round((values - values.min()) / size).astype(np.int64) for values in (x, y))
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = tiles[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    right, bottom = x.min() + grid.shape[1] * size, y.min() + grid.shape[0] * size
    return np.ma.masked_invalid(grid), (float(x.min()), float(right), float(bottom), float(y.min()))


def limits(values: NDArray[np.floating], min_span: float = 0.0) -> tuple[float, float]:
    """Return the ends of a colour bar: 1st and 99th percentile, so that outliers don't set them.

    They are at least `min_span` apart, and always farther than rounding errors.
    """
    if not len(values):
        return 0.0, 1.0
    low, high = (float(end) for end in np.quantile(values, [0.01, 0.99]))
    missing = max(min_span, 1e-3) - (high - low)
    return (low - missing / 2, high + missing / 2) if missing > 0 else (low, high)


def faded(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the tissue in light grey, a background on which a map's colours stand out."""
    grey = np.asarray(Image.fromarray(rgb).convert("L"), np.float64)
    return np.repeat((255 - 0.35 * (255 - grey))[..., None], 3, 2).astype(np.uint8)


def _scale_bar(axis: Axes, picture: Picture) -> None:
    left, right, bottom, top = picture.box
    length = bar_length((right - left) * picture.mpp)
    label = f"{length:g} mm" if length >= 0.1 else f"{1000 * length:g} µm"
    bar = AnchoredSizeBar(
        axis.transData,
        1000 * length / picture.mpp,
        label,
        "lower right",
        color=INK,
        pad=0.4,
        sep=3,
        frameon=True,
        size_vertical=0.006 * (bottom - top),
    )
    bar.patch.set(facecolor="white", alpha=0.8, edgecolor="none")
    axis.add_artist(bar)
