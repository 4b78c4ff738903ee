"""Interval figures: coverage, widths, pathway scores and gene-gene correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slide2rna.core.types import Row
from slide2rna.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    YELLOW,
    axes_for,
    styled,
)
from slide2rna.report.sections.intervals import IntervalSection

MAX_SAMPLES = 60
KINDS = {
    "draws": (BLUE, "draws"),
    "conformal": (ORANGE, "conformal"),
    "conformal_site": (GREEN, "conformal, by site"),
}


def _whiskers(axis: Axes, x: Any, rows: Sequence[Row], color: str, **style: Any) -> None:
    """Plot coverage with its intervals; rows without a value are left out."""
    points = [
        (at, row) for at, row in zip(x, rows, strict=True) if row and row["covered"] is not None
    ]
    if not points:
        return
    places = [at for at, _ in points]
    y = np.array([row["covered"] for _, row in points])
    ends = np.array([[row["low"], row["high"]] for _, row in points]).T
    axis.errorbar(places, y, yerr=np.abs(ends - y), fmt="o", color=color, markersize=5, **style)


@styled
def conformal(rows: Sequence[Row], gene_set: str = "all") -> Figure:
    """Plot coverage and width of the draws' intervals and of the conformal ones, by level."""
    level_rows = [row for row in rows if row["gene_set"] == gene_set]
    levels = [row["level"] for row in level_rows]
    x = np.arange(len(levels))
    figure, (left, right) = axes_for(2, 9.6, 3.4)
    kinds = [
        kind
        for kind in KINDS
        if any(row[kind] and row[kind]["covered"] is not None for row in level_rows)
    ]
    for at, level in zip(x, levels, strict=True):
        left.hlines(level, at - 0.42, at + 0.42, color=INK, linewidth=1.1, linestyle="--")
    for place, kind in enumerate(kinds):
        color, name = KINDS[kind]
        shift = 0.2 * (place - (len(kinds) - 1) / 2)
        for at, row in zip(x + shift, (row[f"{kind}_gene"] for row in level_rows), strict=True):
            if row and row["covered"] is not None:
                left.vlines(at, row["low"], row["high"], color=color, alpha=0.28, linewidth=6)
        pooled = [row[kind] for row in level_rows]
        _whiskers(left, x + shift, pooled, color, linewidth=1.6, label=name)
    left.set_xticks(x, [f"{100 * level:g} %" for level in levels])
    left.set_ylabel("measured values inside")
    left.set_xlabel("level of the interval")
    left.set_title("Coverage")
    left.legend(fontsize=8.5, loc="lower right")
    bars = [("null", "#C9CDD3", "train profiles, no image")]
    bars += [(kind, *KINDS[kind]) for kind in kinds]
    for place, (kind, color, name) in enumerate(bars):
        widths = [(row[kind] or {}).get("width") or np.nan for row in level_rows]
        bar_x = x + 0.8 / len(bars) * (place - (len(bars) - 1) / 2)
        right.bar(bar_x, widths, 0.74 / len(bars), color=color, label=name)
    right.set_xticks(x, [f"{100 * level:g} %" for level in levels])
    right.set_ylabel("mean width, log2 units")
    right.set_xlabel("level of the interval")
    right.set_title("Width")
    right.grid(axis="x", visible=False)
    right.legend(fontsize=8.5, loc="upper left")
    return figure


@styled
def pathway_intervals(table: pl.DataFrame, rows: Sequence[Row]) -> Figure:
    """Plot score intervals of two pathways by sample, and coverage over all pathways."""
    ranks = sorted(table["rank"].unique())[:2]
    figure, axes = axes_for(len(ranks) + 1, 10.2, 3.5)
    for axis, rank in zip(axes, ranks, strict=False):
        pathway = table.filter(pl.col("rank") == rank)
        levels = sorted(pathway["level"].unique())
        order = pathway.filter(pl.col("level") == levels[-1])
        order = order.sort("measured", "sample_id", "fold")
        # Samples spread evenly over the measured scores: more bars would overlap.
        order = order.gather_every(max(1, -(-order.height // MAX_SAMPLES)))
        keys = order.select("sample_id", "fold")
        place = keys.with_columns(pl.Series("place", np.arange(order.height)))
        for level, color, width in ((levels[-1], SKY, 1.1), (levels[0], BLUE, 2.2)):
            part = pathway.filter(pl.col("level") == level).join(place, on=["sample_id", "fold"])
            axis.vlines(
                part["place"], part["low"], part["high"], color=color,
                linewidth=width, label=f"{100 * level:g} % of draws",
            )  # fmt: skip
        axis.plot(
            np.arange(order.height), order["measured"], "o", color=ORANGE,
            markersize=3.2, markeredgewidth=0, label="measured",
        )  # fmt: skip
        name = str(pathway["name"][0])
        axis.set_title(name if len(name) < 38 else f"{name[:36]}…", fontsize=9)
        axis.set_xlabel("test samples, by measured score")
        axis.set_ylabel("pathway score")
    axes[0].legend(fontsize=8, loc="upper left")
    last = axes[-1]
    x = np.array([row["level"] for row in rows])
    last.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for prefix, color, shift, name in (
        ("", BLUE, -0.008, "draws"),
        ("null_", YELLOW, 0.008, "train profiles, no image"),
    ):
        for at, row in zip(x + shift, (row[f"{prefix}pathway"] for row in rows), strict=True):
            if row:
                last.vlines(at, row["low"], row["high"], color=color, alpha=0.28, linewidth=6)
        pooled = [row[f"{prefix}pooled"] for row in rows]
        _whiskers(last, x + shift, pooled, color, linewidth=1.4, label=name)
    floor = max(0.0, min(x) - 0.25)
    last.set(xlim=(floor, 1), ylim=(floor, 1), aspect="equal")
    last.set_xlabel("nominal coverage")
    last.set_ylabel("measured scores inside")
    last.set_title("All pathways", fontsize=9)
    last.legend(fontsize=8, loc="upper left")
    return figure


@styled
def coexpression(rows: Sequence[Row]) -> Figure:
    """Plot GSC and energy score of draws, points, nulls and ceilings, on all genes."""
    scored = [row for row in rows if row["cells"][0]["gsc"] or row["cells"][0]["energy"]]
    figure, axes = axes_for(2, 10.2, 1.2 + 0.27 * len(scored))
    titles = ("GSC: agreement of gene-gene correlations", "Energy score (lower is better)")
    for axis, metric, title in zip(axes, ("gsc", "energy"), titles, strict=True):
        y = np.arange(len(scored))[::-1]
        for at, row in zip(y, scored, strict=True):
            cell = row["cells"][0][metric]
            if cell is None:
                continue
            color = BLUE if row["own"] else _color(row["label"])
            if cell["low"] is not None:
                axis.hlines(at, cell["low"], cell["high"], color=color, linewidth=1.8)
            axis.plot(cell["value"], at, "o", color=color, markersize=5.5)
            if row["own"]:
                axis.axvline(cell["value"], color=BLUE, linewidth=0.8, linestyle=":")
        axis.set_yticks(y, [row["label"] for row in scored] if axis is axes[0] else [""] * len(y))
        axis.set_ylim(-0.7, len(scored) - 0.3)
        axis.set_title(title, fontsize=9.5)
        axis.grid(axis="y", visible=False)
    return figure


def _color(label: str) -> str:
    if label.endswith(", point") or label.startswith("mean"):
        return INK
    return GREEN if label.startswith(("all train", "test patients")) else ORANGE


def interval_figures(
    tables: dict[str, pl.DataFrame], section: IntervalSection
) -> dict[str, Figure]:
    """Draw the figures that have data, by name."""
    figures = {}
    if section["conformal"]:
        figures["conformal"] = conformal(section["conformal"])
    if section["pathways"] and tables["pathway_intervals"].height:
        figures["pathway_intervals"] = pathway_intervals(
            tables["pathway_intervals"], section["pathways"]
        )
    if any(row["cells"][0]["gsc"] for row in section["coexpression"]):
        figures["coexpression"] = coexpression(section["coexpression"])
    return figures
