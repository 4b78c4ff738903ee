"""How far the prediction of a gene or pathway can be relied on: one word, by a fixed rule."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from slide2rna.evaluation.scoring.labels import NULLS

GOOD, WEAK, NONE, UNKNOWN = "good", "weak", "none", "unknown"
# Below, a fold's test patients are too few for claims about a single gene; nothing is called good.
FEWEST_PATIENTS = 20
ALPHA = 0.05

FEW = f"With fewer than {FEWEST_PATIENTS} test patients in a fold nothing is called good."
GENE_RULE = (
    "On test patients of the training cohort. good: the interval of r lies above 0, the false "
    "discovery rate of r > 0 is below 0.05, and so is that of beating each null that looks at no "
    "morphology (site mean, colour statistics, permuted profiles). weak: the first two alone. "
    "none: not even those. unknown: not scored, or no test per gene (several samples of a "
    f"patient). {FEW}"
)
PATHWAY_RULE = (
    "On test patients of the training cohort. good: the interval of r of the pathway's score lies "
    "above 0 and above the r of each null that looks at no morphology. weak: above 0 alone. "
    f"none: not even that. unknown: not scored. {FEW} Not corrected for the number of pathways."
)


def nulls_of(table: pl.DataFrame) -> list[str]:
    """The nulls that a table has correlations of; a constant has none."""
    return [name for name in NULLS if f"r_{name}" in table.columns and name != "constant"]


def of_genes(table: pl.DataFrame, fewest: int) -> pl.Series:
    """A word per gene, from the columns of evaluation's genes.parquet; `GENE_RULE` says how.

    Parameters
    ----------
    table : r_low, fdr, and fdr_minus_<null> of the nulls that were fitted.
    fewest : test patients of the smallest fold.
    """
    beaten = [pl.lit(True)]
    for name in nulls_of(table):
        column = f"fdr_minus_{name}"
        beaten.append(pl.col(column) < ALPHA if column in table.columns else pl.lit(False))
    some = (pl.col("r_low") > 0) & (pl.col("fdr") < ALPHA)
    return _words(table, some.fill_null(False), pl.all_horizontal(beaten), ("r", "fdr"), fewest)


def of_pathways(table: pl.DataFrame, fewest: int) -> pl.Series:
    """A word per pathway, from the columns of evaluation's pathways.parquet; see `PATHWAY_RULE`."""
    beaten = [pl.col("r_low") > pl.col(f"r_{name}") for name in nulls_of(table)]
    some = (pl.col("r_low") > 0).fill_null(False)
    return _words(table, some, pl.all_horizontal(pl.lit(True), *beaten), ("r",), fewest)


def _words(
    table: pl.DataFrame, some: pl.Expr, beaten: pl.Expr, needed: Sequence[str], fewest: int
) -> pl.Series:
    enough = pl.lit(fewest >= FEWEST_PATIENTS)
    word = (
        pl.when(pl.any_horizontal(pl.col(needed).fill_nan(None).is_null()))
        .then(pl.lit(UNKNOWN))
        .when(some & beaten.fill_null(False) & enough)
        .then(pl.lit(GOOD))
        .when(some)
        .then(pl.lit(WEAK))
        .otherwise(pl.lit(NONE))
    )
    return table.select(word.alias("reliability"))["reliability"]
