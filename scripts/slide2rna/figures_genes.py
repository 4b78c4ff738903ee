"""Figures of single genes: what a model adds, gene by gene, to the best null."""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure

from slide2rna.figures import BLUE, GREY, axes_for, styled


@styled
def gene_nulls(genes: pl.DataFrame, model: str, null: str) -> Figure:
    """Correlation of the model against the null's, a dot per gene."""
    columns = ["r", f"r_{null}", "fdr"]
    table = genes.select(columns).filter(
        pl.col("r").is_not_null() & pl.col(f"r_{null}").is_not_null()
    )
    figure, (axis,) = axes_for(1, 5.6, 5.0)
    found = pl.col("fdr").fill_null(1.0) < 0.05
    size = 3.0 if table.height > 4000 else 7.0
    for part, color, words in (
        (table.filter(~found), "#9AA0A8", "FDR above 5 %"),
        (table.filter(found), BLUE, "FDR below 5 %"),
    ):
        if part.height:
            # Dots as pixels even in SVG: 20,820 of them as paths would be megabytes.
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
