"""Leak audit: its figure and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slide2rna.pages.numbers import format_number
from slide2rna.report.figures import style
from slide2rna.storage import parquet
from slide2rna.studies.leak_audit.pairings import CLEAN, PUBLISHED
from slide2rna.studies.leak_audit.table import TEST_SUFFIX

COLORS = {CLEAN: style.BLUE, PUBLISHED: style.ORANGE}
SHIFT = {CLEAN: -0.17, PUBLISHED: 0.17}


def write(table: pl.DataFrame, info: dict[str, Any], out: str | Path) -> None:
    """Write audit.parquet, leak_audit.svg and leak_audit.png into `out`; the table is last."""
    style.save(figure(table, str(info["name"])), out, "leak_audit")
    stamp = {"cohort": info["name"]}
    parquet.write_stamped(table, Path(out) / "audit.parquet", stamp, info.get("caveat"))


@style.styled
def figure(table: pl.DataFrame, cohort: str) -> Figure:
    """Plot each model under both pairings: a dot per run, a line for the mean, and the gain.

    Two panels: all genes, and the largest T-k ranked by the pooled test patients, where the
    clean pairing shows the gain from ranking by test without any leak.
    """
    scored = table.filter(pl.col("value").is_not_null())
    names = scored["model"].unique(maintain_order=True).to_list()
    sets = [("all", "all genes")]
    largest = next((s for s in scored["gene_set"] if s.endswith(TEST_SUFFIX)), None)
    if largest:
        sets.append((largest, f"{largest.removesuffix(TEST_SUFFIX)} ranked by the test patients"))
    size = (max(5.0, 1.6 * len(names) + 1.4) * (0.62 * len(sets) + 0.38), 4.0)
    drawing, axes = plt.subplots(1, len(sets), figsize=size, sharey=True, squeeze=False)
    for axis, (gene_set, title) in zip(axes[0], sets, strict=True):
        for place, name in enumerate(names):
            rows = scored.filter((pl.col("model") == name) & (pl.col("gene_set") == gene_set))
            _draw_pairings(axis, place, rows)
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.set_title(title)
        axis.axhline(0, color=style.INK, linewidth=0.8)
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("mean correlation per gene, test patients")
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(low, high + 0.12 * (high - low))
    runs = scored.filter((pl.col("model") == names[0]) & (pl.col("gene_set") == "all"))
    for pairing in (CLEAN, PUBLISHED):
        total = runs.filter((pl.col("pairing") == pairing) & pl.col("fold").is_null())
        n, leaked = total.select("n_test", "n_shared").row(0)
        label = f"{pairing}: {leaked} of {n} test patients also in training"
        axes[0, 0].plot([], [], "o", color=COLORS[pairing], label=label)
    drawing.legend(loc="outside lower center", ncols=2)
    drawing.suptitle(f"{cohort}: effect of the published fold pairing", x=0.01, ha="left")
    return drawing


def _draw_pairings(axis: Axes, place: int, rows: pl.DataFrame) -> None:
    means, top = {}, 0.0
    for pairing in (CLEAN, PUBLISHED):
        paired = rows.filter(pl.col("pairing") == pairing)
        dots = paired.filter(pl.col("fold").is_not_null()).sort("fold")["value"].to_numpy()
        mean = paired.filter(pl.col("fold").is_null()).row(0, named=True)
        x = place + SHIFT[pairing]
        spread = np.linspace(-0.07, 0.07, len(dots)) if len(dots) > 1 else np.zeros(len(dots))
        axis.plot(x + spread, dots, "o", color=COLORS[pairing], alpha=0.55, markersize=4)
        axis.hlines(mean["value"], x - 0.13, x + 0.13, color=COLORS[pairing], linewidth=2.5)
        if mean["low"] is not None:
            axis.vlines(x, mean["low"], mean["high"], color=COLORS[pairing], linewidth=1.2)
        means[pairing], top = mean["value"], max(top, *dots)
    before, after = (format_number(means[pairing], 2) for pairing in (CLEAN, PUBLISHED))
    gained = format_number(means[PUBLISHED] - means[CLEAN], 2, signed=True)
    axis.annotate(
        f"{before} → {after}\n{gained}",
        (place, top),
        textcoords="offset points",
        xytext=(0, 6),
        ha="center",
        va="bottom",
        fontsize=8.5,
    )
