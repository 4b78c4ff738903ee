"""Shift figures: p-values and distances, abstention curves, changes of staining."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from slide2rna.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    SKY,
    axes_for,
    styled,
)
from slide2rna.report.sections.shift import METRICS, WORDS, StainSection
from slide2rna.studies.shift.answered_scores import ORACLE, RANDOM
from slide2rna.studies.stain.stain import HALF_TILES

BINS = 10
ORDERS = {"bag": (BLUE, "o"), "expression": (GREEN, "s"), "spread": (PINK, "D")}


@styled
def shift(table: pl.DataFrame) -> Figure:
    """Plot p-values of the test slides, uniform without shift, and the two distances."""
    tested = table.filter(pl.col("part") == "test")
    alpha = float(tested["alpha"][0])
    figure, axes = axes_for(3, 9.8, 3.2)
    # Against train patients if the cal patients are too few for a histogram.
    too_few = int(tested["n_cal"].to_numpy().min()) < BINS
    bag = ("bag_p_train", "n_train", "train") if too_few else ("bag_p", "n_cal", "cal")
    for axis, (column, count, against), title in zip(
        axes, (bag, ("expression_p", "n_cal", "cal")), ("Bag", "Profile"), strict=False
    ):
        p = tested[column].drop_nulls().to_numpy()
        bins = min(BINS, 1 + int(tested[count].to_numpy().min()))
        # Bins are closed on the right because p takes the values 1/(n + 1), ... 1.
        inside = np.bincount(np.ceil(p * bins - 1e-9).astype(int) - 1, minlength=bins)
        middle = (np.arange(bins) + 0.5) / bins
        axis.bar(middle, inside / max(len(p), 1) * bins, 0.92 / bins, color=SKY)
        axis.axhline(1, color=ORANGE, linestyle="--", linewidth=1.2)
        axis.set(xlim=(0, 1), xlabel="p-value of a test slide", ylabel="density")
        axis.set_title(f"{title}, against {against}")
    scatter, flagged = axes[2], tested[bag[0]].fill_null(1).to_numpy() <= alpha
    x, y = (tested[f"{name}_distance"].to_numpy() for name in ("bag", "expression"))
    dots: Any = {"color": BLUE, "markersize": 3.6, "alpha": 0.7, "markeredgewidth": 0}
    scatter.plot(x[~flagged], y[~flagged], "o", **dots)
    scatter.plot(x[flagged], y[flagged], "D", color=ORANGE, markersize=5)
    scatter.set(xlabel="distance of the bag", ylabel="distance of the profile")
    scatter.set_title(f"Test slides (◆ bag's p ≤ {alpha:g})")
    return figure


@styled
def abstention(table: pl.DataFrame) -> Figure:
    """Plot scores of the answered patients against their share, for every order."""
    curves = table.filter(pl.col("share").is_not_null() & (pl.col("gene_set") == "all"))
    metrics = [metric for metric in METRICS if metric in set(curves["metric"])]
    figure, axes = axes_for(len(metrics), 1.2 + 3.1 * len(metrics), 3.5)
    for axis, metric in zip(axes, metrics, strict=True):
        metric_curves = curves.filter(pl.col("metric") == metric).sort("share")
        band = metric_curves.filter(pl.col("order") == RANDOM)
        axis.fill_between(
            band["share"], band["low"], band["high"], color="#E1E4E8", label="random, 5–95 %"
        )
        axis.plot(band["share"], band["value"], color=GREY, linewidth=1.2, linestyle="--")
        oracle = metric_curves.filter(pl.col("order") == ORACLE)
        axis.plot(oracle["share"], oracle["value"], color=INK, linewidth=1.2, linestyle=":",
                  label=WORDS[ORACLE])  # fmt: skip
        for order, (color, marker) in ORDERS.items():
            rows = metric_curves.filter(pl.col("order") == order)
            if rows.height:
                axis.plot(
                    rows["share"], rows["value"], marker=marker, color=color, markersize=4,
                    linewidth=1.5, label=WORDS[order],
                )  # fmt: skip
        axis.invert_xaxis()
        axis.set_xticks([1.0, 0.8, 0.6, 0.4])
        axis.set(xlabel="share of patients with a prediction", title=METRICS[metric])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5)
    return figure


@styled
def stain(section: StainSection) -> Figure:
    """Plot the mean shift of genes per change of the tiles, and the share of flagged bags."""
    rows = [row for row in section["rows"] if not row["null"]]
    null = next(row for row in section["rows"] if row["kind"] == HALF_TILES)
    figure, axes = axes_for(2, 9.6, 1.0 + 0.235 * len(rows))
    y = np.arange(len(rows))[::-1]
    band = null["moved"]
    axes[0].axvspan(band["low"], band["high"], color="#E1E4E8", linewidth=0)
    axes[0].axvline(
        band["value"], color=GREY, linestyle="--", linewidth=1.2, label="half the tiles"
    )
    for axis, name, color in ((axes[0], "moved", BLUE), (axes[1], "flagged", ORANGE)):
        for place, row in zip(y, rows, strict=True):
            cell = row[name]
            axis.plot([cell["low"], cell["high"]], [place] * 2, color=color, linewidth=2)
            axis.plot(cell["value"], place, "o", color=color, markersize=4.5)
        axis.set_ylim(-0.7, len(rows) - 0.3)
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(y, [row["name"] for row in rows])
    axes[1].set_yticks(y, [""] * len(rows))
    axes[0].set_xlim(left=0)
    axes[1].set_xlim(-0.03, 1.03)
    axes[0].set_xlabel("mean shift of a gene, in units of its sd in training")
    axes[1].set_xlabel("share of slides whose bag is then flagged")
    axes[0].legend(fontsize=8.5)
    return figure
