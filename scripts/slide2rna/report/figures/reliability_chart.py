"""Chart of reliability: observed against nominal coverage of the draws' central intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import vega
from slide2rna.report.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, YELLOW

COLORS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, INK, GREY)
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
# Distance between the first and the last set at one level, so that their intervals don't overlap.
DODGE = 0.012
FILE_PX = 370
# Long enough for two dashes; entries of one height stay in line.
LEGEND_SIZE = 140


def page(calibration: pl.DataFrame, sets: Sequence[str]) -> vega.Spec:
    """Plot all gene sets; a click on the legend selects one."""
    picked = alt.selection_point(fields=["set"], bind="legend")
    faded = alt.condition(picked, alt.value(1), alt.value(0.1))
    marks = _marks(calibration, sets, "click to select", opacity=faded)
    marks[-1] = marks[-1].add_params(picked)
    return vega.for_page(alt.LayerChart(layer=[_perfect(), *marks]), 330)


def files(calibration: pl.DataFrame, sets: Sequence[str]) -> vega.Spec:
    """Plot these gene sets in one panel."""
    chart = alt.LayerChart(layer=[_perfect(), *_marks(calibration, sets, None)])
    return vega.for_files({"": chart}, FILE_PX, FILE_PX)


def _perfect() -> alt.Chart:
    scale = alt.Scale(domain=["perfect"], range=[[5, 4]])
    dash = alt.StrokeDash(
        "line:N", scale=scale, legend=alt.Legend(title=None, symbolSize=LEGEND_SIZE)
    )
    return vega.diagonal(0, 1).transform_calculate(line="'perfect'").encode(strokeDash=dash)


def _marks(
    calibration: pl.DataFrame, sets: Sequence[str], legend_title: str | None, **channels: Any
) -> list[alt.Chart]:
    """Draw a line with intervals per gene set."""
    rows = _rows(calibration, sets)
    titles = list(dict.fromkeys(row["set"] for row in rows))
    legend = alt.Legend(title=legend_title, columns=4, symbolSize=LEGEND_SIZE)
    scales = [
        alt.Scale(domain=titles, range=[values[i % len(values)] for i in range(len(titles))])
        for values in (COLORS, SHAPES)
    ]
    share, axis = alt.Scale(domain=[0, 1]), alt.Axis(tickCount=5)
    base = alt.Chart(vega.inline(rows)).encode(
        x=alt.X("dodged:Q", title="nominal coverage", scale=share, axis=axis),
        color=alt.Color("set:N", scale=scales[0], legend=legend),
        tooltip=[
            alt.Tooltip("set:N", title="Genes"),
            alt.Tooltip("nominal:Q", title="Nominal", format=".2f"),
            alt.Tooltip("covered:Q", title="Measured values inside", format=".3f"),
            alt.Tooltip("low:Q", title="95 % from", format=".3f"),
            alt.Tooltip("high:Q", title="to", format=".3f"),
        ],
        **channels,
    )
    y = alt.Y("covered:Q", title="measured values inside", scale=share, axis=axis)
    shape = alt.Shape("set:N", scale=scales[1], legend=legend)
    return [
        base.mark_line(strokeWidth=1.6).encode(y=y),
        base.mark_rule(strokeWidth=1.6).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(y=y, shape=shape),
    ]


def _rows(calibration: pl.DataFrame, sets: Sequence[str]) -> list[Row]:
    """Return a row per gene set and level, in the order of the sets."""
    coverage = calibration.filter(quantity="coverage", within="pooled", kind="draws")
    coverage = coverage.filter(pl.col("covered").is_not_null()).sort("nominal")
    present = [name for name in sets if name in set(coverage["gene_set"])]
    step = DODGE / max(len(present) - 1, 1)
    return [
        {"set": labels.gene_set_title(name)}
        | {"dodged": row["nominal"] + step * place - DODGE / 2 * (len(present) > 1)}
        | {key: row[key] for key in ("nominal", "covered", "low", "high")}
        for place, name in enumerate(present)
        for row in coverage.filter(gene_set=name).to_dicts()
    ]
