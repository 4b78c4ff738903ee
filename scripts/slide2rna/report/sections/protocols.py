"""Protocol section: rows of the published and the clean protocol, and the published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from slide2rna.core.root import ROOT
from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels

NUMBERS = ROOT / "resources" / "published" / "numbers.tsv"
# Tables 1 and 9 of the paper report cross-validation, 3 and 10 external validation.
MAIN_TABLES = ("1", "9", "3", "10")
STEPS = {
    "clean": "clean",
    "pooled-slides": "slides pooled over folds, instead of patients within folds",
    "test-ranked": "genes ranked by their test correlation",
    "one-draw": "one draw scored, instead of the posterior mean",
}
SHORT = {
    "clean": "clean",
    "pooled-slides": "slides pooled",
    "test-ranked": "ranked on test",
    "one-draw": "one draw",
}


class StepCell(TypedDict):
    """PCC after a step on a gene set, and its gain over the step before; None if missing."""

    gene_set: str
    value: float | None
    added: float | None


class ProtocolStep(TypedDict):
    """A departure from the clean protocol: name, long and short label, a cell per gene set."""

    name: str
    words: str
    short: str
    cells: list[StepCell]


def steps(summary: pl.DataFrame, model: str) -> list[ProtocolStep]:
    """Return the effect of each departure from the clean protocol, cumulatively, by gene set."""
    table = summary.filter(
        (pl.col("model") == model) & pl.col("metric").str.starts_with("pcc_step:")
    )
    sets = labels.gene_sets(table) if table.height else []
    rows: list[ProtocolStep] = []
    for key in sorted(table["metric"].unique()):
        name = key.removeprefix("pcc_step:").partition("-")[2]
        cells: list[StepCell] = []
        for place, gene_set in enumerate(sets):
            row = labels.pick(table, metric=key, gene_set=gene_set)
            value = row["value"] if row else None
            before = rows[-1]["cells"][place]["value"] if rows else None
            added = value - before if value is not None and before is not None else None
            cells.append({"gene_set": gene_set, "value": value, "added": added})
        words = STEPS.get(name, name.replace("-", " "))
        short = SHORT.get(name, name.replace("-", " "))
        rows.append({"name": name, "words": words, "short": short, "cells": cells})
    return rows


def side_by_side(summary: pl.DataFrame, model: str) -> dict[str, Any] | None:
    """Compare the model under both protocols, with the constant's NRMSE; then every model."""
    published = summary.filter(pl.col("protocol") == "published")
    if not published.height:
        return None
    clean = labels.clean_rows(summary)
    sets = labels.gene_sets(published)
    rows = []
    for gene_set in sets:
        rows.append({"gene_set": gene_set} | _both_protocols(clean, published, model, gene_set))
    headline = labels.headline_set(labels.gene_sets(clean)) or "all"
    all_models = [
        {"name": name, "kind": labels.model_kind(name, model)}
        | _both_protocols(clean, published, name, headline)
        for name in labels.ordered_models(clean, model)
    ]
    return {"rows": rows, "headline": headline, "every": all_models}


def _both_protocols(clean: pl.DataFrame, published: pl.DataFrame, model: str, gene_set: str) -> Row:
    def value(metric: str, name: str = model) -> float | None:
        row = labels.pick(published, model=name, gene_set=gene_set, metric=metric)
        return row["value"] if row else None

    draw_pcc, point, draw_nrmse = value("pcc_one_draw"), value("pcc"), value("nrmse_one_draw")
    return {
        "clean": labels.pick(clean, model=model, gene_set=gene_set, metric="pcc"),
        "clean_nrmse": labels.pick(clean, model=model, gene_set=gene_set, metric="nrmse"),
        "clean_constant": labels.pick(clean, model="constant", gene_set=gene_set, metric="nrmse"),
        "published": point if draw_pcc is None else draw_pcc,
        "of": "point" if draw_pcc is None else "one draw",
        "point": point,
        "draw_mean": value("pcc_draw_mean"),
        "nrmse": value("nrmse") if draw_nrmse is None else draw_nrmse,
        "constant": value("nrmse", "constant"),
    }


def load_numbers(path: Path = NUMBERS) -> pl.DataFrame | None:
    """Read the paper's results without its ablations; None if the file is missing."""
    if not path.is_file():
        return None
    table = pl.read_csv(path, separator="\t", schema_overrides={"table": pl.String})
    return table.filter(pl.col("table").is_in(MAIN_TABLES))


def numbers(
    table: pl.DataFrame | None, cohort: dict[str, Any], summary: pl.DataFrame, model: str
) -> dict[str, Any] | None:
    """Return the published rows; if the paper has this cohort, only its rows, with ours below.

    Returns
    -------
    matched : name of this cohort in the paper, or None.
    sets : gene sets.
    blocks : a title and rows per cohort; a row has cells of (pcc, nrmse) per set.
    """
    if table is None or not table.height:
        return None
    sets = [name for name in labels.gene_sets(table) if name != "all"]
    cohorts = table["cohort"].unique(maintain_order=True).to_list()
    aliases = {str(cohort.get("source", "")).upper(), str(cohort["name"]).upper()}
    aliases |= {f"TCGA-{name}" for name in aliases if "CPTAC" not in name}
    matched = next((name for name in cohorts if name.upper() in aliases), None)
    blocks = []
    for name in [matched] if matched else cohorts:
        part = table.filter(pl.col("cohort") == name)
        pairs = part.select("method", "encoder").unique(maintain_order=True)
        rows = []
        for method, encoder in pairs.iter_rows():
            cells = [labels.pick(part, method=method, encoder=encoder, gene_set=s) for s in sets]
            rows.append(
                {
                    "name": method,
                    "encoder": encoder,
                    "ours": False,
                    "cells": [(c["pcc"], c["nrmse"]) if c else (None, None) for c in cells],
                }
            )
        blocks.append(
            {"cohort": name, "rows": rows + (_ours(summary, model, sets) if matched else [])}
        )
    return {"matched": matched, "sets": sets, "blocks": blocks}


def _ours(summary: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    rows = []
    for protocol in ("published", "clean"):
        table = summary.filter(pl.col("protocol") == protocol)
        cells = []
        for gene_set in sets:
            values = []
            for key in ("pcc", "nrmse"):
                point, draw = (
                    labels.pick(table, model=model, gene_set=gene_set, metric=f"{key}{end}")
                    for end in ("", "_one_draw")
                )
                row = draw if draw and protocol == "published" else point
                values.append(row["value"] if row else None)
            cells.append(tuple(values))
        if any(value is not None for cell in cells for value in cell):
            words = {"published": "published protocol", "clean": "clean protocol"}[protocol]
            rows.append({"name": f"{model}, ours", "encoder": words, "ours": True, "cells": cells})
    return rows
