"""Gene catalogue: all genes as one compact JSON, searched and sorted by the page's JavaScript."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from markupsafe import Markup

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels

SCALE = 1000
# Key in the JSON: column of genes.parquet. Values are whole numbers of thousandths, or null.
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
    """Build the catalogue by column, sorted by r.

    Parameters
    ----------
    genes : genes.parquet; missing columns become null.

    Returns
    -------
    rows : number of genes.
    gene : names, joined by a space.
    r, low, high, null, ridge, site, covered, crps : thousandths; null is the r of the best null.
    best : name of that null, or None.
    fdr : two significant digits.
    sets : names of all pathways.
    of : per gene, the indices of its pathways in sets.
    more : per gene, the number of its pathways that are not listed.
    """
    table = ranked(genes)
    catalogue: dict[str, Any] = {"rows": table.height, "gene": table["gene"].to_list()}
    for key, column in COLUMNS.items():
        catalogue[key] = _thousandths(table, column)
    catalogue["best"] = best_null(genes)
    catalogue["null"] = _thousandths(table, f"r_{catalogue['best']}")
    fdr = table["fdr"] if "fdr" in table.columns else pl.Series([None] * table.height)
    catalogue["fdr"] = [None if value is None else float(f"{value:.1e}") for value in fdr]
    lists = table["pathways"] if "pathways" in table.columns else [None] * table.height
    gene_pathways = [[] if names is None else list(names) for names in lists]
    total = table["n_pathways"] if "n_pathways" in table.columns else map(len, gene_pathways)
    catalogue["sets"] = sorted({name for names in gene_pathways for name in names})
    index = {name: place for place, name in enumerate(catalogue["sets"])}
    catalogue["of"] = [[index[name] for name in names] for names in gene_pathways]
    catalogue["more"] = [
        max((count or 0) - len(names), 0) for count, names in zip(total, gene_pathways, strict=True)
    ]
    return catalogue


def best_null(genes: pl.DataFrame) -> str | None:
    """Return the null with the highest mean correlation, or None if no null has one.

    It is the same null for all genes: the best of several nulls for each gene would be better
    than any single null.
    """
    best: tuple[float, str] | None = None
    for name in labels.NULLS:
        column = f"r_{name}"
        mean = genes[column].mean() if column in genes.columns else None
        if isinstance(mean, float) and (best is None or mean > best[0]):
            best = (mean, name)
    return None if best is None else best[1]


def ranked(genes: pl.DataFrame) -> pl.DataFrame:
    """Sort genes by falling r; genes without r come last."""
    return genes.sort("r", "gene", descending=[True, False], nulls_last=True)


def as_json(catalogue: dict[str, Any]) -> Markup:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(catalogue, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def first_rows(genes: pl.DataFrame, count: int) -> list[Row]:
    """Return the best genes for readers without JavaScript; missing columns are None."""
    columns = ["gene", *COLUMNS.values(), "fdr"]
    rows = ranked(genes).filter(pl.col("r").is_not_null()).head(count).to_dicts()
    null = f"r_{best_null(genes)}"
    return [
        {name: row.get(name) for name in columns} | {"best_null": row.get(null)} for row in rows
    ]


def _thousandths(table: pl.DataFrame, column: str) -> list[int | None]:
    if column not in table.columns:
        return [None] * table.height
    values = (table[column].cast(pl.Float64).fill_nan(None) * SCALE).round()
    return values.cast(pl.Int64).to_list()
