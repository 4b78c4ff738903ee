"""External validation page: scores of model and nulls on a second cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.pages import html
from slide2rna.report.figures import models_chart, vega
from slide2rna.report.sections import verdict
from slide2rna.report.sections.results import coverage, with_value
from slide2rna.storage import parquet
from slide2rna.studies.external.external import ExternalFacts


def write(facts: ExternalFacts, out: str | Path) -> Path:
    """Draw the figure and write index.html from the tables in `out`; return its path.

    Parameters
    ----------
    facts
        The result of `studies.external.external.evaluate`.
    """
    out = Path(out)
    summary = parquet.read(out / "summary.parquet")
    calibration = parquet.read(out / "calibration.parquet")
    model, sets = facts["model"], facts["sets"]
    figure_sets = [*dict.fromkeys([*labels.shown_sets(sets), *sets[-1:]])]
    spec = models_chart.files(summary, model, figure_sets)
    rows = {
        "results": results(summary, model, sets),
        "differences": differences(summary, model, sets),
        "coverage": coverage(calibration, sets) if calibration.height else [],
        "absent": summary.filter(pl.col("metric") == "absent").select("model", "note").to_dicts(),
    }
    context: dict[str, Any] = {
        "version": __version__,
        "figure": {"models": html.picture(vega.save(spec, out / "figures", "models"))},
        "genes_fdr": with_value(
            labels.pick(summary, model=model, metric="genes_fdr05", gene_set="all")
        ),
        "note": _note(summary, model),
    }
    context |= {**facts, **rows}
    files.write_text(html.render("pages/external.html.j2", context), out / "index.html")
    return out / "index.html"


def results(summary: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    """Return a row per model: PCC per gene set, and RMSE as a ratio to the training mean's."""

    def pick(name: str, metric: str, gene_set: str) -> Row | None:
        return labels.pick(summary, model=name, metric=metric, gene_set=gene_set)

    return [
        {
            "name": name,
            "kind": labels.model_kind(name, model),
            "words": labels.model_description(name),
            "cells": [pick(name, "pcc", gene_set) for gene_set in sets],
            "ratio": pick(name, "rmse_ratio", "all"),
        }
        for name in labels.ordered_models(summary, model)
    ]


def differences(summary: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    """Return the model minus each other model, paired over patients; a cell is (row, tone)."""
    prefix = "pcc_minus:"
    table = summary.filter((pl.col("model") == model) & pl.col("metric").str.starts_with(prefix))
    rows = []
    for metric in table["metric"].unique(maintain_order=True):
        cells = [labels.pick(table, metric=metric, gene_set=name) for name in sets]
        toned = [(cell, verdict.tone(cell) or "open") for cell in cells]
        rows.append({"name": metric.removeprefix(prefix), "cells": toned})
    return rows


def _note(summary: pl.DataFrame, model: str) -> str:
    row = labels.pick(summary, model=model, metric="pcc", gene_set="all")
    return str(row["note"] or "") if row else ""
