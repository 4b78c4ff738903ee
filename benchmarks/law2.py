"""Table of `law2` by module: correlation of each model, and the limits that the tiles set.

  make law2                                  # runs the cohort, then this
  python benchmarks/law2.py results/law2

Bayes is the law's own mean for the same test patients. The linear limit is what any method that is
linear in the mean of a slide's tiles reaches with infinitely many patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.simulate.mixture_law import load_mixture_law
from slide2rna.storage import parquet

MODULES = ("linear", "purity", "rare", "and", "hetero", "none")


def bayes(results: Path, genes: list[str]) -> NDArray[np.float64]:
    """Return the law's own correlation (G,) on the test patients, folds combined by Fisher's z."""
    law = load_mixture_law()
    truth = pl.read_parquet(results / "source" / "truth.parquet").sort("patient_id")
    shares = truth.drop("patient_id", "site", "m", "V").to_numpy()
    mean = law.mean(shares, truth["m"].to_numpy(), truth["V"].to_numpy())
    column = {gene: index for index, gene in enumerate(law.genes)}
    mean = mean[:, [column[gene] for gene in genes]]
    expression = pl.read_parquet(results / "expression.parquet").sort("sample_id")
    measured = expression.select(genes).to_numpy()
    splits = pl.read_csv(results / "splits.tsv", separator="\t").filter(pl.col("part") == "test")
    correlations, sizes = [], []
    for fold in sorted(splits["fold"].unique()):
        names = splits.filter(pl.col("fold") == fold)["unit"]
        rows = truth["patient_id"].is_in(names.implode()).to_numpy()
        correlations.append(gene_metrics.pcc(mean[rows], measured[rows])[0])
        sizes.append(int(rows.sum()))
    combined = gene_metrics.fisher_combine(np.stack(correlations), np.array(sizes))[0]
    return np.asarray(combined, dtype=np.float64)


def module_table(results: Path, run: str) -> pl.DataFrame:
    """Return a row per module: mean correlation of every model, and the two limits."""
    genes = pl.read_parquet(results / "evaluation" / run / "genes.parquet")
    known = pl.read_parquet(results / "source" / "truth_genes.parquet")
    table = genes.join(known, on="gene", maintain_order="left").with_columns(
        pl.Series("bayes", bayes(results, genes["gene"].to_list()))
        if genes.height == known.height
        else pl.lit(None).alias("bayes")
    )
    models = {"r": run.split("-")[1]} | {
        name: name.removeprefix("r_")
        for name in genes.columns
        if name.startswith("r_") and name in {"r_ridge", "r_ridge-lowrank", "r_abmil", "r_permuted"}
    }
    means = [pl.col(name).mean().alias(label) for name, label in models.items()]
    limits = [pl.col(name).mean() for name in ("linear_limit", "bayes", "attainable")]
    rows = table.group_by("module").agg(pl.len().alias("genes"), *means, *limits)
    signal = pl.col("attainable") > 0
    rows = rows.with_columns(
        pl.when(signal).then(pl.col(label) / pl.col("bayes")).alias(f"{label}/bayes")
        for label in models.values()
        if label != "permuted"
    )
    order = {name: place for place, name in enumerate(MODULES)}
    return rows.sort(pl.col("module").replace_strict(order, return_dtype=pl.Int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/law2"))
    parser.add_argument("--run", default="files-flow-go-bp")
    args = parser.parse_args()
    if not (args.results / "evaluation" / args.run / "genes.parquet").is_file():
        parser.exit(1, f"error: {args.results}: no results of law2; make law2\n")
    table = module_table(args.results, args.run)
    parquet.write(table, args.results / "modules.parquet")
    with pl.Config(
        tbl_cols=-1, tbl_width_chars=200, float_precision=3, tbl_hide_dataframe_shape=True
    ):
        print(table)
    signal = table.filter(pl.col("module") != "none")
    for name in signal.columns:
        if name.endswith("/bayes"):
            print(
                f"{name}, mean over {signal.height} modules with signal: {signal[name].mean():.3f}"
            )


if __name__ == "__main__":
    main()
