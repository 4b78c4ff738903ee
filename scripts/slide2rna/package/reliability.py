"""Reliability of a predicted gene or pathway: one word, by a fixed rule."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from slide2rna.evaluation.scoring.labels import NULLS

GOOD, WEAK, NONE, UNKNOWN = "good", "weak", "none", "unknown"
# With fewer test patients in a fold, claims about single genes are unsafe: no word is good.
FEWEST_PATIENTS = 20
ALPHA = 0.05

FEW = f"With fewer than {FEWEST_PATIENTS} test patients in a fold, none is called good."
GENE_RULE = (
    "On test patients of the training cohort. good: the interval of r lies above 0, the false "
    "discovery rate of r > 0 is below 0.05, and so is that of beating each null without "
    "morphology (site mean, colour statistics, permuted profiles). weak: only the first two "
    "conditions hold. none: all other genes. unknown: not scored, or no test per gene (several "
    f"samples of a patient). {FEW}"
)
PATHWAY_RULE = (
    "On test patients of the training cohort. good: the interval of r of the pathway's score lies "
    "above 0 and above the r of each null without morphology. weak: only above 0. none: all other "
    f"pathways. unknown: not scored. {FEW} Not corrected for the number of pathways."
)


def null_models(table: pl.DataFrame) -> list[str]:
    """Return the nulls with correlations in a table; a constant has no correlation."""
    return [name for name in NULLS if f"r_{name}" in table.columns and name != "constant"]


def rate_genes(table: pl.DataFrame, fewest: int) -> pl.Series:
    """Return a word per gene from the columns of evaluation's genes.parquet, by `GENE_RULE`.

    Parameters
    ----------
    table : r_low, fdr, and fdr_minus_<null> of the nulls that were fitted.
    fewest : test patients of the smallest fold.
    """
    beats_null = [pl.lit(True)]
    for name in null_models(table):
        column = f"fdr_minus_{name}"
        beats_null.append(pl.col(column) < ALPHA if column in table.columns else pl.lit(False))
    positive = (pl.col("r_low") > 0) & (pl.col("fdr") < ALPHA)
    beats_all = pl.all_horizontal(beats_null)
    return _rate(table, positive.fill_null(False), beats_all, ("r", "fdr"), fewest)


def rate_pathways(table: pl.DataFrame, fewest: int) -> pl.Series:
    """Return a word per pathway from evaluation's pathways.parquet, by `PATHWAY_RULE`."""
    beats_null = [pl.col("r_low") > pl.col(f"r_{name}") for name in null_models(table)]
    positive = (pl.col("r_low") > 0).fill_null(False)
    return _rate(table, positive, pl.all_horizontal(pl.lit(True), *beats_null), ("r",), fewest)


def _rate(
    table: pl.DataFrame,
    positive: pl.Expr,
    beats_all: pl.Expr,
    needed: Sequence[str],
    fewest: int,
) -> pl.Series:
    enough = pl.lit(fewest >= FEWEST_PATIENTS)
    word = (
        pl.when(pl.any_horizontal(pl.col(needed).fill_nan(None).is_null()))
        .then(pl.lit(UNKNOWN))
        .when(positive & beats_all.fill_null(False) & enough)
        .then(pl.lit(GOOD))
        .when(positive)
        .then(pl.lit(WEAK))
        .otherwise(pl.lit(NONE))
    )
    return table.select(word.alias("reliability"))["reliability"]
