"""Pathway construction: gene sets from GO or a file, filtered, and linked by overlap.

Section 3.2 of the paper: pathways P_i as index sets of genes, the background set B of
genes that no pathway covers, and the adjacency A_ij = 1 where two sets share a gene.
"""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import polars as pl

from slide2rna.core.errors import PathwayError
from slide2rna.core.settings import PathwaysSettings
from slide2rna.pathways import sources
from slide2rna.pathways.membership import DENSE, Pathways, membership_matrix
from slide2rna.pathways.sources import GeneSets

ADJACENT_GENES = 10


class PathwaysReport(TypedDict):
    """Counts of the gene sets, written next to the table as JSON."""

    source: str
    release: str
    P: int
    G: int
    memberships: int
    edges: int
    edge_density: float
    background: int
    smallest: int
    largest: int
    dropped: dict[str, int]
    warning: NotRequired[str]


def build_pathways(
    settings: PathwaysSettings,
    genes: list[str],
    go: str | Path,
    symbols: list[str] | None = None,
) -> tuple[Pathways, list[str], PathwaysReport]:
    """Build the gene sets of a gene list by the section `pathways` of the config.

    Parameters
    ----------
    settings
        source, min_genes, max_genes, max_jaccard, max_sets. The limits apply to the number of
        a set's genes in `genes`, after propagation. `adjacent` ignores the limits: its sets are
        a partition.
    genes
        The gene list of the expression table.
    go
        Folder of the pinned GO snapshot (resources/go).
    symbols
        Current symbols of the genes, from gene_names.parquet; looked up by name if absent.

    Returns
    -------
    pathways, descriptions
        One description per set.
    report
        Counts for the JSON next to the table; has a key `warning` if more than half of all pairs
        of sets are connected, because the attention mask then does little.

    Raises
    ------
    PathwayError
        The source can't be read, or no set remains.
    """
    source = str(settings["source"])
    if source == "adjacent":
        sets = _adjacent_sets(genes)
        dropped: dict[str, int] = {}
    else:
        sets = _read_source(source, genes, Path(go), symbols)
        sets, dropped = _filter_sets(sets, len(genes), settings)
    if not sets.index:
        raise PathwayError(
            source,
            f"no gene set is left for these {len(genes)} genes ({dropped})",
            "check the gene names, or lower pathways.min_genes",
        )
    pathways = Pathways(sets.names, sets.index, len(genes))
    report: PathwaysReport = {
        "source": source,
        "release": sets.release,
        "P": len(sets.index),
        "G": len(genes),
        "memberships": int(pathways.sizes.sum()),
        "edges": int(pathways.adjacency.sum() - len(sets.index)) // 2,
        "edge_density": round(pathways.edge_density, 6),
        "background": len(pathways.background),
        "smallest": int(pathways.sizes.min()),
        "largest": int(pathways.sizes.max()),
        "dropped": dropped,
    }
    if pathways.edge_density > DENSE:
        report["warning"] = (
            f"{pathways.edge_density:.0%} of all pairs of sets share a gene: the graph's mask does "
            "little; lower pathways.max_genes"
        )
    return pathways, sets.descriptions, report


def _read_source(source: str, genes: list[str], go: Path, symbols: list[str] | None) -> GeneSets:
    """Read gene sets from the GO snapshot, a JSON file or a GMT file."""
    if source in sources.ASPECTS:
        return sources.gene_ontology(go, genes, source, symbols)
    path = Path(source)
    if not path.is_file():
        raise PathwayError(
            path, "no such file", "pathways.source is go-bp, go-mf, adjacent, a GMT or a JSON file"
        )
    return (
        sources.read_index_json(path, genes)
        if path.suffix == ".json"
        else sources.read_gmt(path, genes, symbols)
    )


def _adjacent_sets(genes: list[str]) -> GeneSets:
    """Return sets of 10 alphabetically adjacent genes: the paper's ablation of pathways (4.6)."""
    order = np.argsort(np.array(genes), kind="stable")
    index = [
        np.sort(order[start : start + ADJACENT_GENES])
        for start in range(0, len(genes), ADJACENT_GENES)
    ]
    names = [f"adjacent-{number:05d}" for number in range(1, len(index) + 1)]
    return GeneSets(names, names, index, "none")


def _filter_sets(
    sets: GeneSets, n_genes: int, settings: PathwaysSettings
) -> tuple[GeneSets, dict[str, int]]:
    sizes = np.array([len(index) for index in sets.index], dtype=np.int64)
    small, large = sizes < settings["min_genes"], sizes > settings["max_genes"]
    sized = sets.take(np.flatnonzero(~(small | large)))
    distinct = prune(sized.index, n_genes, settings["max_jaccard"])
    pruned = sized.take(distinct)
    chosen = pruned
    if settings["max_sets"] is not None:
        chosen = pruned.take(cover(pruned.index, n_genes, settings["max_sets"]))
    return chosen, {
        "too_small": int(small.sum()),
        "too_large": int(large.sum()),
        "redundant": len(sized.index) - len(pruned.index),
        "beyond_max_sets": len(pruned.index) - len(chosen.index),
    }


def prune(index: list[np.ndarray], n_genes: int, max_jaccard: float) -> np.ndarray:
    """Return the positions of the sets left after dropping the larger of two near-copies.

    Sets are visited from the smallest up (ties in input order, so the first of identical sets
    stays); a set whose Jaccard overlap with a retained set is above `max_jaccard` is dropped.
    """
    member = membership_matrix(index, n_genes)
    sizes = np.array([len(genes) for genes in index], dtype=np.int64)
    shared = (member @ member.T).tocoo()
    jaccard = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data)
    near_copies = (jaccard > max_jaccard) & (shared.row != shared.col)
    neighbours: dict[int, list[int]] = {}
    for first, second in zip(
        shared.row[near_copies].tolist(), shared.col[near_copies].tolist(), strict=True
    ):
        neighbours.setdefault(first, []).append(second)
    retained = np.zeros(len(index), dtype=bool)
    for position in np.argsort(sizes, kind="stable").tolist():
        retained[position] = not any(retained[other] for other in neighbours.get(position, ()))
    return np.flatnonzero(retained)


def cover(index: list[np.ndarray], n_genes: int, max_sets: int) -> np.ndarray:
    """Return the positions of at most `max_sets` sets, chosen greedily by newly covered genes.

    Ties go to the smaller set, then to the earlier one. Once all coverable genes are covered, the
    coverage is reset, so that further sets again spread over all genes.
    """
    member = membership_matrix(index, n_genes)
    sizes = np.array([len(genes) for genes in index], dtype=np.int64)
    free = np.ones(len(index), dtype=bool)
    uncovered = np.ones(n_genes, dtype=np.int64)
    while free.any() and (~free).sum() < max_sets:
        gain = np.where(free, member @ uncovered, -1)
        if gain.max() == 0:
            uncovered[:] = 1
            continue
        best = np.flatnonzero(gain == gain.max())
        chosen = best[np.argmin(sizes[best])]
        free[chosen] = False
        uncovered[index[chosen]] = 0
    return np.flatnonzero(~free)


def pathways_table(pathways: Pathways, descriptions: list[str], genes: list[str]) -> pl.DataFrame:
    """Return a long table of pathway, name and gene: one row per membership, sets in order."""
    sizes = pathways.sizes
    return pl.DataFrame(
        {
            "pathway": np.repeat(np.array(pathways.names, dtype=object), sizes).tolist(),
            "name": np.repeat(np.array(descriptions, dtype=object), sizes).tolist(),
            "gene": [genes[i] for i in np.concatenate(pathways.index)],
        }
    )
