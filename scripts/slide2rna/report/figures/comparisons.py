"""Comparison figures: pathways, protocols, and genes against a null."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slide2rna.evaluation.scoring import labels as model_labels
from slide2rna.pages.numbers import format_number
from slide2rna.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    axes_for,
    styled,
)
from slide2rna.report.sections.protocols import ProtocolStep

COLORS = {"main": BLUE, "network": GREEN, "ridge": ORANGE, "null": GREY}
NAME_LENGTH = 46


@styled
def pathways(table: pl.DataFrame, count: int = 15) -> Figure:
    """Plot the pathways whose scores are predicted best, and the ridge's correlation."""
    rows = table.filter(pl.col("r").is_not_null()).head(count)
    figure, (axis,) = axes_for(1, 8.4, 0.9 + 0.27 * rows.height)
    y = np.arange(rows.height)[::-1]
    axis.hlines(y, rows["r_low"], rows["r_high"], color=BLUE, linewidth=2)
    axis.plot(rows["r"], y, "o", color=BLUE, label="model")
    if "r_ridge" in rows.columns:
        axis.plot(rows["r_ridge"], y, "D", color=ORANGE, markersize=4.5, label="ridge", alpha=0.9)
    axis.set_yticks(y, [_short(name) for name in rows["name"]], fontsize=8.5)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("PCC of the pathway's mean z over patients")
    figure.legend(loc="outside lower right", ncols=2, fontsize=8.5)
    return figure


def compared_pathways(table: pl.DataFrame, rivals: Sequence[str], count: int = 4) -> pl.DataFrame:
    """Return the pathways with the highest mean r over the model and its rivals.

    The mean favours none of them; the model's best pathways would favour the model.
    """
    columns = ["r", *(f"r_{name}" for name in rivals)]
    usable = table.filter(pl.all_horizontal(pl.col(columns).is_not_null()))
    mean = pl.mean_horizontal(columns)
    return usable.sort(mean, "pathway", descending=[True, False]).head(count)


@styled
def pathway_bars(table: pl.DataFrame, model: str, rivals: Sequence[str]) -> Figure:
    """Plot bars of the model and its best rivals on a few pathways, with intervals if available."""
    rows = compared_pathways(table, rivals)
    names = [model, *rivals]
    figure, (axis,) = axes_for(1, 8.4, 1.0 + 0.24 * max(rows.height, 1) * (len(names) + 0.8))
    step = len(names) + 0.8
    low_end = 0.0
    for place, name in enumerate(names):
        is_model = name == model
        r = "r" if is_model else f"r_{name}"
        y = -np.arange(rows.height) * step - place
        values = rows[r].to_numpy()
        color = COLORS[model_labels.model_kind(name, model)]
        axis.barh(y, values, 0.86, color=color, alpha=1 if is_model else 0.72, label=name)
        ends = values.copy()
        if {f"{r}_low", f"{r}_high"} <= set(rows.columns):
            low, high = rows[f"{r}_low"].to_numpy(), rows[f"{r}_high"].to_numpy()
            axis.hlines(y, low, high, color="white", linewidth=3.4)
            axis.hlines(y, low, high, color=INK, linewidth=1.6)
            ends, low_end = np.fmax(values, high), min(low_end, float(np.nanmin(low, initial=0)))
        for x, at, value in zip(ends, y, values, strict=True):
            axis.text(max(x, 0) + 0.012, at, format_number(value), va="center", fontsize=8.5)
        low_end = min(low_end, float(np.nanmin(values, initial=0)))
    middle = -np.arange(rows.height) * step - (len(names) - 1) / 2
    axis.set_yticks(middle, [_short(name) for name in rows["name"]])
    axis.axvline(0, color="#9AA0A8", linewidth=0.8)
    axis.set_xlim(low_end * 1.05, 1.04)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("PCC of the pathway's mean z over patients")
    figure.legend(loc="outside lower right", ncols=len(names), fontsize=8.5)
    return figure


@styled
def steps(rows: Sequence[ProtocolStep], gene_sets: Sequence[str]) -> Figure:
    """Plot the gain in PCC of each departure from the clean protocol, as floating bars."""
    scored_sets = {cell["gene_set"] for cell in rows[0]["cells"]}
    sets = [name for name in gene_sets if name in scored_sets]
    figure, axes = axes_for(len(sets), 2.3 + 2.5 * len(sets), 0.95 + 0.36 * len(rows))
    y = np.arange(len(rows))[::-1]
    for axis, gene_set in zip(axes, sets, strict=True):
        cells = [next(c for c in row["cells"] if c["gene_set"] == gene_set) for row in rows]
        values = [0.0, *(cell["value"] for cell in cells if cell["value"] is not None)]
        low, high = min(values), max(values)
        reach = high - low or 1.0
        for place, (at, cell) in enumerate(zip(y, cells, strict=True)):
            value, added = cell["value"], cell["added"]
            if value is None:
                continue
            start = 0.0 if added is None else value - added
            color = BLUE if added is None else ORANGE if added >= 0 else SKY
            axis.barh(at, value - start, 0.58, left=start, color=color)
            if place + 1 < len(rows):
                axis.plot([value] * 2, [at - 1.29, at + 0.29], color=GREY, linewidth=0.8)
            text = format_number(value) if added is None else format_number(added, signed=True)
            if place and place + 1 == len(rows):
                text = f"{format_number(value)} ({text})"
            axis.text(max(value, start) + 0.03 * reach, at, text, va="center", fontsize=8.5)
        # Room for the numbers, but no ticks there: a correlation above 1 would look wrong.
        ticks = MaxNLocator(4).tick_values(low, high)
        axis.set_xticks([tick for tick in ticks if low <= tick <= high + 0.05 * reach])
        axis.set_xlim(low - 0.12 * reach * (low < 0), high + 0.62 * reach)
        axis.axvline(0, color="#9AA0A8", linewidth=0.8)
        axis.set_yticks(y, [row["short"] for row in rows] if axis is axes[0] else [""] * len(y))
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("PCC")
        axis.set_title("All genes" if gene_set == "all" else gene_set)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 2] + " …"


@styled
def gene_nulls(genes: pl.DataFrame, model: str, null: str) -> Figure:
    """Plot the model's correlation against the null's, a dot per gene."""
    columns = ["r", f"r_{null}", "fdr"]
    table = genes.select(columns).filter(
        pl.col("r").is_not_null() & pl.col(f"r_{null}").is_not_null()
    )
    figure, (axis,) = axes_for(1, 5.6, 5.0)
    significant = pl.col("fdr").fill_null(1.0) < 0.05
    size = 3.0 if table.height > 4000 else 7.0
    for part, color, words in (
        (table.filter(~significant), "#9AA0A8", "FDR above 5 %"),
        (table.filter(significant), BLUE, "FDR below 5 %"),
    ):
        if part.height:
            # Dots are pixels even in SVG: 20,820 dots as paths would be megabytes.
            axis.scatter(
                part[f"r_{null}"], part["r"], s=size, color=color, alpha=0.6, linewidths=0,
                label=words, rasterized=True,
            )  # fmt: skip
    ends = [*axis.get_xlim(), *axis.get_ylim()]
    low, high = min(ends), max(ends)
    axis.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle="--")
    axis.axhline(0, color="#C9CDD3", linewidth=0.8)
    axis.axvline(0, color="#C9CDD3", linewidth=0.8)
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axis.set_xlabel(f"PCC of {null}")
    axis.set_ylabel(f"PCC of {model}")
    figure.legend(loc="outside lower right", ncols=2, fontsize=8.5, markerscale=2)
    return figure
