"""Leak audit section: rows of the clean and of the published fold pairing."""

from __future__ import annotations

from typing import Any

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels


def leak(table: pl.DataFrame | None) -> dict[str, Any] | None:
    """Return the same models under the clean and the published pairing, and the shared patients.

    Gene sets are all genes and the largest T-k: ranked as in the run, ranked by the test patients,
    and scored over the pooled test patients as in the published tables.
    """
    if table is None or not table.height:
        return None
    means = table.filter(pl.col("fold").is_null())
    scored_sets = labels.gene_sets(means)
    largest = next((name for name in scored_sets if name != "all"), "all").partition("-")[0]
    sets = {
        "all": "All genes",
        largest: f"{largest}, ranked by val (published: test)",
        f"{largest}-test": f"{largest}, ranked by test",
        f"{largest}-pooled": f"{largest}, test patients pooled",
    }
    sets = {name: words for name, words in sets.items() if name in scored_sets}
    sets |= {"all": "All genes"}
    rows = []
    for model in means["model"].unique(maintain_order=True):
        cells = []
        for name in sets:
            cell: dict[str, Row | None] = {
                pairing: labels.pick(means, model=model, gene_set=name, pairing=pairing)
                for pairing in ("clean", "published", "difference")
            }
            cells.append(cell | {"difference": cell["difference"] or _inflation(cell)})
        rows.append({"model": model, "cells": cells})
    folds = table.filter(pl.col("fold").is_not_null()).select(
        "pairing", "fold", "n_train", "n_test", "n_shared"
    )
    shared = folds.unique().sort("pairing", "fold").to_dicts()
    return {"sets": list(sets.values()), "rows": rows, "shared": shared}


def _inflation(cell: dict[str, Row | None]) -> Row | None:
    """Return published minus clean if the table has no paired difference."""
    values = [row["value"] if row else None for row in (cell["published"], cell["clean"])]
    if values[0] is None or values[1] is None:
        return None
    return {"value": values[0] - values[1], "low": None, "high": None}
