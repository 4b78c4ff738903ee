"""Vega-Lite charts: their shared layers, their look on a page and in files, and their files.

A page and the files of a figure get the same layers: the page one view that the reader chooses,
with tooltips; the files every view as a panel. Neither needs a network.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import matplotlib
from markupsafe import Markup
from PIL import Image

from slide2rna.core.files import atomic, write_text
from slide2rna.report.figures.style import GREY, INK

Spec = dict[str, Any]
# Marks on the grey band of the noise floor need a darker grey than marks on white.
DARK = "#6F757E"
# Fonts of the page whose names need no quotes: quoted names would break the text measurement.
FONT = "Segoe UI, Helvetica Neue, Arial, DejaVu Sans, sans-serif"
# The font of the other figures, which matplotlib brings, so that files are the same everywhere.
FILE_FONT = "DejaVu Sans, Verdana, sans-serif"
# Height of a row. A height in steps instead would make Vega-Lite warn in the page's console.
ROW_PX = 20
# PNG pixels per CSS pixel, as in the other figures: 150 dpi, displayed at 100.
SCALE = 1.5


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


def inline(rows: Sequence[dict[str, Any]]) -> alt.InlineData:
    """Return rows as data of a specification, with rounded numbers."""
    return alt.InlineData(values=[{k: _rounded(v) for k, v in row.items()} for row in rows])


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def chooser(options: Sequence[str], label: str) -> tuple[alt.Parameter, str]:
    """Return a drop-down list of views, and the filter for the chosen one."""
    bind = alt.binding_select(options=list(options), name=f"{label} ")
    return alt.param(name="chosen", value=options[0], bind=bind), "datum.view === chosen"


def view_filter(view: str) -> str:
    """Return the filter for one view."""
    return f"datum.view === {json.dumps(view)}"


def grouped_rows(names: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return the names with an empty row, a name of blanks, where the group changes."""
    rows: list[str] = []
    for index, (name, group) in enumerate(zip(names, groups, strict=True)):
        if index and group != groups[index - 1]:
            rows.append(" " * index)
        rows.append(name)
    return rows


def row_axis(field: str, rows: list[str], axis: alt.Axis) -> alt.Y:
    """Return a y axis with these rows from top to bottom."""
    return alt.Y(f"{field}:N", title=None, scale=alt.Scale(domain=rows), axis=axis)


def kind_channels(
    kinds: dict[str, tuple[str, str, str]], used: set[str]
) -> tuple[alt.Color, alt.Shape]:
    """Return colour and shape by kind: shape too, so that colour is never the only sign."""
    entries = [entry for entry in kinds.values() if entry[0] in used]
    domain = [word for word, _, _ in entries]
    color = alt.Scale(domain=domain, range=[color for _, color, _ in entries])
    shape = alt.Scale(domain=domain, range=[shape for _, _, shape in entries])
    return (
        alt.Color("kind:N", scale=color, title=None),
        alt.Shape("kind:N", scale=shape, title=None),
    )


def interval_layers(base: alt.Chart, shape: alt.Shape, title: str) -> list[alt.Chart]:
    """Draw `value` as a mark on the interval from `low` to `high`, with an x axis of this title."""
    # Without the padding, intervals would end at the frame.
    scale, axis = alt.Scale(nice=False, padding=8), alt.Axis(tickCount=5, grid=True)
    low = alt.X("low:Q", title=title, scale=scale, axis=axis)
    spans = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2.5)
    dots = base.mark_point(filled=True, size=60, opacity=1)
    return [spans.encode(x=low, x2="high:Q"), dots.encode(x=alt.X("value:Q"), shape=shape)]


def zero_line(axis: str, color: str = "#9AA0A8") -> alt.Chart:
    """Draw a line at zero."""
    rule = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=color)
    return rule.encode(**{axis: alt.datum(0, type="quantitative")})


def diagonal(low: float, high: float) -> alt.Chart:
    """Draw the line of equality.

    It isn't clipped: ids of clip paths count up within a process, so equal files would differ.
    """
    line = alt.Chart(alt.InlineData(values=[{"a": low}, {"a": high}]))
    return line.mark_line(color=GREY, strokeDash=[5, 4], strokeWidth=1.2).encode(
        x=alt.X("a:Q"), y=alt.Y("a:Q")
    )


def for_page(chart: alt.LayerChart, height: int) -> Spec:
    """Return the specification of a chart as wide as its column on a page."""
    # Two entries fit on a line of a phone.
    return _specification(chart.properties(width="container", height=height), FONT, columns=2)


def for_files(panels: dict[str, alt.LayerChart], width: int, height: int) -> Spec:
    """Return the specification of panels side by side under their titles, with one legend.

    A title with a line break has two lines.
    """
    charts = [
        chart.properties(
            width=width, height=height, **({"title": title.split("\n")} if title else {})
        )
        for title, chart in panels.items()
    ]
    whole = alt.hconcat(*charts, spacing=24).resolve_scale(color="shared", shape="shared")
    return _specification(whole.properties(padding=8), FILE_FONT)


def _specification(chart: alt.LayerChart | alt.HConcatChart, font: str, **legend: int) -> Spec:
    text = {"labelFontSize": 12, "titleFontSize": 12.5, "titleFontWeight": 400}
    configured = (
        # A screen reader would read a list of marks; the table next to it has the same numbers.
        chart.configure(font=font, background="#ffffff", aria=False)
        .configure_mark(aria=False)
        .configure_axis(
            labelColor="#50555E",
            titleColor=INK,
            gridColor="#E8EAED",
            labelFlush=False,
            **text,
        )
        .configure_axisX(labelSeparation=10)
        .configure_axisY(labelPadding=6)
        .configure_legend(
            labelColor=INK,
            labelFontSize=12,
            titleFontSize=12,
            orient="bottom",
            symbolSize=80,
            **legend,
        )
        .configure_title(anchor="start", frame="group", color=INK, fontSize=13.5)
        .configure_view(stroke=None)
    )
    spec: Spec = configured.to_dict()
    # The address of the schema, which drawing doesn't need.
    spec.pop("$schema", None)
    return spec


@functools.cache
def _register_fonts() -> None:
    import vl_convert

    vl_convert.register_font_directory(str(Path(matplotlib.get_data_path(), "fonts", "ttf")))


def save(spec: Spec, folder: str | Path, name: str) -> Path:
    """Write PNG (150 dpi) and SVG; return the PNG's path. The same data give the same bytes."""
    import vl_convert

    _register_fonts()
    folder = Path(folder)
    svg = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    write_text(svg, folder / f"{name}.svg")
    with (
        Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=SCALE))) as image,
        atomic(folder / f"{name}.png") as partial,
    ):
        image.convert("RGB").save(partial, dpi=(150, 150), optimize=True)
    return folder / f"{name}.png"
