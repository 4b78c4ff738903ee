"""All genes as one compact JSON, which the page's own few lines of JavaScript search and sort."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from markupsafe import Markup

from slide2rna.evaluation.scoring import labels

SCALE = 1000
# Key in the JSON, column of genes.parquet; a value is a whole number of thousandths, or null.
COLUMNS = {
    "r": "r",
    "low": "r_low",
    "high": "r_high",
    "ridge": "r_ridge",
    "site": "site_share",
    "covered": "covered90",
    "crps": "crps",
}


def build(genes: pl.DataFrame) -> dict[str, Any]:
    """The catalogue by column, sorted by r.

    Parameters
    ----------
    genes : genes.parquet; columns that a run doesn't have are null throughout.

    Returns
    -------
    rows : number of genes.
    gene : names, joined by a space.
    r, low, high, null, ridge, site, covered, crps : thousandths; null is the r of the best null.
    best : name of that null, or None.
    fdr : two significant digits.
    sets : names of all pathways, and of : their places in it, per gene; more : pathways not listed.
    """
    table = ranked(genes)
    found: dict[str, Any] = {"rows": table.height, "gene": " ".join(table["gene"])}
    for key, column in COLUMNS.items():
        found[key] = _thousandths(table, column)
    found["best"] = best_null(genes)
    found["null"] = _thousandths(table, f"r_{found['best']}")
    fdr = table["fdr"] if "fdr" in table.columns else pl.Series([None] * table.height)
    found["fdr"] = [None if value is None else float(f"{value:.1e}") for value in fdr]
    listed = table["pathways"] if "pathways" in table.columns else [None] * table.height
    inside = [[] if names is None else list(names) for names in listed]
    total = table["n_pathways"] if "n_pathways" in table.columns else map(len, inside)
    found["sets"] = sorted({name for names in inside for name in names})
    place = {name: index for index, name in enumerate(found["sets"])}
    found["of"] = [[place[name] for name in names] for names in inside]
    found["more"] = [
        max((count or 0) - len(names), 0) for count, names in zip(total, inside, strict=True)
    ]
    return found


def best_null(genes: pl.DataFrame) -> str | None:
    """The null with the highest mean correlation; None where none has one.

    One for all genes: the best of several for each gene would be better than any null is.
    """
    best: tuple[float, str] | None = None
    for name in labels.NULLS:
        column = f"r_{name}"
        mean = genes[column].mean() if column in genes.columns else None
        if isinstance(mean, float) and (best is None or mean > best[0]):
            best = (mean, name)
    return None if best is None else best[1]


def ranked(genes: pl.DataFrame) -> pl.DataFrame:
    """Genes by falling r, those without one last."""
    return genes.sort("r", "gene", descending=[True, False], nulls_last=True)


def as_json(catalogue: dict[str, Any]) -> Markup:
    """JSON that may stand inside a script element."""
    text = json.dumps(catalogue, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def first_rows(genes: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """The best genes for readers without JavaScript; columns a run doesn't have are None."""
    wanted = ["gene", *COLUMNS.values(), "fdr"]
    rows = ranked(genes).filter(pl.col("r").is_not_null()).head(count).to_dicts()
    null = f"r_{best_null(genes)}"
    return [{name: row.get(name) for name in wanted} | {"best_null": row.get(null)} for row in rows]


def _thousandths(table: pl.DataFrame, column: str) -> list[int | None]:
    if column not in table.columns:
        return [None] * table.height
    values = (table[column].cast(pl.Float64).fill_nan(None) * SCALE).round()
    return values.cast(pl.Int64).to_list()
