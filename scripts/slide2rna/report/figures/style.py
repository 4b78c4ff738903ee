"""Figure style: colours, matplotlib settings, and saving as PNG and SVG.

Colours are Okabe and Ito's, which colour-blind readers can distinguish. Files contain no date and
no random ids, so the same tables give the same bytes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slide2rna.core.files import atomic

matplotlib.use("Agg")

P = ParamSpec("P")

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY, GREY, INK = "#E69F00", "#56B4E9", "#8A8F98", "#22262E"
STYLE: Any = {
    # The resolution of saved files: text widths change slightly with it.
    "figure.dpi": 150,
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#9AA0A8",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#50555E",
    "ytick.color": "#50555E",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8EAED",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "svg.hashsalt": "slide2rna",
}


def save(figure: Figure, folder: str | Path, name: str) -> Path:
    """Write PNG (150 dpi) and SVG; return the PNG's path."""
    folder = Path(folder)
    with plt.rc_context(STYLE):
        # Otherwise each savefig solves the layout twice, which costs more than the drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            with atomic(folder / f"{name}{suffix}") as partial:
                figure.savefig(partial, dpi=150, metadata=metadata)
    plt.close(figure)
    return folder / f"{name}.png"


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make `draw` use the report's style, independent of the caller's rcParams."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def axes_for(
    count: int, width: float, height: float, columns: int = 0
) -> tuple[Figure, list[Axes]]:
    """Create a figure `width` inches wide with rows `height` inches high, and `count` axes."""
    columns = columns or count
    rows = math.ceil(count / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False)
    axes = list(grid.ravel())
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]
