"""The pictures of maps: colours, scale bar, and what lies where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from map_models import predictor
from matplotlib.figure import Figure
from slide2rna.maps import figure as map_figure
from slide2rna.maps.figure import Picture
from slide2rna.slides import tiles
from slide2rna.slides.reader import open_slide
from slide_factory import picture, write_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", picture(2600, 2048))


def test_the_colours_of_a_flat_map_are_not_stretched() -> None:
    values = np.linspace(5, 5.02, 50)
    low, high = map_figure.limits(values, 0.2)
    assert (high - low, (low + high) / 2) == (pytest.approx(0.2), pytest.approx(5.01))
    low, high = map_figure.limits(np.linspace(5, 6, 1000), 0.2)
    assert (low, high) == (pytest.approx(5.01), pytest.approx(5.99))


@pytest.mark.parametrize(("width_um", "mm"), [(1000, 0.2), (700, 0.1), (20_000, 5), (180, 0.05)])
def test_the_scale_bar_is_a_round_number_that_fits(width_um: float, mm: float) -> None:
    assert map_figure.bar_length(width_um) == pytest.approx(mm)
    assert map_figure.bar_length(width_um) * 1000 <= map_figure.BAR_SHARE * width_um


def test_the_picture_shows_where_the_tiles_lie(slide: Path) -> None:
    with open_slide(slide) as opened:
        found = tiles.tile_slide(opened, predictor().about["tiles"], 1, "a")
        shown = map_figure.read_picture(opened, found)
        left, right, bottom, top = shown.box
        table = found.table
        assert left <= table["x"].min() < table["x"].max() + 256 <= right  # type: ignore[operator]
        assert top <= table["y"].min() < table["y"].max() + 256 <= bottom  # type: ignore[operator]
        x, y = 1100, 1000  # in the middle of the tissue
        place = round((y - top) / (bottom - top) * shown.rgb.shape[0])
        column = round((x - left) / (right - left) * shown.rgb.shape[1])
        there = shown.rgb[place - 20 : place + 20, column - 20 : column + 20].mean(axis=(0, 1))
        wanted = np.asarray(opened.read(x - 40, y - 40, 0, 80, 80)).mean(axis=(0, 1))
    assert there == pytest.approx(wanted, abs=12)


def test_a_tile_is_painted_in_its_place() -> None:
    table = pl.DataFrame(
        {"x": [100, 110, 130], "y": [50, 50, 70], "size": [10] * 3, "mean": [1.0, None, 3.0]}
    )
    grid, extent = map_figure.raster(table, "mean")
    assert extent == (100, 140, 80, 50)
    assert grid.shape == (3, 4)
    assert (grid[0, 0], grid[2, 3]) == (1, 3)
    assert grid.count() == 2


def test_a_wide_slide_has_its_panels_below_each_other() -> None:
    table = pl.DataFrame({"x": [0, 10], "y": [0, 0], "size": [10] * 2, "mean": [1.0, 2.0]})
    table = table.with_columns(sd=pl.col("mean") / 10)

    def shape(width: int) -> tuple[float, float]:
        shown = Picture(np.zeros((20, width, 3), np.uint8), (0, width, 20, 0), 0.5)
        figure: Figure = map_figure.draw(shown, table, "A", "note", "unit")
        assert len([axis for axis in figure.axes if axis.images]) >= 3
        return tuple(figure.get_size_inches())

    assert shape(20)[0] > shape(20)[1]
    assert shape(80)[0] < shape(80)[1] * 1.5


@pytest.mark.parametrize("width", [8, 20, 80])
def test_nothing_is_cut_off_or_overlaps(width: int) -> None:
    """Text lies within the figure, and above and below the panels; no band is left empty."""
    table = pl.DataFrame({"x": [0], "y": [0], "size": [5], "mean": [1.0], "sd": [0.1]})
    shown = Picture(np.zeros((20, width, 3), np.uint8), (0, width, 20, 0), 0.5)
    title, note = "regulation of " * 12, "a sentence of a note " * 20 + "\nand one more"
    figure: Figure = map_figure.draw(shown, table, title, note, "unit")
    figure.draw_without_rendering()
    whole = figure.bbox
    head, foot = (text.get_window_extent() for text in figure.texts)
    panels = [axis.get_tightbbox() for axis in figure.axes]
    for box in (head, foot, *panels):
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    top, bottom = max(box.y1 for box in panels), min(box.y0 for box in panels)
    inch = figure.dpi
    assert 0 <= head.y0 - top < 0.3 * inch
    assert 0 <= bottom - foot.y1 < 0.3 * inch
    assert foot.y0 < 0.3 * inch
