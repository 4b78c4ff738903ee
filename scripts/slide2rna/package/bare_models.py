"""Metadata and tables of fold models without a package: converted, or trained only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import __version__
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.flow.one_step import ONE_STEP
from slide2rna.models import checkpoint
from slide2rna.package.fold_models import FoldModels, train_statistics
from slide2rna.package.reliability import UNKNOWN

CORRELATIONS = ("r", "r_low", "r_high")


def describe_bare_models(
    members: FoldModels, folder: Path
) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """Return predictor.json, genes.parquet and pathways.parquet as far as the folds have them.

    Raises
    ------
    StageError
        The folds have different genes.
    WeightsError
        A fold's model.json describes no network.
    """
    metas = [checkpoint.read_record(path) for path in members.folders]
    first = metas[0]
    genes = list(first["genes"])
    for path, meta in zip(members.folders, metas, strict=True):
        if meta["genes"] != genes:
            raise StageError(
                path, "its genes differ from those of the first fold", "convert it again"
            )
    facts = _model_facts(first, members, folder)
    return facts, _gene_table(genes, members), _pathway_table(genes, first)


def _gene_table(genes: list[str], members: FoldModels) -> pl.DataFrame:
    mean, sd = train_statistics(members.folders)
    return _without_scores(pl.DataFrame({"gene": genes, "mean": mean, "sd": sd}))


def _pathway_table(genes: list[str], meta: dict[str, Any]) -> pl.DataFrame:
    sets = meta.get("pathways", {"names": [], "index": []})
    names = pl.Series("pathway", sets["names"], dtype=pl.String)
    lists = [[genes[i] for i in columns] for columns in sets["index"]]
    table = pl.DataFrame(
        {
            "pathway": names,
            "name": names,
            "genes": pl.Series(lists, dtype=pl.List(pl.String)),
            "n_genes": pl.Series([len(symbols) for symbols in lists], dtype=pl.Int64),
        }
    )
    nulls = (pl.lit(None, dtype=pl.Float64).alias(name) for name in ("train_mean", "train_sd"))
    return _without_scores(table.with_columns(*nulls))


def _without_scores(table: pl.DataFrame) -> pl.DataFrame:
    """Add null correlations and unknown reliability."""
    nulls = (pl.lit(None, dtype=pl.Float64).alias(name) for name in CORRELATIONS)
    return table.with_columns(*nulls, pl.lit(UNKNOWN).alias("reliability"))


def _model_facts(first: dict[str, Any], members: FoldModels, folder: Path) -> dict[str, Any]:
    return {
        "format": 1,
        "packaged": False,
        "cohort": None,
        "run": folder.name,
        "model": first["model"],
        "encoder": first.get("encoder"),
        "encoder_identity": None,
        "features": None,
        "dim": first["features"],
        "tiles": None,
        "bags": config.result_settings("bags", config.defaults("bags", k=first["clusters"])),
        "sample": config.defaults("sample", **(ONE_STEP if first.get("one_step") else {})),
        "seed": first.get("seed", 1),
        "folds": members.numbers,
        "pathway_score": "zscore",
        "alpha": config.defaults("shift")["alpha"],
        "levels": [],
        "caveat": "the model has no test results, so its quality is unknown here",
        "data": {},
        "version": __version__,
    }
