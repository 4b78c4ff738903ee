"""Chart of ablations: difference of every variant to the base, of points and of draws."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import vega
from slide2rna.report.figures.style import GREEN, INK, ORANGE
from slide2rna.report.sections import ablations as ablation_section
from slide2rna.report.sections.ablations import AblationSection

TONES = {
    "good": ("better than base", GREEN, "triangle-up"),
    "bad": ("worse than base", ORANGE, "triangle-down"),
    "open": ("unclear", vega.DARK, "circle"),
}
KINDS = {"difference": "point", "drawn": "mean of draws"}
PANEL_PX = 230


def write_ablations(table: pl.DataFrame, out: str | Path) -> None:
    """Draw the table of ablations, of at least one row, as ablations.png and ablations.svg."""
    section = ablation_section.ablations(table)
    assert section is not None
    vega.save(files(section), out, "ablations")


def page(section: AblationSection) -> vega.Spec:
    """Plot points or draws on one gene set, which the reader chooses."""
    rows = _rows(section)
    views = [f"{title}, {kind}" for title in _titles(section) for kind in _kinds(section)]
    chosen, keep = vega.chooser(views, "Shown")
    return vega.for_page(_layers(rows, keep).add_params(chosen), _height(rows))


def files(section: AblationSection) -> vega.Spec:
    """Plot a panel per gene set: of points, then of draws."""
    rows, kinds = _rows(section), _kinds(section)
    panels: dict[str, alt.LayerChart] = {}
    for kind in kinds:
        for title in _titles(section):
            heading = f"{kind.capitalize()}\n{title}" if len(kinds) > 1 else title
            keep = vega.view_filter(f"{title}, {kind}")
            panels[heading] = _layers(rows, keep, named=not panels)
    return vega.for_files(panels, PANEL_PX, _height(rows))


def _titles(section: AblationSection) -> list[str]:
    return [labels.gene_set_title(name) for name in section["sets"]]


def _kinds(section: AblationSection) -> list[str]:
    return [words for kind, words in KINDS.items() if kind == "difference" or section["drawn"]]


def _rows(section: AblationSection) -> list[Row]:
    """Return a row per difference, in the order of the variants."""
    return [
        {"view": f"{title}, {words}", "variant": row["variant"], "group": row["group"]}
        | {"kind": TONES[tone or "open"][0]}
        | {key: cell[key] for key in ("value", "low", "high")}
        for row in section["rows"]
        for kind, words in KINDS.items()
        for title, (cell, tone) in zip(_titles(section), row[kind], strict=True)
        if cell is not None and cell["value"] is not None
    ]


def _variant_rows(rows: list[Row]) -> list[str]:
    groups = {row["variant"]: row["group"] for row in rows}
    return vega.grouped_rows([*groups], [*groups.values()])


def _height(rows: list[Row]) -> int:
    return vega.ROW_PX * len(_variant_rows(rows))


def _layers(rows: list[Row], keep: str, named: bool = True) -> alt.LayerChart:
    """Draw the rows that the filter keeps, with the variants' names if `named`."""
    axis = alt.Axis(labels=named, ticks=False)
    color, shape = vega.kind_channels(TONES, {row["kind"] for row in rows})
    base = (
        alt.Chart(vega.inline(rows))
        .transform_filter(keep)
        .encode(
            y=vega.row_axis("variant", _variant_rows(rows), axis),
            color=color,
            tooltip=[
                alt.Tooltip("variant:N", title="Variant"),
                alt.Tooltip("group:N", title="Changes"),
                alt.Tooltip("value:Q", title="PCC minus base", format="+.3f"),
                alt.Tooltip("low:Q", title="95 % from", format="+.3f"),
                alt.Tooltip("high:Q", title="to", format="+.3f"),
            ],
        )
    )
    marks = vega.interval_layers(base, shape, "PCC, variant minus base")
    return alt.LayerChart(layer=[vega.zero_line("x", INK), *marks])
