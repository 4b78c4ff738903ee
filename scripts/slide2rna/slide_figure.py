"""The figure of a slide's page: pathway scores against the training patients'."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from slide2rna.figures import BLUE, GREY, axes_for, styled

NAME = 52
# Filled, hollow and grey: they stay apart in a grey print.
LOOKS = {
    "good": ("o", BLUE, BLUE, "good"),
    "weak": ("o", BLUE, "white", "weak"),
    "none": ("v", GREY, GREY, "none"),
    "unknown": ("s", GREY, "white", "unknown"),
}


@styled
def pathways(table: pl.DataFrame) -> Figure:
    """Scores in sd of the training patients' own, with 90 % intervals, a row per pathway.

    Parameters
    ----------
    table : name, z, z_low, z_high (null without draws), reliability; the first row is on top.
    """
    figure, (axis,) = axes_for(1, 9.2, 1.25 + 0.27 * table.height)
    places = np.arange(table.height)[::-1]
    for reach, shade in ((2, "#EEF1F4"), (1, "#DFE4EA")):
        axis.axvspan(-reach, reach, color=shade, linewidth=0, zorder=0)
    axis.axvline(0, color="#9AA0A8", linewidth=1)
    for word, (marker, edge, face, label) in LOOKS.items():
        rows = np.flatnonzero(table["reliability"] == word)
        if not len(rows):
            continue
        own = table[rows]
        axis.hlines(places[rows], own["z_low"], own["z_high"], color=edge, linewidth=1.8)
        axis.plot(
            own["z"],
            places[rows],
            marker,
            color=edge,
            markerfacecolor=face,
            markeredgewidth=1.4,
            markersize=6,
            label=label,
        )
    axis.set_yticks(places, [short(name) for name in table["name"]], fontsize=8.5)
    axis.set_ylim(-0.8, table.height - 0.2)
    axis.grid(visible=False)
    # The bands give the scale, so they are never cut.
    end = max(2.2, *(abs(x) * 1.05 for x in axis.get_xlim()))
    axis.set_xlim(-end, end)
    axis.set_xlabel("predicted score, in sd of the training patients' measured scores")
    figure.legend(loc="outside lower right", ncols=4, fontsize=8.5, title="predictable in test")
    return figure


def short(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1].rstrip() + "…"
