"""What is told of each map beside its picture: how far its name and its slide can be relied on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.maps.targets import Targets
from slide2rna.package import training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.studies.shift import decision

# Of the sd between training samples. A map that spans less is called flat, and its colours stand
# for so much at least: stretched to its own range, any map looks as if it had structure.
FLAT_SHARE = 0.25
UNITS = {"gene": "log2(x + 1)", "pathway": "score"}


def map_rows(
    predictor: Predictor, targets: Targets, found: dict[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """What is known of each mapped gene and gene set, and the name of its picture.

    `low` and `high` are the 1st and 99th percentile over tiles, `train_sd` the sd between the
    training samples.
    """
    taken: set[str] = set()
    made = []
    for place, (kind, name) in enumerate(targets.keys):
        if kind == "gene":
            table = predictor.gene_table.filter(pl.col("gene") == name)
            table = table.with_columns(train_sd="sd")
        else:
            table = predictor.pathway_table.filter(pl.col("pathway") == name)
        known = table.row(0, named=True)
        file = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
        while file.casefold() in taken:
            file += f"_{kind}"
        taken.add(file.casefold())
        own = found["mean"][found["n_windows"] > 0, place]
        low, high = (float(end) for end in np.quantile(own, [0.01, 0.99]))
        title = targets.titles[kind, name]
        made.append(
            {"kind": kind, "name": name, "title": title, "picture": f"{file}.png"}
            | {field: known[field] for field in ("r", "r_low", "r_high", "reliability")}
            | {"low": low, "high": high, "train_sd": known["train_sd"]}
        )
    return made


def reliability(row: dict[str, Any]) -> str:
    """What to think of a map: how well its name tells patients apart, and if it is flat."""
    if row["r"] is None:
        told = "How well predictions tell patients apart isn't known"
    else:
        told = f"Between test patients, predicted and measured values have r = {row['r']:.2f}"
        if row["r_low"] is not None:
            told += f" (95 % interval {row['r_low']:.2f} to {row['r_high']:.2f})"
        told += f"; reliability: {row['reliability']}"
    span = row["high"] - row["low"]
    told += f". Places within a slide weren't tested. The map spans {span:.2g}"
    told += " log2 units" if row["kind"] == "gene" else " of the score"
    if not row["train_sd"]:
        return f"{told}."
    share = span / row["train_sd"]
    told += f", {100 * share:.{0 if share >= 0.1 else 1}f} % of the sd between training samples"
    return f"{told}: it is nearly flat." if share < FLAT_SHARE else f"{told}."


def caption(row: dict[str, Any], facts: dict[str, Any], shift: dict[str, Any], folds: int) -> str:
    """The lines below a picture, which may be shown without all else."""
    lines = []
    if facts["trained_folds"] is not None:
        lines.append(
            training_slides.in_sample_note(facts["trained_folds"], folds, facts["trained_as"])
        )
    if shift["shifted"]:
        lines.append(f"{decision.UNLIKE}: {decision.THEN}.")
    return "\n".join([*lines, reliability(row)])
