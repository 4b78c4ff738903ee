"""Rows that set the published protocol beside the clean one, and the published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core.root import ROOT
from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.sections import verdict

NUMBERS = ROOT / "resources" / "published" / "numbers.tsv"
# Cross-validation is in Tables 1 and 9 of the paper, external validation in 3 and 10.
MAIN_TABLES = ("1", "9", "3", "10")
STEPS = {
    "clean": "clean",
    "pooled-slides": "slides pooled over folds, not patients within folds",
    "test-ranked": "genes ranked by their test correlation",
    "one-draw": "one draw scored, not the posterior mean",
}
SHORT = {
    "clean": "clean",
    "pooled-slides": "slides pooled",
    "test-ranked": "ranked on test",
    "one-draw": "one draw",
}


def steps(summary: pl.DataFrame, model: str) -> list[Row]:
    """What each departure from the clean protocol adds, cumulatively, on every gene set."""
    table = summary.filter(
        (pl.col("model") == model) & pl.col("metric").str.starts_with("pcc_step:")
    )
    sets = labels.gene_sets(table) if table.height else []
    rows: list[Row] = []
    for key in sorted(table["metric"].unique()):
        name = key.removeprefix("pcc_step:").partition("-")[2]
        cells = []
        for place, gene_set in enumerate(sets):
            row = verdict.pick(table, metric=key, gene_set=gene_set)
            value = row["value"] if row else None
            before = rows[-1]["cells"][place]["value"] if rows else None
            added = value - before if value is not None and before is not None else None
            cells.append({"gene_set": gene_set, "value": value, "added": added})
        words = STEPS.get(name, name.replace("-", " "))
        short = SHORT.get(name, name.replace("-", " "))
        rows.append({"name": name, "words": words, "short": short, "cells": cells})
    return rows


def side_by_side(summary: pl.DataFrame, model: str) -> dict[str, Any] | None:
    """The model under both protocols with the constant's NRMSE, and every model in short."""
    published = summary.filter(pl.col("protocol") == "published")
    if not published.height:
        return None
    clean = labels.clean(summary)
    sets = labels.gene_sets(published)
    rows = []
    for gene_set in sets:
        rows.append({"gene_set": gene_set} | _both(clean, published, model, gene_set))
    headline = labels.headline_set(labels.gene_sets(clean)) or "all"
    every = [
        {"name": name, "kind": labels.kind(name, model)} | _both(clean, published, name, headline)
        for name in labels.order(clean, model)
    ]
    return {"rows": rows, "headline": headline, "every": every}


def _both(clean: pl.DataFrame, published: pl.DataFrame, model: str, gene_set: str) -> Row:
    def value(metric: str, name: str = model) -> float | None:
        row = verdict.pick(published, model=name, gene_set=gene_set, metric=metric)
        return row["value"] if row else None

    one, point, drawn = value("pcc_one_draw"), value("pcc"), value("nrmse_one_draw")
    scored = point if one is None else one
    return {
        "clean": verdict.pick(clean, model=model, gene_set=gene_set, metric="pcc"),
        "clean_nrmse": verdict.pick(clean, model=model, gene_set=gene_set, metric="nrmse"),
        "clean_constant": verdict.pick(clean, model="constant", gene_set=gene_set, metric="nrmse"),
        "published": scored,
        "of": "point" if one is None else "one draw",
        "point": point,
        "draw_mean": value("pcc_draw_mean"),
        "nrmse": value("nrmse") if drawn is None else drawn,
        "constant": value("nrmse", "constant"),
    }


def load_numbers(path: Path = NUMBERS) -> pl.DataFrame | None:
    """The paper's tables of results, without its ablations; None without the file."""
    if not path.is_file():
        return None
    table = pl.read_csv(path, separator="\t", schema_overrides={"table": pl.String})
    return table.filter(pl.col("table").is_in(MAIN_TABLES))


def numbers(
    table: pl.DataFrame | None, cohort: dict[str, Any], summary: pl.DataFrame, model: str
) -> dict[str, Any] | None:
    """The published rows; of this cohort alone with ours below, where the paper has the cohort.

    Returns
    -------
    matched : the paper's cohort that this one is, or None.
    sets : gene sets.
    blocks : a title and rows per cohort; a row has cells of (pcc, nrmse) per set.
    """
    if table is None or not table.height:
        return None
    sets = [name for name in labels.gene_sets(table) if name != "all"]
    known = table["cohort"].unique(maintain_order=True).to_list()
    called = {str(cohort.get("source", "")).upper(), str(cohort["name"]).upper()}
    called |= {f"TCGA-{name}" for name in called if "CPTAC" not in name}
    matched = next((name for name in known if name.upper() in called), None)
    blocks = []
    for name in [matched] if matched else known:
        part = table.filter(pl.col("cohort") == name)
        pairs = part.select("method", "encoder").unique(maintain_order=True)
        rows = []
        for method, encoder in pairs.iter_rows():
            cells = [verdict.pick(part, method=method, encoder=encoder, gene_set=s) for s in sets]
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
                point, drawn = (
                    verdict.pick(table, model=model, gene_set=gene_set, metric=f"{key}{end}")
                    for end in ("", "_one_draw")
                )
                row = drawn if drawn and protocol == "published" else point
                values.append(row["value"] if row else None)
            cells.append(tuple(values))
        if any(value is not None for cell in cells for value in cell):
            words = {"published": "published protocol", "clean": "clean protocol"}[protocol]
            rows.append({"name": f"{model}, ours", "encoder": words, "ours": True, "cells": cells})
    return rows
