"""Sampler figure: quality against evaluations of the network and against seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from slide2rna.core.types import Row
from slide2rna.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    SKY,
    YELLOW,
    axes_for,
    save,
    styled,
)
from slide2rna.report.sections import samplers as sampler_section

# Shape as well as colour, so that solvers differ in greyscale too.
LOOKS = {
    "exponential": (BLUE, "o", "exponential"),
    "euler": (ORANGE, "v", "Euler"),
    "heun": (GREEN, "s", "Heun"),
    "midpoint": (PINK, "D", "midpoint"),
    "student": (YELLOW, "*", "one-step student"),
    "point": (SKY, "P", "posterior mean"),
}
# Horizontal factors: solvers with the same number of evaluations would overlap.
DODGE = {"euler": 1.07, "heun": 0.93, "midpoint": 1.14, "student": 0.93, "point": 1.07}
# Accepted loss against the reference: CRPS in %, coverage as a share.
BAND_CRPS, BAND_COVERAGE = 2.0, 0.03


def write(table: pl.DataFrame, out: str | Path) -> None:
    """Draw the table of samplers, of at least one row, as samplers.png and samplers.svg."""
    section = sampler_section.samplers(table)
    assert section is not None
    save(quality(section), out, "samplers")


@styled
def quality(section: sampler_section.SamplerSection) -> Figure:
    """Plot CRPS, coverage and correlation of every sampler; the band is the accepted loss."""
    count = 4 if section["timed"] else 3
    figure, axes = axes_for(count, 9.6, 3.1 if count == 4 else 3.4, columns=2 if count == 4 else 0)
    rows, reference = section["rows"], section["reference"]
    evaluations = "Evaluations of the network per draw"
    _panel(axes[0], rows, "evaluations", lambda row: row["crps_off"])
    for null in section["nulls"]:
        if null["crps_off"]:
            axes[0].axhline(null["crps_off"]["value"], color=GREY, linestyle=":")
            place = (axes[0].get_xlim()[1], null["crps_off"]["value"])
            axes[0].annotate(
                null["sampler"], place, (-2, 2), textcoords="offset points", ha="right", fontsize=8
            )
    _good_crps(axes[0])
    _label_axis(axes[0], "CRPS, all genes", evaluations, f"% above {reference['sampler']}")
    _panel(axes[1], rows, "evaluations", lambda row: row["covered"][2])
    if base := reference["covered"][2]:
        ends = (base["value"] - BAND_COVERAGE, base["value"] + BAND_COVERAGE)
        axes[1].axhspan(*ends, color="#E6E9ED", linewidth=0, zorder=0)
    axes[1].axhline(0.9, color=INK, linewidth=1, linestyle="--")
    _label_axis(axes[1], "Coverage of 90 % intervals, all genes", evaluations, "measured inside")
    gene_set = section["sets"][-1]
    title = "PCC of the mean of draws, " + ("all genes" if gene_set == "all" else gene_set)
    _panel(axes[2], rows, "evaluations", lambda row: row["pcc"][-1])
    _label_axis(axes[2], title, evaluations, "PCC over patients")
    if section["timed"]:
        _panel(axes[3], rows, "seconds", lambda row: row["crps_off"])
        _good_crps(axes[3])
        seconds = "Seconds of solving per slide, 100 draws"
        _label_axis(axes[3], "CRPS, all genes", seconds, f"% above {reference['sampler']}")
    _legend(figure, axes[0], rows)
    return figure


def _panel(axis: Axes, rows: list[Row], x: str, cell: Callable[[Row], Row | None]) -> None:
    """Plot a line per solver with intervals; guided draws off the lines, the reference ringed."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        place = row[x]["value"] if isinstance(row[x], dict) else row[x]
        score = cell(row)
        if row["kind"] == "reference" and score is None:
            score = {"value": 0.0, "low": None, "high": None}  # against itself
        if place is None or score is None or score["value"] is None:
            continue
        name = _style_key(row)
        color, marker, _ = LOOKS[name]
        place *= DODGE.get(name, 1.0)
        if score["low"] is not None:
            axis.plot([place] * 2, [score["low"], score["high"]], color=color, linewidth=1.6)
        size = 10 if name == "student" else 6
        axis.plot(place, score["value"], marker, color=color, markersize=size, zorder=3)
        if row["kind"] == "reference":
            axis.plot(place, score["value"], "o", mfc="none", mec=INK, markersize=11, zorder=4)
        if row["guidance"] in (None, 1):
            lines.setdefault(name, []).append((place, score["value"]))
    for name, points in lines.items():
        axis.plot(*zip(*sorted(points), strict=True), color=LOOKS[name][0], linewidth=1, alpha=0.6)
    axis.set_xscale("log")


def _style_key(row: Row) -> str:
    name = row["kind"] if row["kind"] in LOOKS else row["solver"]
    return name if name in LOOKS else "exponential"


def _good_crps(axis: Axes) -> None:
    """Shade the accepted range: up to BAND_CRPS above the reference, and everything below it."""
    low = min(axis.get_ylim()[0], -BAND_CRPS / 2)
    axis.axhspan(low, BAND_CRPS, color="#E6E9ED", linewidth=0, zorder=0)
    axis.set_ylim(bottom=low)


def _label_axis(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    low, high = axis.get_xlim()
    decades = (0.001, 0.01, 0.1, 1, 10, 100, 1000)
    ticks = [digit * decade for decade in decades for digit in (1, 2, 5)]
    axis.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, axis: Axes, rows: list[Row]) -> None:
    for name in dict.fromkeys(map(_style_key, rows)):
        color, marker, words = LOOKS[name]
        axis.plot([], [], marker, color=color, markersize=7, label=words)
    axis.plot([], [], "o", mfc="none", mec=INK, markersize=9, label="reference")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), fontsize=8.5)
