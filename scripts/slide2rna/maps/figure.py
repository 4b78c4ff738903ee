"""A map beside the tissue: H&E, mean and sd, with colour bars and a scale bar."""

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

from slide2rna.report.figures.style import INK, plt, styled
from slide2rna.slides.reader import Slide
from slide2rna.slides.tiles import Tiling

PICTURE_PX = 1200  # of the longer edge; more isn't seen at 150 dpi
READ_PX = 60_000_000
BAR_SHARE = 0.28  # of the width at most
MARGIN_TILES = 1.5
WIDE = 1.7  # from this width over height on, panels lie below each other
# Inches: of the panels at most, of the figure at least, and of what stands around the panels.
PANEL_WIDTH, PANEL_HEIGHT, STACKED_WIDTH, LEAST_WIDTH = 3.7, 6.5, 7.6, 8.0
PAD, PANEL_TITLE, BAR_WIDTH, BAR_ROOM = 0.15, 0.27, 0.2, 1.15
# Of a letter of the title and the note, and of their lines, at 13 and 9 points.
TITLE_LETTER, TITLE_LINE, LETTER, LINE = 0.125, 0.27, 0.074, 0.17


@dataclass(frozen=True)
class Picture:
    """The part of a slide that its tiles lie in.

    Attributes
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
    box : left, right, bottom, top in level-0 px.
    mpp : um per level-0 px.
    """

    rgb: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    mpp: float


def picture(slide: Slide, tiling: Tiling) -> Picture:
    """Read the part of a slide in which its tiles lie, with a margin.

    From the coarsest level that shows enough, unless that is too large to be read; then from the
    overview on which the tissue was found.
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


def bar_length(width_um: float) -> float:
    """The longest of 1, 2, 5 times a power of ten mm that takes at most `BAR_SHARE` of a width."""
    most = width_um * BAR_SHARE / 1000
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))


@styled
def draw(
    picture: Picture,
    tiles: pl.DataFrame,
    title: str,
    note: str,
    unit: str,
    least: float = 0.0,
    sd_title: str = "sd",
) -> Figure:
    """H&E, mean and sd of one gene or gene set, side by side or, for a wide slide, stacked.

    Parameters
    ----------
    tiles
        x, y, size, mean, sd of one name; without a value a tile shows the faded tissue.
    title, note
        Above it all, and below; wrapped to the figure's width.
    unit
        Of the colour bars.
    least
        Width that the colours stand for at least, so that a flat map looks flat.
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
        low, high = limits(grid.compressed(), least)
        shown = axis.imshow(
            grid, extent=extent, cmap=colours, vmin=low, vmax=high, interpolation="nearest"
        )
        axis.set(xlim=(left, right), ylim=(bottom, top))
        axis.set_title(name)
        figure.colorbar(shown, cax=bar, label=unit)
    for axis in panels:
        axis.set_axis_off()
        axis.grid(False)
    return figure


def _layout(ratio: float, title: str, note: str) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure with three panels of one width over height, and bars beside the last two.

    In inches throughout, so that there is room for what is there and no more: the library's own
    layouts leave bands where a panel is narrower than its share.
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
        """An axes by its left, top, width and height in inches from the figure's top left."""
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
    """Tiles as a picture with a pixel each, masked where none is, and its extent (level-0 px)."""
    size = int(tiles["size"][0])
    x, y = (tiles[axis].to_numpy() for axis in ("x", "y"))
    columns, rows = (np.round((values - values.min()) / size).astype(np.int64) for values in (x, y))
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = tiles[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    right, bottom = x.min() + grid.shape[1] * size, y.min() + grid.shape[0] * size
    return np.ma.masked_invalid(grid), (float(x.min()), float(right), float(bottom), float(y.min()))


def limits(values: NDArray[np.floating], least: float = 0.0) -> tuple[float, float]:
    """Ends of a colour bar: the 1st and 99th percentile, so that one tile doesn't set it.

    They lie at least `least` apart, and further than rounding in any case.
    """
    if not len(values):
        return 0.0, 1.0
    low, high = (float(end) for end in np.quantile(values, [0.01, 0.99]))
    lacking = max(least, 1e-3) - (high - low)
    return (low - lacking / 2, high + lacking / 2) if lacking > 0 else (low, high)


def faded(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light grey tissue, on which the colours of a map stand out."""
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
