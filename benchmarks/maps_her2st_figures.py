"""Figures of maps_her2st.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from slide2rna.evaluation.metrics.spatial import correlation
from slide2rna.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    YELLOW,
    axes_for,
    styled,
)

COLOURS = {"flow": BLUE, "mixture": ORANGE, "ridge": GREEN, "color-ridge": YELLOW}


@styled
def scores(summary: pl.DataFrame) -> Figure:
    """Plot the mean r over genes per section and model, and that of permuted spots."""
    sets = summary["gene_set"].unique(maintain_order=True).to_list()
    sections = summary["section"].unique(maintain_order=True).to_list()
    figure, axes = axes_for(len(sets), 11, 3.4)
    for axis, name in zip(axes, sets, strict=True):
        for offset, (model, colour) in enumerate(COLOURS.items()):
            own = summary.filter(pl.col("gene_set") == name, pl.col("model") == model)
            x = np.arange(len(sections)) + 0.18 * (offset - 1.5)
            for column, width, tint, alpha in (("permuted_", 9, GREY, 0.28), ("", 1.6, colour, 1)):
                low, high = (own[f"{column}{end}"].to_numpy() for end in ("low", "high"))
                axis.vlines(x, low, high, color=tint, linewidth=width, alpha=alpha, zorder=2)
            axis.plot(x, own["r"].to_numpy(), "o", color=colour, markersize=5, label=model)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_xticks(range(len(sections)), sections)
        axis.set_title(f"{name} genes")
    axes[0].set_ylabel("mean r over spots")
    axes[-1].legend(loc="upper right", fontsize=8)
    figure.supxlabel(
        "Lines: 95 % over blocks of spots. Grey: the same with spots permuted. A constant has 0.",
        fontsize=8.5,
    )
    return figure


@styled
def examples(found: list[Any], genes: list[str]) -> Figure:
    """Plot measured spots above the map at those spots, a column per section with its gene."""
    figure, axes = axes_for(2 * len(found), 11.5, 2.5, columns=len(found))
    for place, (of, gene) in enumerate(zip(found, genes, strict=True)):
        column = of.genes.index(gene)
        predicted, measured = (values[:, column] for values in (of.predicted["flow"], of.measured))
        r = float(correlation(predicted[:, None], measured[:, None])[0])
        for row, (what, values, unit) in enumerate(
            (
                (f"{of.name}: {gene}, measured", measured, "log1p per 10,000"),
                (f"predicted, r {r:.2f}", predicted, "log2(CPM+1)"),
            )
        ):
            axis = axes[row * len(found) + place]
            low, high = np.quantile(values, [0.02, 0.98])
            x, y = of.grid.T
            shown = axis.scatter(x, y, c=values, s=15, vmin=low, vmax=high, linewidths=0)
            axis.set_title(what, fontsize=9)
            axis.set_aspect("equal")
            axis.invert_yaxis()
            axis.set_axis_off()
            bar = figure.colorbar(shown, ax=axis, shrink=0.9, pad=0.03, aspect=14)
            bar.set_label(unit, fontsize=7.5)
            bar.ax.tick_params(labelsize=7.5)
    return figure
