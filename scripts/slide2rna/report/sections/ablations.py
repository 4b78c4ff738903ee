"""Ablation section: rows of ablations and of the two GO aspects."""

from __future__ import annotations

from typing import TypedDict

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.report.sections import verdict

BASE = "base"


class AblationSection(TypedDict):
    """Context of the section, by the keys that its template reads.

    sets : gene sets of the scores.
    rows : a row per variant.
    drawn : whether any variant has a mean of draws.
    """

    sets: list[str]
    rows: list[Row]
    drawn: bool


def ablations(table: pl.DataFrame | None) -> AblationSection | None:
    """Return variants by group: scores and differences to the base, all genes and headline set.

    Differences are of the points, and of the means of draws if available: variants that change
    only the sampling have the base's points.
    """
    if table is None or not table.height:
        return None
    sets = labels.shown_sets(labels.gene_sets(table))
    rows = []
    pairs = table.select("group", "variant").unique(maintain_order=True)
    for group, variant in sorted(pairs.iter_rows(), key=lambda pair: pair[1] != BASE):
        part = table.filter((pl.col("variant") == variant) & (pl.col("group") == group))

        def cells(metric: str, part: pl.DataFrame = part) -> list[Row | None]:
            return [labels.pick(part, gene_set=s, metric=metric) for s in sets]

        crps = labels.pick(part, gene_set="all", metric=f"crps_minus:{BASE}")
        covered = labels.pick(part, gene_set="all", metric="covered90")
        rows.append(
            {
                "group": group,
                "variant": variant,
                "pcc": cells("pcc"),
                "difference": _with_tones(cells(f"pcc_minus:{BASE}")),
                "drawn": _with_tones(cells(f"pcc_draw_mean_minus:{BASE}")),
                "crps": (crps, verdict.tone(crps, True) or ""),
                "covered": covered,
                # The note on the draws alone; notes on all scores are at the top of the page.
                "note": covered["note"] if covered else "",
            }
        )
    drawn = any(cell for row in rows for cell, _ in row["drawn"])
    return {"sets": sets, "rows": rows, "drawn": drawn}


def _with_tones(cells: list[Row | None]) -> list[tuple[Row | None, str]]:
    return [(cell, verdict.tone(cell) or "") for cell in cells]


def aspects(table: pl.DataFrame | None, count: int = 12) -> list[Row]:
    """Return pathway scores with GO-BP (the base) and with GO-MF sets as tokens, side by side."""
    if table is None or "go-mf" not in set(table["variant"]):
        return []
    base, other = (table.filter(pl.col("variant") == name) for name in ("base", "go-mf"))
    pairs = base.join(other, on="pathway", suffix="_mf").filter(
        pl.col("r").is_not_null() & pl.col("r_mf").is_not_null()
    )
    # The mean of the two, so that the choice favours neither.
    best = pairs.sort((pl.col("r") + pl.col("r_mf")), "pathway", descending=[True, False])
    return best.head(count).to_dicts()
