"""Pathway membership: gene sets over one gene list, their background and overlap graph.

Section 3.2 of the paper: pathways P_i as index sets of genes, the background set B of
genes that no pathway covers, and the adjacency A_ij = 1 where two sets share a gene.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from slide2rna.core.errors import PathwayError
from slide2rna.storage import parquet

DENSE = 0.5

FIRST = "run scripts/pathways.py first"


@dataclass(frozen=True)
class Pathways:
    """Gene sets over one gene list.

    Parameters
    ----------
    names
        One name per set.
    index
        Gene indices of each set, sorted, int64.
    n_genes
        Length G of the gene list.
    outside
        Genes of the background, sorted, if they differ from the genes in no set: a published
        model's background may share genes with its sets.
    """

    names: list[str]
    index: list[np.ndarray]
    n_genes: int
    outside: np.ndarray | None = None

    @property
    def sizes(self) -> np.ndarray:
        """(P,) number of genes per set."""
        return np.array([len(genes) for genes in self.index], dtype=np.int64)

    @cached_property
    def membership(self) -> sparse.csr_array:
        """(P, G) 0/1 matrix."""
        return membership_matrix(self.index, self.n_genes)

    @cached_property
    def background(self) -> np.ndarray:
        """Indices of the genes in no set (B of the paper), or `outside`, sorted."""
        if self.outside is not None:
            return self.outside
        return np.flatnonzero(self.membership.sum(axis=0) == 0)

    @cached_property
    def adjacency(self) -> np.ndarray:
        """(P, P) bool, true where two sets share a gene; the diagonal is true (self-loops)."""
        shared = (self.membership @ self.membership.T).toarray() > 0
        np.fill_diagonal(shared, True)
        return shared

    @property
    def edge_density(self) -> float:
        """Share of pairs of different sets with a common gene; 0 for a single set."""
        p = len(self.index)
        return float((self.adjacency.sum() - p) / (p * (p - 1))) if p > 1 else 0.0


def membership_matrix(index: list[np.ndarray], n_genes: int) -> sparse.csr_array:
    """Return the (P, G) 0/1 matrix of index sets."""
    counts = np.array([0, *(len(genes) for genes in index)])
    columns = np.concatenate(index) if index else np.zeros(0, dtype=np.int64)
    data = np.ones(len(columns), dtype=np.int32)
    return sparse.csr_array((data, columns, np.cumsum(counts)), shape=(len(index), n_genes))


def read_pathways(path: str | Path, genes: list[str]) -> Pathways:
    """Read the table written by `scripts/pathways.py` and index it by a gene list.

    Raises
    ------
    PathwayError
        The table can't be read, or has genes that the list lacks.
    """
    try:
        frame = parquet.read(path, columns=["pathway", "gene"], remedy=FIRST)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PathwayError(path, str(error), FIRST) from error
    position = {gene: i for i, gene in enumerate(genes)}
    unknown = sorted(set(frame["gene"].unique()) - position.keys())
    if unknown:
        raise PathwayError(
            path,
            f"{len(unknown)} genes are missing in the expression table, for example {unknown[0]}",
            "make the pathways from this expression table",
        )
    groups = frame.group_by("pathway", maintain_order=True).agg("gene")
    index = [
        np.unique(np.array([position[gene] for gene in members], dtype=np.int64))
        for members in groups["gene"].to_list()
    ]
    return Pathways(groups["pathway"].to_list(), index, len(genes))
