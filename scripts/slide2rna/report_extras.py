"""Rows of what only some runs have: calibration of draws, ablations, the leak audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import lineup, verdict
from slide2rna.errors import StageError

Row = dict[str, Any]
BASE = "base"
# Tables by the stage that makes them, which not every run has.
STAGES = {
    "ablations": {
        "ablations": "ablations/{run}/ablations.parquet",
        "aspects": "ablations/{run}/pathways.parquet",
    },
    "samplers": {"samplers": "samplers/{run}/samplers.parquet"},
    "leak_audit": {"leak": "leak_audit/audit.parquet"},
    "stain": {
        "stain": "stain/{run}/stain.parquet",
        "stain_genes": "stain/{run}/genes.parquet",
    },
}


def coverage(calibration: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Coverage of the central intervals; no row for a level that has no draws."""
    table = calibration.filter(
        (pl.col("quantity") == "coverage") & pl.col("nominal").is_in([0.5, 0.8, 0.9])
    )
    rows = []
    for gene_set in lineup.shown_sets(sets):
        for level in sorted(table["nominal"].unique()):
            part = table.filter((pl.col("gene_set") == gene_set) & (pl.col("nominal") == level))
            cells = {row["within"]: row for row in part.to_dicts()}
            if {"pooled", "gene", "sample"} <= set(cells):
                rows.append({"gene_set": gene_set, "nominal": level, **cells})
    return rows


def uncertainty(calibration: pl.DataFrame, sets: list[str]) -> list[Row]:
    """NLL and Spearman of the draws with their nulls beside them."""
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
            row = verdict.pick(calibration, gene_set=gene_set, **values)
            cells[name] = row["value"] if row else None
        rows.append(cells)
    return rows


def ablations(table: pl.DataFrame | None) -> dict[str, Any] | None:
    """Variants in their groups: scores and differences to the base, all genes and headline set.

    Differences are of the points, and of the means of draws where there are any: variants that
    only sample otherwise have the base's points.
    """
    if table is None or not table.height:
        return None
    shown = lineup.shown_sets(lineup.gene_sets(table))
    rows = []
    pairs = table.select("group", "variant").unique(maintain_order=True)
    for group, variant in sorted(pairs.iter_rows(), key=lambda pair: pair[1] != BASE):
        part = table.filter((pl.col("variant") == variant) & (pl.col("group") == group))

        def cells(metric: str, part: pl.DataFrame = part) -> list[Row | None]:
            return [verdict.pick(part, gene_set=s, metric=metric) for s in shown]

        score = verdict.pick(part, gene_set="all", metric=f"crps_minus:{BASE}")
        covered = verdict.pick(part, gene_set="all", metric="covered90")
        rows.append(
            {
                "group": group,
                "variant": variant,
                "pcc": cells("pcc"),
                "difference": _toned(cells(f"pcc_minus:{BASE}")),
                "drawn": _toned(cells(f"pcc_draw_mean_minus:{BASE}")),
                "crps": (score, verdict.tone(score, True) or ""),
                "covered": covered,
                # Of the draws; what is said of all scores stands at the top of the page.
                "note": covered["note"] if covered else "",
            }
        )
    drawn = any(cell for row in rows for cell, _ in row["drawn"])
    return {"sets": shown, "rows": rows, "drawn": drawn}


def _toned(found: list[Row | None]) -> list[tuple[Row | None, str]]:
    return [(cell, verdict.tone(cell) or "") for cell in found]


def aspects(table: pl.DataFrame | None, count: int = 12) -> list[Row]:
    """Pathway scores with GO-BP (the base) and with GO-MF sets as tokens, beside each other."""
    if table is None or "go-mf" not in set(table["variant"]):
        return []
    base, other = (table.filter(pl.col("variant") == name) for name in ("base", "go-mf"))
    both = base.join(other, on="pathway", suffix="_mf").filter(
        pl.col("r").is_not_null() & pl.col("r_mf").is_not_null()
    )
    # The mean of both, so that the choice favours neither.
    best = both.sort((pl.col("r") + pl.col("r_mf")), "pathway", descending=[True, False])
    return best.head(count).to_dicts()


def leak(table: pl.DataFrame | None) -> dict[str, Any] | None:
    """The same models under the clean and the published pairing, and the patients both share.

    Shown are all genes and the largest T-k: ranked by what the run picks by, by the test
    patients, and scored over the pooled test patients as the published tables are.
    """
    if table is None or not table.height:
        return None
    means = table.filter(pl.col("fold").is_null())
    there = lineup.gene_sets(means)
    largest = next((name for name in there if name != "all"), "all").partition("-")[0]
    sets = {
        "all": "All genes",
        largest: f"{largest}, ranked by val (published: test)",
        f"{largest}-test": f"{largest}, ranked by test",
        f"{largest}-pooled": f"{largest}, test patients pooled",
    }
    sets = {name: words for name, words in sets.items() if name in there} | {"all": "All genes"}
    rows = []
    for model in means["model"].unique(maintain_order=True):
        cells = []
        for name in sets:
            cell: dict[str, Row | None] = {
                pairing: verdict.pick(means, model=model, gene_set=name, pairing=pairing)
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
    """Published minus clean where the table has no paired difference."""
    values = [row["value"] if row else None for row in (cell["published"], cell["clean"])]
    if values[0] is None or values[1] is None:
        return None
    return {"value": values[0] - values[1], "low": None, "high": None}


def load(folder: Path, run: str, stages: Sequence[str]) -> dict[str, pl.DataFrame | None]:
    """Search, and the tables of `STAGES`: None for those of a stage that isn't named.

    Raises
    ------
    StageError
        A table of a named stage is missing.
    """
    search = folder / "evaluation" / run / "search.parquet"
    found = {"search": pl.read_parquet(search) if search.is_file() else None}
    for stage, tables in STAGES.items():
        for name, path in tables.items():
            told = stage in stages
            found[name] = needed(folder / path.format(run=run), stage) if told else None
    return found


def needed(path: Path, stage: str) -> pl.DataFrame:
    """A table that must be there.

    Raises
    ------
    StageError
        It isn't.
    """
    if not path.is_file():
        raise StageError(path, "missing", f"run the stage {stage} first")
    return pl.read_parquet(path)
