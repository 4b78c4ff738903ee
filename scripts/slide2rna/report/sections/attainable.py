"""Attainable section: correlations per module of a simulated cohort, and the limits of its law."""

from __future__ import annotations

from typing import TypedDict

import polars as pl

from slide2rna.core.types import Row

# Closed forms and the strongest network without draws, if they were evaluated.
OTHERS = ("ridge", "ridge-lowrank", "abmil")
LIMITS = ("linear_limit", "attainable")


class AttainableSection(TypedDict):
    """Context of the section, by the keys that its template reads.

    models : names of the models, the report's own first.
    rows : a row per module, and of all genes that have a signal.
    missing : genes of the truth that weren't evaluated.
    """

    models: list[str]
    rows: list[Row]
    missing: int


def attainable(
    genes: pl.DataFrame, truth: pl.DataFrame | None, model: str
) -> AttainableSection | None:
    """Return mean correlations by module, with the limits that the law sets.

    Parameters
    ----------
    genes : table genes of the evaluation.
    truth : gene, module, attainable, linear_limit; None for a cohort without a law.
    model : name of the report's model, whose correlations are column r.
    """
    if truth is None:
        return None
    table = truth.join(genes, on="gene", how="inner", maintain_order="left")
    if not table.height:
        return None
    columns = {model: "r"} | {name: f"r_{name}" for name in OTHERS if name != model}
    columns = {name: column for name, column in columns.items() if column in genes.columns}
    modules = table["module"].unique(maintain_order=True).to_list()
    rows = [
        _row(name, table.filter(pl.col("module") == name), columns) | {"total": False}
        for name in modules
    ]
    signal = table.filter(pl.col("attainable") > 0)
    if len(modules) > 1 and signal.height:
        rows.append(_row("all with a signal", signal, columns) | {"total": True})
    return {"models": list(columns), "rows": rows, "missing": truth.height - table.height}


def _row(module: str, part: pl.DataFrame, columns: dict[str, str]) -> Row:
    """Average the genes of a module; the ratio is of the two means, and None without a signal."""
    means = {name: _mean(part[column]) for name, column in columns.items()}
    limits = {name: _mean(part[name]) for name in LIMITS}
    own, most = next(iter(means.values())), limits["attainable"]
    ratio = own / most if own is not None and most else None
    cells = list(means.values())
    return {"module": module, "genes": part.height, "cells": cells, "ratio": ratio} | limits


def _mean(values: pl.Series) -> float | None:
    known = values.fill_nan(None).drop_nulls()
    return float(known.mean()) if len(known) else None  # type: ignore[arg-type]
