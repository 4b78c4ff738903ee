"""Captions for expression maps: reliability of the gene or gene set, and of the slide."""

from __future__ import annotations

import re
from typing import TypedDict

import numpy as np
import polars as pl

from slide2rna.core.types import Array
from slide2rna.maps.targets import Targets
from slide2rna.package import training_slides
from slide2rna.package.predictor import Predictor
from slide2rna.package.training_slides import TrainingFacts
from slide2rna.studies.shift import decision

# Share of the sd between training samples. A map that spans less is called flat, and its colour
# scale spans at least this much: a flat map stretched to its range would seem to have structure.
FLAT_SHARE = 0.25
UNITS = {"gene": "log2(x + 1)", "pathway": "score"}


class MapRow(TypedDict):
    """A mapped gene or gene set, as maps.json lists it.

    Attributes
    ----------
    kind : gene or pathway.
    name, title : as in the model, and for display.
    picture : file name.
    r, r_low, r_high, reliability : on test patients; see `Predictor.gene_table`.
    gap : of a gene with the mixture head, see `MixtureMaps`.
    low, high : 1st and 99th percentile over tiles.
    train_sd : sd between the training samples.
    """

    kind: str
    name: str
    title: str
    picture: str
    r: float | None
    r_low: float | None
    r_high: float | None
    reliability: str
    gap: float | None
    low: float
    high: float
    train_sd: float | None


def map_rows(
    predictor: Predictor, targets: Targets, maps: dict[str, Array], gaps: Array | None = None
) -> list[MapRow]:
    """Return a row per mapped gene and gene set, with the file name of its picture.

    Parameters
    ----------
    maps : from `window_predictions.combine`.
    gaps : of the genes, with the mixture head.
    """
    used: set[str] = set()
    rows: list[MapRow] = []
    for column, (kind, name) in enumerate(targets.keys):
        if kind == "gene":
            table = predictor.gene_table.filter(pl.col("gene") == name)
            table = table.with_columns(train_sd="sd")
        else:
            table = predictor.pathway_table.filter(pl.col("pathway") == name)
        test_row = table.row(0, named=True)
        file = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
        while file.casefold() in used:
            file += f"_{kind}"
        used.add(file.casefold())
        values = maps["mean"][maps["n_windows"] > 0, column]
        low, high = (float(end) for end in np.quantile(values, [0.01, 0.99]))
        rows.append(
            {
                "kind": kind,
                "name": name,
                "title": targets.titles[kind, name],
                "picture": f"{file}.png",
                "r": test_row["r"],
                "r_low": test_row["r_low"],
                "r_high": test_row["r_high"],
                "reliability": test_row["reliability"],
                "gap": float(gaps[column]) if gaps is not None and kind == "gene" else None,
                "low": low,
                "high": high,
                "train_sd": test_row["train_sd"],
            }
        )
    return rows


def describe_reliability(row: MapRow) -> str:
    """Describe a map's reliability: correlation between test patients, and whether it is flat."""
    if row["r"] is None:
        text = "The correlation between test patients is unknown"
    else:
        text = f"Correlation between test patients: r = {row['r']:.2f}"
        if row["r_low"] is not None:
            text += f" (95 % interval {row['r_low']:.2f} to {row['r_high']:.2f})"
        text += f"; reliability: {row['reliability']}"
    span = row["high"] - row["low"]
    text += f". Differences within a slide weren't tested. The map spans {span:.2g}"
    text += " log2 units" if row["kind"] == "gene" else " of the score"
    if not row["train_sd"]:
        return f"{text}."
    share = span / row["train_sd"]
    text += f", {100 * share:.{0 if share >= 0.1 else 1}f} % of the sd between training samples"
    return f"{text}: it is nearly flat." if share < FLAT_SHARE else f"{text}."


def caption(row: MapRow, facts: TrainingFacts, shift: decision.ShiftDecision, folds: int) -> str:
    """Return the lines below a picture; they are complete if the picture is shown alone."""
    lines = []
    if facts["trained_folds"] is not None:
        lines.append(
            training_slides.in_sample_note(facts["trained_folds"], folds, facts["trained_as"])
        )
    if shift["shifted"]:
        lines.append(f"{decision.UNLIKE}: {decision.ADVICE}.")
    if row["gap"] is not None:
        lines.append(
            "The tiles add up to the bulk prediction in linear scale; before scaling they were "
            f"{row['gap']:+.2f} log2 units off."
        )
    return "\n".join([*lines, describe_reliability(row)])
