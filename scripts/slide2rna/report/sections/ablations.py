"""Rows of what only some runs have: calibration of draws, ablations, the leak audit."""

from __future__ import annotations

from typing import Any

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.sections import verdict

BASE = "base"


def ablations(table: pl.DataFrame | None) -> dict[str, Any] | None:
    """Variants in their groups: scores and differences to the base, all genes and headline set.

    Differences are of the points, and of the means of draws where there are any: variants that
    only sample otherwise have the base's points.
    """
    if table is None or not table.height:
        return None
    shown = labels.shown_sets(labels.gene_sets(table))
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
