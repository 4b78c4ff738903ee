"""Results rows: models next to each other, and all scores of the evaluated model."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.sections import verdict

METRICS = {
    "pcc": "PCC of the point",
    "pcc_within_site": "PCC within site",
    "pcc_draw_mean": "PCC of the mean of draws",
    "pcc_one_draw": "PCC of one draw",
    "rmse": "RMSE, log2 units",
    "rmse_ratio": "RMSE / train mean's",
    "nrmse": "NRMSE",
    "crps": "CRPS",
}


def results(summary: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    """Return a row per model with its correlation on every gene set; the noise floor is last."""
    rows = []
    score = labels.pick(summary, model=model, gene_set="all", metric="pcc")
    cautions = score["note"] or "" if score else ""
    for name in labels.ordered_models(summary, model):
        cells = [labels.pick(summary, model=name, gene_set=s, metric="pcc") for s in sets]
        # Cautions that hold for all rows are at the top of the page.
        note = (cells[0]["note"] or "" if cells[0] else "").removesuffix(cautions).strip("; ")
        rows.append(
            {
                "name": name,
                "kind": labels.model_kind(name, model),
                "cells": cells,
                "ratio": labels.pick(summary, model=name, gene_set="all", metric="rmse_ratio"),
                "within": with_value(
                    labels.pick(summary, model=name, gene_set="all", metric="pcc_within_site")
                ),
                "genes": with_value(labels.pick(summary, model=name, metric="genes_fdr05")),
                "note": "" if name == model else note,
            }
        )
    floor = [labels.pick(summary, model=model, gene_set=s, metric="pcc_floor") for s in sets]
    empty = {"ratio": None, "within": None, "genes": None}
    note = "mean, and 5th to 95th percentile, of permuted profiles"
    return [*rows, {"name": "noise floor", "kind": "floor", "cells": floor, "note": note} | empty]


def with_value(row: Row | None) -> Row | None:
    """Return a row if it has a value: some rows only give the reason for a missing value."""
    return row if row is not None and row["value"] is not None else None


def differences(summary: pl.DataFrame, model: str, sets: list[str]) -> dict[str, list[Row]]:
    """Return paired differences between the model and each other model, by score and gene set."""
    by_metric: dict[str, list[Row]] = {}
    for metric in ("pcc", "rmse", "crps"):
        rows = []
        for name in labels.ordered_models(summary, model):
            key = f"{metric}_minus:{name}"
            cells = [labels.pick(summary, model=model, gene_set=s, metric=key) for s in sets]
            if any(cells) and not (name == "constant" and metric == "pcc"):
                tones = [verdict.tone(cell, metric != "pcc") or "" for cell in cells]
                rows.append({"name": name, "cells": list(zip(cells, tones, strict=True))})
        if rows:
            by_metric[metric] = rows
    return by_metric


def matrix(summary: pl.DataFrame, model: str) -> dict[str, Any] | None:
    """Return paired differences in PCC over all genes, row minus column; None below 3 models."""
    # The constant has no correlation: its row and column would be empty.
    names = [name for name in labels.ordered_models(summary, model) if name != "constant"]
    rows = []
    for name in names:
        cells: list[Row | None] = []
        for other in names:
            row = labels.pick(summary, model=name, gene_set="all", metric=f"pcc_minus:{other}")
            mirrored = row is None and name != other
            if mirrored:
                row = labels.pick(summary, model=other, gene_set="all", metric=f"pcc_minus:{name}")
            if row is None or row["value"] is None:
                cells.append(None)
                continue
            if mirrored:
                ends = {"value": -row["value"], "low": -row["high"], "high": -row["low"]}
                row = row | ends
            cells.append(row | {"tone": verdict.tone(row)})
        rows.append({"name": name, "cells": cells})
    n_cells = sum(cell is not None for row in rows for cell in row["cells"])
    return {"names": names, "rows": rows} if n_cells > 2 * (len(names) - 1) else None


def genes_better(summary: pl.DataFrame, model: str) -> dict[str, Any] | None:
    """Count genes on which a model exceeds each null and the ridge, at 5 % FDR."""
    keys = summary.filter(pl.col("metric").str.starts_with("genes_better:"))
    if not keys.height:
        return None
    order = labels.ordered_models(summary, model)
    against = set(keys["metric"].str.strip_prefix("genes_better:"))
    columns = [name for name in order if name in against]
    rows = []
    for name in order:
        counts = [labels.pick(keys, model=name, metric=f"genes_better:{c}") for c in columns]
        cells = [with_value(row) for row in counts]
        if any(cells):
            rows.append({"name": name, "cells": cells})
    if not rows:
        return None
    # The cautions after it are at the top of the page.
    note = (keys["note"][0] or "").partition("; ")[0]
    return {"columns": columns, "rows": rows, "note": note}


def significant(genes: pl.DataFrame) -> int | None:
    """Count genes with a correlation above 0 at 5 % FDR; None if no gene was tested."""
    return None if genes["fdr"].is_null().all() else genes.filter(pl.col("fdr") < 0.05).height


def model_scores(summary: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    """Return every score of the model on every gene set, and the train mean's on all genes."""
    rows = []
    for metric, words in METRICS.items():
        cells = [labels.pick(summary, model=model, gene_set=s, metric=metric) for s in sets]
        null = labels.pick(summary, model="constant", gene_set="all", metric=metric)
        if any(cells):
            rows.append({"metric": words, "cells": cells, "constant": null})
    return rows


def seeds(summary: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Return mean, lowest and highest PCC over repeats with other seeds."""
    table = summary.filter(pl.col("metric") == "pcc_seeds")
    rows = []
    for name in table["model"].unique(maintain_order=True):
        cells = [labels.pick(table, model=name, gene_set=s) for s in sets]
        note = next((cell["note"] or "" for cell in cells if cell), "")
        rows.append({"name": name, "cells": cells, "note": note})
    return rows


def search(table: pl.DataFrame | None) -> list[Row]:
    """Return the cost of each network's search over all folds, and the chosen settings."""
    if table is None or not table.height:
        return []
    rows = []
    for name in table["model"].unique(maintain_order=True):
        part = table.filter((pl.col("model") == name) & (pl.col("step") == "network"))
        chosen = part.filter(pl.col("chosen"))
        picked = chosen["settings"].value_counts(sort=True, name="folds")
        rows.append(
            {
                "name": name,
                "folds": part["fold"].n_unique(),
                "configurations": part["configuration"].n_unique(),
                "epochs": part["epochs"].sum(),
                "seconds": part["seconds"].sum(),
                "best": _range(chosen["best_epoch"]),
                "val_loss": chosen["val_loss"].mean(),
                "chosen": [
                    {"settings": _settings(text), "folds": folds}
                    for text, folds in picked.sort(
                        "folds", "settings", descending=[True, False]
                    ).iter_rows()
                ],
            }
        )
    return rows


def _range(values: pl.Series) -> str:
    if not len(values):
        return "–"
    low, high = values.min(), values.max()
    return str(low) if low == high else f"{low!s}–{high!s}"


def _settings(text: str | None) -> str:
    """Format settings from JSON as `key value` pairs, or as defaults if nothing differs."""
    settings = json.loads(text or "{}")
    words = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in sorted(settings.items())
    ]
    return ", ".join(words) or "defaults"


def coverage(calibration: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Return coverage of the central intervals; a level without draws has no row."""
    table = calibration.filter(
        (pl.col("quantity") == "coverage") & pl.col("nominal").is_in([0.5, 0.8, 0.9])
    )
    rows = []
    for gene_set in labels.shown_sets(sets):
        for level in sorted(table["nominal"].unique()):
            part = table.filter((pl.col("gene_set") == gene_set) & (pl.col("nominal") == level))
            cells = {row["within"]: row for row in part.to_dicts()}
            if {"pooled", "gene", "sample"} <= set(cells):
                rows.append({"gene_set": gene_set, "nominal": level, **cells})
    return rows


def uncertainty(calibration: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Return NLL and Spearman of the draws, and of their nulls."""
    rows = []
    for gene_set in sets:
        cells: Row = {"gene_set": gene_set}
        for name, values in {
            "nll": {"quantity": "nll", "kind": "draws"},
            "nll_null": {"quantity": "nll", "kind": "train-normal"},
            "rho": {"quantity": "spearman", "kind": "draws", "within": "pooled"},
            "rho_null": {"quantity": "spearman", "kind": "constant-variance", "within": "pooled"},
            "rho_gene": {"quantity": "spearman", "kind": "draws", "within": "gene"},
        }.items():
            row = labels.pick(calibration, gene_set=gene_set, **values)
            cells[name] = row["value"] if row else None
        rows.append(cells)
    return rows
