"""What can be known of fold models that come alone: converted, or not packaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import __version__
from slide2rna.core import config, files
from slide2rna.core.errors import StageError
from slide2rna.flow.one_step import ONE_STEP
from slide2rna.package.fold_models import FoldModels, train_statistics
from slide2rna.package.reliability import UNKNOWN

NUMBERS = ("r", "r_low", "r_high")


def describe_bare_models(
    members: FoldModels, folder: Path
) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """What predictor.json, genes.parquet and pathways.parquet would say, as far as it is known.

    Raises
    ------
    StageError
        The folds have different genes.
    """
    metas = [files.read_json(path / "model.json") for path in members.folders]
    first = metas[0]
    genes = list(first["genes"])
    for path, meta in zip(members.folders, metas, strict=True):
        if meta["genes"] != genes:
            raise StageError(path, "its genes differ from those of the first fold", "convert anew")
    return _about(first, members, folder), _genes(genes, members), _pathways(genes, first)


def _genes(genes: list[str], members: FoldModels) -> pl.DataFrame:
    mean, sd = train_statistics(members.folders)
    return _unscored(pl.DataFrame({"gene": genes, "mean": mean, "sd": sd}))


def _pathways(genes: list[str], meta: dict[str, Any]) -> pl.DataFrame:
    sets = meta.get("pathways", {"names": [], "index": []})
    names = pl.Series("pathway", sets["names"], dtype=pl.String)
    lists = [[genes[i] for i in own] for own in sets["index"]]
    table = pl.DataFrame(
        {
            "pathway": names,
            "name": names,
            "genes": pl.Series(lists, dtype=pl.List(pl.String)),
            "n_genes": pl.Series([len(own) for own in lists], dtype=pl.Int64),
        }
    )
    placed = (pl.lit(None, dtype=pl.Float64).alias(name) for name in ("train_mean", "train_sd"))
    return _unscored(table.with_columns(*placed))


def _unscored(table: pl.DataFrame) -> pl.DataFrame:
    nothing = (pl.lit(None, dtype=pl.Float64).alias(name) for name in NUMBERS)
    return table.with_columns(*nothing, pl.lit(UNKNOWN).alias("reliability"))


def _about(first: dict[str, Any], members: FoldModels, folder: Path) -> dict[str, Any]:
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
        "bags": config.defaults("bags", k=first["clusters"]),
        "sample": config.defaults("sample", **(ONE_STEP if first.get("one_step") else {})),
        "seed": first.get("seed", 1),
        "folds": members.numbers,
        "pathway_score": "zscore",
        "alpha": config.defaults("shift")["alpha"],
        "levels": [],
        "caveat": "how good this model is isn't known here: it came without test results",
        "data": {},
        "version": __version__,
    }
