"""Gene panel of a fold, from the spots of its training patients alone.

HMHVG are genes with a high mean and a high variance: those in the first K by mean and in the first
K by standard deviation, with the smallest K that gives enough of them. SVG are the genes with the
highest Moran's I.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.errors import StageError
from slide2rna.core.types import Array, Indices, Mask
from slide2rna.evaluation.metrics.spatial import morans_i

# Mitochondrial and ribosomal genes say more about a spot's quality than about its tissue.
TECHNICAL = re.compile(r"MT-|RP[SL]\d")
SEEN_SHARE = 0.1


def is_technical(genes: Sequence[str]) -> Mask:
    """Return True (G,) for mitochondrial and ribosomal protein genes."""
    return np.array([TECHNICAL.match(gene) is not None for gene in genes], dtype=bool)


def hmhvg(values: Array, genes: Sequence[str], count: int) -> Indices:
    """Return the columns of the panel, ascending.

    Parameters
    ----------
    values
        Targets (n, G) of all training spots.
    genes
        Names of the columns; technical genes are left out.
    count
        Size of the panel.

    Raises
    ------
    StageError
        There are fewer genes than `count`.
    """
    usable = np.flatnonzero(~is_technical(genes))
    _check_count(len(usable), count)
    by_mean = usable[np.argsort(-values.mean(axis=0)[usable], kind="stable")]
    by_sd = usable[np.argsort(-values.std(axis=0)[usable], kind="stable")]
    rank = np.zeros((2, values.shape[1]), dtype=np.int64)
    rank[0, by_mean] = rank[1, by_sd] = np.arange(len(usable))
    # A gene is in both lists from its worse rank on; ties go to the better sum of ranks.
    worst, both = rank.max(axis=0)[usable], rank.sum(axis=0)[usable]
    return np.sort(usable[np.lexsort((usable, both, worst))[:count]])


def svg(
    slides: Sequence[Array],
    weights: Sequence[sparse.csr_array],
    genes: Sequence[str],
    count: int,
) -> Indices:
    """Return the columns with the highest mean Moran's I over the training slides, ascending."""
    usable = np.flatnonzero(~is_technical(genes))
    _check_count(len(usable), count)
    by_slide = [morans_i(values, w) for values, w in zip(slides, weights, strict=True)]
    mean = np.mean([np.where(np.isnan(moran), -1.0, moran) for moran in by_slide], axis=0)
    return np.sort(usable[np.argsort(-mean[usable], kind="stable")[:count]])


def seen(counts: NDArray[np.int64], share: float = SEEN_SHARE) -> Indices:
    """Return the columns of genes that at least a share of the training spots detects."""
    return np.flatnonzero((counts > 0).mean(axis=0) >= share)


def _check_count(usable: int, count: int) -> None:
    if usable < count:
        cause = f"{usable} genes are usable, {count} are wanted"
        raise StageError("panel", cause, "lower spatial.genes")
