"""Gene sets: read or propagated from GO, filtered, and turned into an overlap graph.

Section 3.2 of the paper: pathways P_i as index sets of genes, the background set B of
genes that no pathway covers, and the adjacency A_ij = 1 where two sets share a gene.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna.core.config import Settings
from slide2rna.core.errors import PathwayError
from slide2rna.pathways import sources
from slide2rna.pathways.membership import DENSE, Pathways, _membership
from slide2rna.pathways.sources import GeneSets

ADJACENT_GENES = 10


def build(
    settings: Settings, genes: list[str], go: str | Path
) -> tuple[Pathways, list[str], dict[str, Any]]:
    """Gene sets for a gene list, as the section `pathways` of the config asks for.

    Parameters
    ----------
    settings
        source, min_genes, max_genes, max_jaccard, max_sets. The limits apply to the number of
        a set's genes in `genes`, after propagation. `adjacent` takes no limits: its sets are
        a partition.
    genes
        The gene list of the expression table.
    go
        Folder of the pinned GO snapshot (resources/go).

    Returns
    -------
    pathways, descriptions
        One description per set.
    report
        Counts for the JSON beside the table; has a key `warning` if more than half of all pairs
        of sets are connected, because the attention mask then does little.

    Raises
    ------
    PathwayError
        The source can't be read, or no set is left.
    """
    source = str(settings["source"])
    if source == "adjacent":
        sets = _adjacent(genes)
        dropped: dict[str, int] = {}
    else:
        sets = _read(source, genes, Path(go))
        sets, dropped = _filter(sets, len(genes), settings)
    if not sets.index:
        raise PathwayError(
            source,
            f"no gene set is left for these {len(genes)} genes ({dropped})",
            "check the gene names, or lower pathways.min_genes",
        )
    pathways = Pathways(sets.names, sets.index, len(genes))
    report: dict[str, Any] = {
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


def _read(source: str, genes: list[str], go: Path) -> GeneSets:
    if source in sources.ASPECTS:
        return sources.gene_ontology(go, genes, source)
    path = Path(source)
    if not path.is_file():
        raise PathwayError(
            path, "no such file", "pathways.source is go-bp, go-mf, adjacent, a GMT or a JSON file"
        )
    return sources.index_json(path, genes) if path.suffix == ".json" else sources.gmt(path, genes)


def _adjacent(genes: list[str]) -> GeneSets:
    """Sets of 10 alphabetically adjacent genes: the paper's ablation without pathways (4.6)."""
    order = np.argsort(np.array(genes), kind="stable")
    index = [
        np.sort(order[start : start + ADJACENT_GENES])
        for start in range(0, len(genes), ADJACENT_GENES)
    ]
    names = [f"adjacent-{number:05d}" for number in range(1, len(index) + 1)]
    return GeneSets(names, names, index, "none")


def _filter(sets: GeneSets, n_genes: int, settings: Settings) -> tuple[GeneSets, dict[str, int]]:
    sizes = np.array([len(index) for index in sets.index], dtype=np.int64)
    small, large = sizes < settings["min_genes"], sizes > settings["max_genes"]
    kept = sets.take(np.flatnonzero(~(small | large)))
    different = prune(kept.index, n_genes, settings["max_jaccard"])
    pruned = kept.take(different)
    chosen = pruned
    if settings["max_sets"] is not None:
        chosen = pruned.take(cover(pruned.index, n_genes, settings["max_sets"]))
    return chosen, {
        "too_small": int(small.sum()),
        "too_large": int(large.sum()),
        "redundant": len(kept.index) - len(pruned.index),
        "beyond_max_sets": len(pruned.index) - len(chosen.index),
    }


def prune(index: list[np.ndarray], n_genes: int, max_jaccard: float) -> np.ndarray:
    """Positions of the sets that stay when the larger of two near-copies goes.

    Sets are taken from the smallest up (ties in the given order, so of identical sets the first
    stays); one whose Jaccard overlap with a set already kept is above `max_jaccard` is dropped.
    """
    member = _membership(index, n_genes)
    sizes = np.array([len(genes) for genes in index], dtype=np.int64)
    shared = (member @ member.T).tocoo()
    jaccard = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data)
    close = (jaccard > max_jaccard) & (shared.row != shared.col)
    neighbours: dict[int, list[int]] = {}
    for one, other in zip(shared.row[close].tolist(), shared.col[close].tolist(), strict=True):
        neighbours.setdefault(one, []).append(other)
    kept = np.zeros(len(index), dtype=bool)
    for position in np.argsort(sizes, kind="stable").tolist():
        kept[position] = not any(kept[other] for other in neighbours.get(position, ()))
    return np.flatnonzero(kept)


def cover(index: list[np.ndarray], n_genes: int, max_sets: int) -> np.ndarray:
    """Positions of at most `max_sets` sets, chosen greedily by the genes they newly cover.

    Ties go to the smaller set, then to the earlier one. When every gene that can be is covered,
    the count starts afresh, so that further sets again spread over all genes.
    """
    member = _membership(index, n_genes)
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


def table(pathways: Pathways, descriptions: list[str], genes: list[str]) -> pl.DataFrame:
    """Long table pathway, name, gene: one row per membership, sets in their order."""
    sizes = pathways.sizes
    return pl.DataFrame(
        {
            "pathway": np.repeat(np.array(pathways.names, dtype=object), sizes).tolist(),
            "name": np.repeat(np.array(descriptions, dtype=object), sizes).tolist(),
            "gene": [genes[i] for i in np.concatenate(pathways.index)],
        }
    )
