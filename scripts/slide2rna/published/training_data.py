"""Training data of a published model: its genes, its ordered sets, its statistics.

The layer of a set has one column per gene in the order of the set, so this order belongs to the
weights. A checkpoint with `args` holds the gene positions per set; the gene names are in a separate
file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.cohort.expression import read_gene_list
from slide2rna.core.errors import PathwayError, SheetError
from slide2rna.pathways import membership, sources
from slide2rna.pathways.membership import Pathways
from slide2rna.pathways.sources import BACKGROUND
from slide2rna.published.checkpoint_file import Checkpoint
from slide2rna.storage import parquet
from slide2rna.storage.delimited import duplicates, read_table

ORDER = "give the training's file: the same sets and genes, in the same order"


@dataclass(frozen=True)
class TrainedSets:
    """Gene sets in the order of a published model's layers.

    Attributes
    ----------
    names
        One name per set.
    members
        Per set, the positions of its genes in the gene list, in the order of the layer's columns.
    background
        The same for the background head.
    source
        The file's stem, or `checkpoint`.
    """

    names: list[str]
    members: list[np.ndarray]
    background: np.ndarray
    source: str

    def pathways(self, n_genes: int) -> Pathways:
        """Return the same sets with sorted members, as in the rest of this package."""
        plain = Pathways(self.names, [np.sort(genes) for genes in self.members], n_genes)
        if np.array_equal(plain.background, np.sort(self.background)):
            return plain
        return replace(plain, outside=np.sort(self.background))


def read_genes(path: str | Path) -> list[str]:
    """Read a gene list, in its order.

    Raises
    ------
    SheetError
        The file can't be read, is empty, or names a gene twice.
    """
    names = read_gene_list(path)
    if repeated := duplicates(names):
        raise SheetError(
            path, f"gene {repeated[0]} occurs twice", "give the gene list of the training"
        )
    return names


def read_sets(path: str | Path, genes: list[str]) -> TrainedSets:
    """Read the sets of an index JSON, a GMT file or our Parquet table.

    The JSON is {name: [positions in the gene list, or gene names]}; its entries UNMAPPED and
    UNCLASSIFIED are the background, in this order. Otherwise the background is the genes of no set.

    Raises
    ------
    PathwayError
        The file can't be read, or its sets don't match the gene list.
    """
    path = Path(path)
    if not path.is_file():
        raise PathwayError(path, "no such file", "give the index JSON, a GMT or a Parquet table")
    try:
        if path.suffix == ".parquet":
            table = membership.read_pathways(path, genes)
            names, members = table.names, table.index
            background = None
        elif path.suffix == ".json":
            names, members, background = _read_index_json(path, genes)
        else:
            names, members = _read_gmt(path, genes)
            background = None
    except (UnicodeDecodeError, json.JSONDecodeError, pl.exceptions.PolarsError) as error:
        raise PathwayError(path, f"can't be read ({error})", ORDER) from error
    if background is None:
        background = Pathways(names, members, len(genes)).background
    return require_every_gene(TrainedSets(names, members, background, path.stem), genes, path)


def _read_gmt(path: Path, genes: list[str]) -> tuple[list[str], list[np.ndarray]]:
    position = {gene: i for i, gene in enumerate(genes)}
    names, _, listed = sources.read_gmt_lists(path)
    members = [[position[gene] for gene in line if gene in position] for line in listed]
    return names, [np.array(m, dtype=np.int64) for m in members]


def _read_index_json(
    path: Path, genes: list[str]
) -> tuple[list[str], list[np.ndarray], np.ndarray | None]:
    content = sources.read_index_lists(path)
    position = {gene: i for i, gene in enumerate(genes)}

    def positions(name: str) -> np.ndarray:
        indices = [
            member if type(member) is int else position.get(str(member)) for member in content[name]
        ]
        return np.array([i for i in indices if i is not None], dtype=np.int64)

    names = [name for name in content if name not in BACKGROUND]
    rest = [positions(name) for name in BACKGROUND if name in content]
    return names, [positions(name) for name in names], np.concatenate(rest) if rest else None


def from_args(checkpoint: Checkpoint, genes: list[str], where: object) -> TrainedSets | None:
    """Return the sets stored in `args`, without names; None if `args` has no sets.

    Raises
    ------
    PathwayError
        The sets don't match the gene list.
    """
    members = checkpoint.index_lists("pathway_gene_indices")
    background = checkpoint.indices("bg_gene")
    if members is None or background is None:
        return None
    names = [f"set-{number:05d}" for number in range(1, len(members) + 1)]
    return require_every_gene(TrainedSets(names, members, background, "checkpoint"), genes, where)


def require_every_gene(sets: TrainedSets, genes: list[str], where: object) -> TrainedSets:
    """Check that every gene is in a set or the background, at most once in each.

    Return the sets.

    Raises
    ------
    PathwayError
        The check fails; the message names a set or a gene.
    """
    for name, members in zip(
        ["the background", *sets.names], [sets.background, *sets.members], strict=True
    ):
        if members is not sets.background and not len(members):
            raise PathwayError(where, f"{name} has none of these genes", ORDER)
        if len(members) and (members.min() < 0 or members.max() >= len(genes)):
            cause = f"{name} has a gene beyond the {len(genes)} of the gene list"
            raise PathwayError(where, cause, "give the gene list of the training")
        values, counts = np.unique(members, return_counts=True)
        if (counts > 1).any():
            repeated = genes[values[counts.argmax()]]
            raise PathwayError(where, f"{name} lists gene {repeated} twice", "list it once")
    missing = np.setdiff1d(np.arange(len(genes)), np.concatenate([sets.background, *sets.members]))
    if len(missing):
        cause = f"gene {genes[missing[0]]} is in no set and not in the background"
        raise PathwayError(
            where, f"{cause} ({len(missing)} such)", "give the genes and the sets of one training"
        )
    return sets


def require_same_sets(
    named: TrainedSets, stored: TrainedSets, genes: list[str], where: object
) -> TrainedSets:
    """Check that both are the same sets in the same order.

    Return the stored sets with the names of the other.

    Raises
    ------
    PathwayError
        The sets differ; the message names the first that does.
    """
    if len(named.members) != len(stored.members):
        cause = f"{len(named.members)} sets, the checkpoint was trained with {len(stored.members)}"
        raise PathwayError(where, cause, ORDER)
    for number, (named_genes, stored_genes) in enumerate(
        zip(named.members, stored.members, strict=True)
    ):
        differing = np.setxor1d(named_genes, stored_genes)
        if len(differing):
            cause = (
                f"set '{named.names[number]}' (number {number + 1}) isn't the checkpoint's: they "
                f"differ in {len(differing)} genes, first {genes[differing[0]]}"
            )
            raise PathwayError(where, cause, ORDER)
    return TrainedSets(named.names, stored.members, stored.background, named.source)


def read_statistics(path: str | Path, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read mean and sd (G,) float64 from a table (TSV, CSV or Parquet) gene, mean, sd.

    Raises
    ------
    SheetError
        The table can't be read, lacks a gene, or has an invalid mean or sd.
    """
    path = Path(path)
    schema = pl.Schema({"gene": pl.String, "mean": pl.Float64, "sd": pl.Float64})
    remedy = "give a table with the columns gene, mean and sd (log2(x+1) units)"
    try:
        if path.suffix == ".parquet":
            table = parquet.read_foreign(path, columns=schema.names()).cast(schema)
        else:
            table = read_table(path).select(schema.names()).cast(schema)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SheetError(path, f"can't be read ({str(error).splitlines()[0]})", remedy) from error
    if repeated := duplicates(table["gene"].to_list()):
        raise SheetError(path, f"gene {repeated[0]} occurs twice", remedy)
    joined = pl.DataFrame({"gene": genes}).join(table, on="gene", how="left", maintain_order="left")
    mean, sd = joined["mean"].to_numpy(), joined["sd"].to_numpy()
    check_statistics(mean, sd, genes, path, remedy)
    return mean, sd


def check_statistics(
    mean: np.ndarray, sd: np.ndarray, genes: list[str], where: object, remedy: str
) -> None:
    """Raise SheetError unless every gene has a finite mean and a finite sd of at least 0."""
    invalid = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(sd) & (sd >= 0)))
    if len(invalid):
        cause = f"gene {genes[invalid[0]]} has no row or no valid mean and sd ({len(invalid)} such)"
        raise SheetError(where, cause, remedy)
