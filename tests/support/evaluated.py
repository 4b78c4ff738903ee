"""A synthetic cohort's run evaluated, and the tables that an evaluation leaves."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import synthetic_cohort
from slide2rna.core import config
from slide2rna.evaluation import evaluate

# Few resamples, and sets of genes that a small cohort has.
SETTINGS = {"bootstrap": 100, "permutations": 40, "top": [100, 50, 20]}


def run(
    made: synthetic_cohort.Synthetic, out: Path, threads: int = 1, **settings: object
) -> dict[str, pl.DataFrame]:
    """Evaluate with seed 1 and these settings; returns the tables."""
    chosen = config.defaults("evaluate", **settings)
    evaluate.evaluate(made.inputs, synthetic_cohort.RUN, out, chosen, 1, threads)
    return tables(out)


def run_small(
    made: synthetic_cohort.Synthetic, out: Path, **settings: object
) -> dict[str, pl.DataFrame]:
    """Evaluate with few resamples; returns the tables."""
    return run(made, out, threads=2, **(SETTINGS | settings))


def tables(folder: Path) -> dict[str, pl.DataFrame]:
    """The Parquet tables of a folder by name."""
    return {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}


def of_variant(table: pl.DataFrame, variant: str, metric: str, gene_set: str = "all") -> dict:
    """The row of a run's variant and a metric."""
    return pick(table, variant=variant, metric=metric, gene_set=gene_set)


def pick(table: pl.DataFrame, **values: object) -> dict:
    """The one row with these values."""
    rows = table.filter(**values)
    assert rows.height == 1, (values, rows)
    return rows.row(0, named=True)
