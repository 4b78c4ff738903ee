"""Interactive charts as Vega-Lite specifications; they need no network.

Each replaces a static figure of the same name, which print and readers without JavaScript get.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl
from markupsafe import Markup

from slide2rna.evaluation.scoring import labels as model_labels
from slide2rna.report.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, YELLOW
from slide2rna.report.sections.ablations import AblationSection

Spec = dict[str, Any]
KINDS = {
    "main": ("evaluated model", BLUE, "circle"),
    "network": ("other network", GREEN, "square"),
    "ridge": ("ridge", ORANGE, "diamond"),
    "null": ("null", "#6F757E", "triangle-down"),
}
TONES = {
    "good": ("better than base", GREEN, "triangle-up"),
    "bad": ("worse than base", ORANGE, "triangle-down"),
    "open": ("unclear", "#6F757E", "circle"),
}
# Fonts of the page whose names need no quotes: quoted names would break the text measurement.
FONT = "Segoe UI, Helvetica Neue, Arial, DejaVu Sans, sans-serif"


@functools.cache
def library() -> Markup:
    """Return Vega, Vega-Lite and Vega-Embed from the installed package as a script of 0.9 MB."""
    import vl_convert

    # A closing tag inside a string of the library would end the page's script element.
    return Markup(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace(
            "</script", "<\\/script"
        )
    )


def as_json(spec: Spec) -> Markup:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(spec, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def genes(table: pl.DataFrame, model: str, null: str) -> Spec:
    """Plot the model's correlation against the null's, a dot per gene.

    The page's script fills the data `genes` from the catalogue, so that the page stores 20,820
    genes only once, and `hits` with the search results.

    Parameters
    ----------
    table : genes.parquet, for the limits of the axes.
    """
    values = table.select("r", f"r_{null}").drop_nulls().to_numpy()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    ends = alt.Scale(domain=[math.floor(20 * low) / 20, math.ceil(20 * high) / 20], nice=False)
    axis = alt.Axis(tickCount=8)
    x = alt.X("null:Q", title=f"correlation of {null}", scale=ends, axis=axis)
    y = alt.Y("r:Q", title=f"correlation of {model}", scale=ends, axis=axis)
    tooltip = [
        alt.Tooltip("gene:N", title="Gene"),
        alt.Tooltip("r:Q", title=model, format=".3f"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("null:Q", title=null, format=".3f"),
        alt.Tooltip("fdr:Q", title="FDR", format=".2g"),
    ]
    fdr_colors = alt.Scale(domain=["FDR below 5 %", "FDR above 5 %"], range=[BLUE, "#9AA0A8"])
    dots = (
        alt.Chart(alt.NamedData("genes"))
        .mark_circle(opacity=0.55, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=alt.Color("found:N", scale=fdr_colors, title=None),
            size=alt.condition("length(data('genes')) > 4000", alt.value(14), alt.value(30)),
            tooltip=tooltip,
        )
    )
    hits = (
        alt.Chart(alt.NamedData("hits"))
        .mark_point(color=ORANGE, size=70, strokeWidth=2, cursor="pointer")
        .encode(x=x, y=y, tooltip=tooltip)
    )
    return _finish(alt.layer(_diagonal(-1, 1), _zero_line("x"), _zero_line("y"), dots, hits), 440)


def models(summary: pl.DataFrame, model: str, sets: Sequence[str]) -> Spec:
    """Plot the correlation of every model with its interval; the reader chooses the gene set."""
    names = model_labels.ordered_models(summary, model)
    rows = []
    for name, gene_set, value, low, high in (
        summary.filter((pl.col("metric") == "pcc") & pl.col("value").is_not_null())
        .select("model", "gene_set", "value", "low", "high")
        .iter_rows()
    ):
        if name in names:
            kind = KINDS[model_labels.model_kind(name, model)][0]
            title = model_labels.gene_set_title(gene_set)
            row = {"model": name, "kind": kind, "set": title, "r": value}
            rows.append(row | {"low": low, "high": high})
    floors = [
        {"set": model_labels.gene_set_title(gene_set), "low": low, "high": high}
        for gene_set, low, high in summary.filter(
            (pl.col("metric") == "pcc_floor") & (pl.col("model") == model)
        )
        .select("gene_set", "low", "high")
        .drop_nulls()
        .iter_rows()
    ]
    chosen, keep = _chooser([model_labels.gene_set_title(name) for name in sets])
    used = {row["kind"] for row in rows}
    base = alt.Chart(_data(rows)).transform_filter(keep)
    y = alt.Y("model:N", sort=names, title=None, scale=alt.Scale(domain=names))
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("r:Q", title="PCC", format=".3f"),
        alt.Tooltip("low:Q", title="95 % from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]
    color, shape = _kinds(KINDS, used)
    band = (
        alt.Chart(_data(floors))
        .transform_filter(keep)
        .mark_rect(color="#E6E9ED")
        .encode(x=alt.X("low:Q", title="PCC over patients, 95 % interval"), x2="high:Q")
    )
    spans = base.mark_rule(strokeWidth=2.5).encode(
        y=y, x=alt.X("low:Q"), x2="high:Q", color=color, tooltip=tooltip
    )
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=y, x=alt.X("r:Q"), color=color, shape=shape, tooltip=tooltip
    )
    whole = alt.layer(band, _zero_line("x"), spans, dots).add_params(chosen)
    return _finish(whole, 24 * max(len(names), 4) + 20)


def reliability(calibration: pl.DataFrame, sets: Sequence[str]) -> Spec:
    """Plot observed against nominal coverage; a click on the legend selects a gene set."""
    table = calibration.filter(
        (pl.col("quantity") == "coverage")
        & (pl.col("within") == "pooled")
        & (pl.col("kind") == "draws")
    )
    names = [name for name in sets if name in set(table["gene_set"])]
    rows = [
        {"set": model_labels.gene_set_title(row["gene_set"]), "n": row["n"]}
        | {key: row[key] for key in ("nominal", "covered", "low", "high")}
        for row in table.to_dicts()
        if row["gene_set"] in names and row["covered"] is not None
    ]
    titles = [model_labels.gene_set_title(name) for name in names]
    picked = alt.selection_point(fields=["set"], bind="legend")
    colors = [BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, INK, GREY]
    color = alt.Color(
        "set:N",
        title="click to select",
        legend=alt.Legend(columns=4),
        scale=alt.Scale(domain=titles, range=[colors[i % 8] for i in range(len(titles))]),
    )
    faded = alt.condition(picked, alt.value(1), alt.value(0.1))
    axis = alt.Scale(domain=[0, 1])
    x = alt.X("nominal:Q", title="nominal coverage", scale=axis)
    tooltip = [
        alt.Tooltip("set:N", title="Genes"),
        alt.Tooltip("nominal:Q", title="Nominal", format=".2f"),
        alt.Tooltip("covered:Q", title="Measured values inside", format=".3f"),
        alt.Tooltip("low:Q", title="95 % from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]
    y = alt.Y("covered:Q", title="measured values inside", scale=axis)
    base = alt.Chart(_data(rows)).encode(x=x, color=color, opacity=faded, tooltip=tooltip)
    lines = base.mark_line(strokeWidth=1.6).encode(y=y)
    spans = base.mark_rule(strokeWidth=1.6).encode(y=alt.Y("low:Q"), y2="high:Q")
    dots = base.mark_circle(size=55, opacity=1).encode(y=y).add_params(picked)
    return _finish(alt.layer(_diagonal(0, 1), lines, spans, dots), 330)


def ablations(section: AblationSection) -> Spec:
    """Plot differences of every variant to the base, of points or of draws, on a gene set."""
    kinds = {"difference": "point", "drawn": "mean of draws"}
    rows, order, views = [], [], []
    for place, gene_set in enumerate(section["sets"]):
        for kind, words in kinds.items():
            view = f"{model_labels.gene_set_title(gene_set)}, {words}"
            for row in section["rows"]:
                cell, tone = row[kind][place]
                if cell is None or cell["value"] is None:
                    continue
                order.append(row["variant"])
                views.append(view)
                rows.append(
                    {"view": view, "variant": row["variant"], "group": row["group"]}
                    | {"kind": TONES[tone or "open"][0], "value": cell["value"]}
                    | {"low": cell["low"], "high": cell["high"]}
                )
    names = list(dict.fromkeys(order))
    chosen, keep = _chooser(list(dict.fromkeys(views)), "view", "Shown")
    color, shape = _kinds(TONES, {row["kind"] for row in rows})
    y = alt.Y("variant:N", sort=names, title=None, scale=alt.Scale(domain=names))
    tooltip = [
        alt.Tooltip("variant:N", title="Variant"),
        alt.Tooltip("group:N", title="Changes"),
        alt.Tooltip("value:Q", title="PCC minus base", format="+.3f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.3f"),
        alt.Tooltip("high:Q", title="to", format="+.3f"),
    ]
    base = alt.Chart(_data(rows)).transform_filter(keep)
    spans = base.mark_rule(strokeWidth=2.5).encode(
        y=y,
        x=alt.X("low:Q", title="PCC, variant minus base, 95 % interval"),
        x2="high:Q",
        color=color,
        tooltip=tooltip,
    )
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=y, x=alt.X("value:Q"), color=color, shape=shape, tooltip=tooltip
    )
    whole = alt.layer(_zero_line("x"), spans, dots).add_params(chosen)
    return _finish(whole, 24 * max(len(names), 3) + 20)


def _data(rows: list[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=[{k: _short(v) for k, v in row.items()} for row in rows])


def _short(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def _chooser(
    options: list[str], field: str = "set", label: str = "Genes"
) -> tuple[alt.Parameter, Any]:
    """Return a drop-down list, and the filter for the chosen option."""
    param = alt.param(
        name="chosen", value=options[0], bind=alt.binding_select(options=options, name=f"{label} ")
    )
    return param, f"datum.{field} === chosen"


def _kinds(kinds: dict[str, tuple[str, str, str]], used: set[str]) -> tuple[Any, Any]:
    """Return colour and shape by kind: shape too, so that colour is never the only sign."""
    entries = [entry for entry in kinds.values() if entry[0] in used]
    domain = [word for word, _, _ in entries]
    color = alt.Scale(domain=domain, range=[color for _, color, _ in entries])
    shape = alt.Scale(domain=domain, range=[shape for _, _, shape in entries])
    # Three entries fit on one line of a phone.
    legend = alt.Legend(title=None, columns=3 if len(domain) < 4 else 2)
    return (
        alt.Color("kind:N", scale=color, legend=legend),
        alt.Shape("kind:N", scale=shape, legend=legend),
    )


def _zero_line(axis: str) -> alt.Chart:
    rule = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color="#9AA0A8")
    return rule.encode(**{axis: alt.datum(0)})


def _diagonal(low: float, high: float) -> alt.Chart:
    """Draw the line of equality."""
    line = alt.Chart(alt.InlineData(values=[{"a": low}, {"a": high}]))
    return line.mark_line(color=GREY, strokeDash=[5, 4], strokeWidth=1.2, clip=True).encode(
        x=alt.X("a:Q"), y=alt.Y("a:Q")
    )


def _finish(chart: Any, height: int) -> Spec:
    """Set the page's column width and fonts, and return the specification."""
    text = {"labelFontSize": 12, "titleFontSize": 12.5, "titleFontWeight": 400}
    configured = (
        chart.properties(width="container", height=height)
        # A screen reader would read a list of marks; the table next to it has the same numbers.
        .configure(font=FONT, background="#ffffff", aria=False)
        .configure_mark(aria=False)
        .configure_axis(labelColor="#50555E", titleColor=INK, gridColor="#E8EAED", **text)
        .configure_legend(labelFontSize=12, titleFontSize=12, orient="bottom", symbolSize=80)
        .configure_view(stroke=None)
    )
    spec: Spec = configured.to_dict()
    # The address of the schema, which drawing doesn't need.
    spec.pop("$schema", None)
    return spec
