"""Activity of a pathway in a profile: the combined z score, or ssGSEA."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.types import Array

# 100 draws of so many genes take 0.8 MB, which stays in a core's cache.
BLOCK = 2048
# The weight of ranks in Barbie's statistic.
ALPHA = 0.25


@dataclass(frozen=True)
class ZScore:
    """The mean of the members' z values.

    Times the root of the set's size this is the combined z score of Lee et al. (2008),
    doi:10.1371/journal.pcbi.1000217; the factor is the same for all profiles, so correlations,
    coverage and ranks over patients are too.

    Attributes
    ----------
    mean, scale : (G,) z = (x - mean) * scale; scale is 0 for a gene without variance in train.
    members : (P, G) sparse; rows sum to 1 over the genes of the set.
    """

    mean: Array
    scale: Array
    members: sparse.csr_matrix

    @classmethod
    def of(
        cls,
        mean: Array,
        sd: Array,
        eligible: NDArray[np.bool_],
        members: sparse.csr_matrix,
        dtype: type[np.floating] = np.float64,
    ) -> ZScore:
        """From a train part's mean and sd; genes that aren't eligible weigh nothing."""
        scale = np.where(eligible, 1.0 / np.where(eligible, sd, 1.0), 0.0)
        return cls(mean.astype(dtype), scale.astype(dtype), members)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Pathways (P,) with a gene that varies; any other has the score 0 everywhere."""
        return np.asarray(abs(self.members) @ (self.scale > 0)) > 0

    @cached_property
    def blocks(self) -> list[sparse.csr_matrix]:
        """The members of each block of genes."""
        columns = self.members.tocsc()
        return [columns[:, block].tocsr() for block in gene_blocks(len(self.mean))]

    def score(self, expression: Array) -> Array:
        """Scores (P, n) of expression (G, n), or (P,) of one profile."""
        shape = (-1,) + (1,) * (expression.ndim - 1)
        z = (expression - self.mean.reshape(shape)) * self.scale.reshape(shape)
        return self.members @ z


@dataclass(frozen=True)
class SsGsea:
    """Single-sample gene set enrichment: Barbie et al. (2009), doi:10.1038/nature08460.

    With r the rank of a gene in its profile (1 the lowest, ties averaged) and S a set of m genes
    among G, the sum over all positions of the two running sums' difference has the closed form

        sum_S r^(1 + a) / sum_S r^a  -  (G (G + 1) / 2 - sum_S r) / (G - m),   a = 0.25,

    since a gene counts in as many positions as its rank. It is divided by G, so that it lies
    between -1 and 1 whatever the number of genes. No other profile and no train part enters.

    Attributes
    ----------
    members : (P, G) sparse; whatever isn't zero belongs to the set.
    """

    members: sparse.csr_matrix

    @cached_property
    def inside(self) -> sparse.csr_matrix:
        """Membership as ones."""
        ones = self.members.astype(np.float32)
        ones.data = np.ones_like(ones.data)
        return ones

    @property
    def known(self) -> NDArray[np.bool_]:
        """All pathways (P,): ranks among all genes say something of silent ones too."""
        return np.ones(self.members.shape[0], dtype=bool)

    def score(self, expression: Array) -> Array:
        """Scores (P, n) of expression (G, n), or (P,) of one profile."""
        profiles = np.atleast_2d(expression.T)
        genes = profiles.shape[1]
        sizes = np.asarray(self.inside.sum(axis=1)).ravel()
        rank = np.ascontiguousarray(average_ranks(profiles).T)
        weight = np.sqrt(np.sqrt(rank))
        within = self.inside @ (rank * weight) / np.maximum(self.inside @ weight, 1e-9)
        rest = genes * (genes + 1) / 2 - self.inside @ rank
        outside = rest / np.maximum(genes - sizes, 1)[:, None]
        found = np.asarray((within - outside) / genes)
        return found if expression.ndim > 1 else found[:, 0]


Method = ZScore | SsGsea


def scoring_method(
    name: str,
    mean: Array,
    sd: Array,
    eligible: NDArray[np.bool_],
    members: sparse.csr_matrix,
    dtype: type[np.floating] = np.float64,
) -> Method:
    """The method of `evaluate.pathway_score`: zscore, fitted to a train part, or ssgsea."""
    if name == "ssgsea":
        return SsGsea(members)
    return ZScore.of(mean, sd, eligible, members, dtype)


def gene_blocks(genes: int) -> list[slice]:
    """Slices of at most BLOCK genes."""
    return [slice(start, min(start + BLOCK, genes)) for start in range(0, genes, BLOCK)]


def average_ranks(rows: Array) -> NDArray[np.float32]:
    """Ranks within each row, from 1, ties averaged.

    Draws are kept in float16 and clipped at 0, so ties are many, and their order in the file
    must not matter.
    """
    count, width = rows.shape
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    first = np.ones((count, width), dtype=bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, count * width))
    middle = (starts % width + 1 + (lengths - 1) / 2).astype(np.float32)
    out = np.empty((count, width), np.float32)
    np.put_along_axis(out, order, np.repeat(middle, lengths).reshape(count, width), axis=1)
    return out
