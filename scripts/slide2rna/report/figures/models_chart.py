"""Chart of models: correlations with intervals and the noise floor, per gene set."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt
import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import vega
from slide2rna.report.figures.style import BLUE, GREEN, ORANGE

KINDS = {
    "main": ("evaluated model", BLUE, "circle"),
    "network": ("other network", GREEN, "square"),
    "ridge": ("ridge", ORANGE, "diamond"),
    "null": ("null", vega.DARK, "triangle-down"),
    "floor": ("noise floor, 5–95 %", "#E6E9ED", "square"),
}
PANEL_PX = 262


def page(summary: pl.DataFrame, model: str, sets: Sequence[str]) -> vega.Spec:
    """Plot one gene set, which the reader chooses."""
    rows = _model_rows(summary, model)
    chosen, keep = vega.chooser([labels.gene_set_title(name) for name in sets], "Genes")
    chart = _layers(summary, model, rows, keep).add_params(chosen)
    return vega.for_page(chart, vega.ROW_PX * len(rows))


def files(summary: pl.DataFrame, model: str, sets: Sequence[str]) -> vega.Spec:
    """Plot a panel per gene set."""
    rows = _model_rows(summary, model)
    titles = [labels.gene_set_title(name) for name in sets]
    panels = {
        title: _layers(summary, model, rows, vega.view_filter(title), title == titles[0])
        for title in titles
    }
    return vega.for_files(panels, PANEL_PX, vega.ROW_PX * len(rows))


def _model_rows(summary: pl.DataFrame, model: str) -> list[str]:
    names = labels.ordered_models(summary, model)
    return vega.grouped_rows(names, [labels.model_kind(name, model) for name in names])


def _layers(
    summary: pl.DataFrame, model: str, models: list[str], keep: str, named: bool = True
) -> alt.LayerChart:
    """Draw the rows that the filter keeps, with the models' names if `named`."""
    rows, floors = _rows(summary, model, models), _floors(summary, model)
    color, shape = vega.kind_channels(KINDS, {row["kind"] for row in [*rows, *floors]})
    is_main = f"datum.value === {json.dumps(model)}"
    axis = alt.Axis(
        labels=named,
        labelFontWeight=alt.condition(is_main, alt.value(700), alt.value(400)),
        ticks=False,
    )
    base = (
        alt.Chart(vega.inline(rows))
        .transform_filter(keep)
        .encode(
            y=vega.row_axis("model", models, axis),
            color=color,
            tooltip=[
                alt.Tooltip("model:N", title="Model"),
                alt.Tooltip("value:Q", title="PCC", format=".3f"),
                alt.Tooltip("low:Q", title="95 % from", format=".3f"),
                alt.Tooltip("high:Q", title="to", format=".3f"),
            ],
        )
    )
    band = (
        alt.Chart(vega.inline(floors))
        .transform_filter(keep)
        .mark_rect()
        .encode(x=alt.X("low:Q"), x2="high:Q", color=color)
    )
    marks = vega.interval_layers(base, shape, "PCC over patients, 95 % interval")
    return alt.LayerChart(layer=[band, vega.zero_line("x"), *marks])


def _rows(summary: pl.DataFrame, model: str, names: list[str]) -> list[Row]:
    scores = summary.filter(
        (pl.col("metric") == "pcc") & pl.col("value").is_not_null() & pl.col("model").is_in(names)
    )
    return [
        {
            "model": row["model"],
            "kind": KINDS[labels.model_kind(row["model"], model)][0],
            "view": labels.gene_set_title(row["gene_set"]),
        }
        | {key: row[key] for key in ("value", "low", "high")}
        for row in scores.to_dicts()
    ]


def _floors(summary: pl.DataFrame, model: str) -> list[Row]:
    floors = summary.filter((pl.col("metric") == "pcc_floor") & (pl.col("model") == model))
    return [
        {"view": labels.gene_set_title(gene_set), "kind": KINDS["floor"][0]}
        | {"low": low, "high": high}
        for gene_set, low, high in floors.select("gene_set", "low", "high").drop_nulls().iter_rows()
    ]
