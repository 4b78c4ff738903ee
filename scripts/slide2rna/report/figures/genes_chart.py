"""Chart of genes: the model's correlations against a null's, a dot per gene.

Only the page has it: the files show the genes as pixels, see `comparisons.gene_nulls`.
"""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from slide2rna.report.figures import vega
from slide2rna.report.figures.style import BLUE, ORANGE


def page(table: pl.DataFrame, model: str, null: str) -> vega.Spec:
    """Plot the model's correlation against the null's, a dot per gene.

    The page's script fills the data `genes` from the catalogue, so that the page stores 20,820
    genes only once, and `hits` with the search results.

    Parameters
    ----------
    table : genes.parquet, for the limits of the axes.
    """
    values = table.select("r", f"r_{null}").drop_nulls().to_numpy()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low, high = math.floor(20 * low) / 20, math.ceil(20 * high) / 20
    ends = alt.Scale(domain=[low, high], nice=False)
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
    lines = [vega.diagonal(low, high), vega.zero_line("x"), vega.zero_line("y")]
    return vega.for_page(alt.LayerChart(layer=[*lines, dots, hits]), 440)
