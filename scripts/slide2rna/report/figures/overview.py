"""Overview figures: example genes, correlations, calibration, training, cohort flow, slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from PIL import Image

from slide2rna.core.types import Row
from slide2rna.pages.numbers import format_number
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
    styled,
)


@styled
def examples(table: pl.DataFrame, genes: pl.DataFrame) -> Figure:
    """Plot predicted against measured values of the genes that validation ranks best."""
    names = table.sort("rank")["gene"].unique(maintain_order=True).to_list()
    figure, axes = axes_for(len(names), 9.6, 3.1, columns=min(3, len(names)))
    r = dict(genes.select("gene", "r").iter_rows())
    for axis, name in zip(axes, names, strict=True):
        rows = table.filter(pl.col("gene") == name)
        x, y = rows["measured"].to_numpy(), rows["point"].to_numpy()
        low, high = rows["low90"].to_numpy(), rows["high90"].to_numpy()
        axis.vlines(x, low, high, color=SKY, alpha=0.55, linewidth=1.1)
        axis.plot(x, y, "o", color=BLUE, markersize=3.4, markeredgewidth=0)
        values = np.concatenate([x, y])
        ends = [float(np.nanmin(values)), float(np.nanmax(values))]
        axis.plot(ends, ends, color=GREY, linewidth=1, linestyle="--")
        pcc = r.get(name)
        axis.set_title(name if pcc is None else f"{name}  r = {format_number(pcc, 2)}")
        axis.set_xlabel("measured, log2(x+1)")
        axis.set_ylabel("predicted")
    return figure


@styled
def pcc_histogram(genes: pl.DataFrame) -> Figure:
    """Plot correlations of all genes, and the same after permuting the patients' profiles."""
    figure, (axis,) = axes_for(1, 6.4, 3.4)
    r, floor = genes["r"].drop_nulls().to_numpy(), genes["r_floor"].drop_nulls().to_numpy()
    values = np.concatenate([r, floor, [0.0]])
    bins = np.linspace(values.min(), max(values.max(), values.min() + 0.1), 61).tolist()
    axis.hist(floor, bins, color="#C9CDD3", label="profiles permuted")
    axis.hist(r, bins, histtype="step", color=BLUE, linewidth=1.8, label="model")
    axis.axvline(0, color="#9AA0A8", linewidth=0.8)
    axis.set_xlabel("PCC per gene (folds combined by Fisher z)")
    axis.set_ylabel("genes")
    axis.legend(fontsize=8.5)
    return figure


@styled
def pit(calibration: pl.DataFrame, gene_sets: Sequence[str]) -> Figure:
    """Plot the probability integral transform as a histogram: flat for a calibrated model."""
    figure, axes = axes_for(len(gene_sets), 4.6, 2.15, columns=1)
    for axis, name in zip(axes, gene_sets, strict=True):
        rows = calibration.filter((pl.col("quantity") == "pit") & (pl.col("gene_set") == name))
        rows = rows.sort("interval")
        edges, share = rows["interval"].to_numpy(), rows["covered"].to_numpy()
        ends = np.abs(np.stack([rows["low"].to_numpy(), rows["high"].to_numpy()]) - share)
        width = 1 / len(edges)
        axis.bar(edges - width / 2, share / width, width * 0.92, color=SKY)
        axis.errorbar(
            edges - width / 2,
            share / width,
            yerr=ends / width,
            fmt="none",
            color=INK,
            linewidth=0.8,
        )
        axis.axhline(1, color=ORANGE, linestyle="--", linewidth=1.2)
        axis.set_ylabel("density")
        axis.set_title("All genes" if name == "all" else name)
    axes[-1].set_xlabel("rank of the measured value among the draws")
    return figure


@styled
def training(logs: dict[int, pl.DataFrame]) -> Figure:
    """Plot train and val loss of every fold."""
    figure, axes = axes_for(2, 9.0, 3.2)
    for axis, column, title in zip(
        axes, ("train_loss", "val_loss"), ("Train loss", "Val loss (averaged weights)"), strict=True
    ):
        for (fold, log), color in zip(
            sorted(logs.items()), 4 * (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY), strict=False
        ):
            axis.plot(log["epoch"], log[column], color=color, linewidth=1.3, label=f"fold {fold}")
        axis.set_xlabel("epoch")
        axis.set_ylabel("loss")
        axis.set_title(title)
    axes[1].legend(fontsize=8, ncols=2 if len(logs) > 5 else 1)
    return figure


@styled
def flow(steps: Sequence[Row]) -> Figure:
    """Plot slides and patients left after each step of the cohort."""
    figure, (axis,) = axes_for(1, 7.6, 0.9 + 0.42 * max(len(steps), 1))
    y = np.arange(len(steps))[::-1]
    slides = [step["slides"] for step in steps]
    patients = [step["patients"] for step in steps]
    axis.barh(y + 0.19, slides, 0.36, color=BLUE, label="slides")
    axis.barh(y - 0.19, patients, 0.36, color=SKY, label="patients")
    for row, (n_slides, n_patients) in zip(y, zip(slides, patients, strict=True), strict=True):
        axis.text(n_slides, row + 0.19, f" {n_slides}", va="center", fontsize=8)
        axis.text(n_patients, row - 0.19, f" {n_patients}", va="center", fontsize=8)
    axis.set_yticks(y, [step["step"] for step in steps])
    axis.grid(axis="y", visible=False)
    axis.set_xlim(0, max([1, *slides, *patients]) * 1.1)
    figure.legend(loc="outside lower right", ncols=2, fontsize=8.5)
    return figure


@styled
def gallery(pictures: dict[str, Path]) -> Figure:
    """Show slides with their tissue mask and their tiles."""
    columns = min(4, len(pictures))
    figure, axes = axes_for(len(pictures), 2.5 * columns, 2.3, columns=columns)
    for axis, (name, path) in zip(axes, pictures.items(), strict=True):
        with Image.open(path) as image:
            image.thumbnail((420, 420))
            axis.imshow(np.asarray(image.convert("RGB")))
        axis.set_title(name, fontsize=8)
        axis.axis("off")
    return figure
