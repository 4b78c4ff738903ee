"""Pathway activity of a profile: combined z score or ssGSEA."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.types import Array

# 100 draws of 2,048 genes take 0.8 MB, which fits a core's cache.
BLOCK = 2048
# Exponent of the ranks in Barbie's statistic.
ALPHA = 0.25


@dataclass(frozen=True)
class ZScore:
    """Mean of the members' z values.

    Times the square root of the set's size, this is the combined z score of Lee et al. (2008),
    doi:10.1371/journal.pcbi.1000217; the factor is the same for all profiles, so it changes no
    correlation, coverage or rank over patients.

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
        """Fit to a train part's mean and sd; genes that aren't eligible have weight 0."""
        scale = np.where(eligible, 1.0 / np.where(eligible, sd, 1.0), 0.0)
        return cls(mean.astype(dtype), scale.astype(dtype), members)

    @cached_property
    def scorable(self) -> NDArray[np.bool_]:
        """Mask (P,) of pathways with a gene that varies; all others score 0 everywhere."""
        return np.asarray(abs(self.members) @ (self.scale > 0)) > 0

    @cached_property
    def blocks(self) -> list[sparse.csr_matrix]:
        """Members of each block of genes."""
        columns = self.members.tocsc()
        return [columns[:, block].tocsr() for block in gene_blocks(len(self.mean))]

    def score(self, expression: Array) -> Array:
        """Return scores (P, n) of expression (G, n), or (P,) of one profile."""
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
    between -1 and 1 for any number of genes. It uses no other profile and no train part.

    Attributes
    ----------
    members : (P, G) sparse; nonzero entries belong to the set.
    """

    members: sparse.csr_matrix

    @cached_property
    def inside(self) -> sparse.csr_matrix:
        """Membership as ones."""
        ones = self.members.astype(np.float32)
        ones.data = np.ones_like(ones.data)
        return ones

    @property
    def scorable(self) -> NDArray[np.bool_]:
        """Mask (P,) of all pathways: genes without variance also have ranks among all genes."""
        return np.ones(self.members.shape[0], dtype=bool)

    def score(self, expression: Array) -> Array:
        """Return scores (P, n) of expression (G, n), or (P,) of one profile."""
        profiles = np.atleast_2d(expression.T)
        genes = profiles.shape[1]
        sizes = np.asarray(self.inside.sum(axis=1)).ravel()
        rank = np.ascontiguousarray(average_ranks(profiles).T)
        weight = np.sqrt(np.sqrt(rank))
        within = self.inside @ (rank * weight) / np.maximum(self.inside @ weight, 1e-9)
        rest = genes * (genes + 1) / 2 - self.inside @ rank
        outside = rest / np.maximum(genes - sizes, 1)[:, None]
        scores = np.asarray((within - outside) / genes)
        return scores if expression.ndim > 1 else scores[:, 0]


ScoringMethod = ZScore | SsGsea


def scoring_method(
    name: str,
    mean: Array,
    sd: Array,
    eligible: NDArray[np.bool_],
    members: sparse.csr_matrix,
    dtype: type[np.floating] = np.float64,
) -> ScoringMethod:
    """Return the method of `evaluate.pathway_score`: zscore, fitted to a train part, or ssgsea."""
    if name == "ssgsea":
        return SsGsea(members)
    return ZScore.of(mean, sd, eligible, members, dtype)


def gene_blocks(genes: int) -> list[slice]:
    """Return slices of at most BLOCK genes."""
    return [slice(start, min(start + BLOCK, genes)) for start in range(0, genes, BLOCK)]


def average_ranks(rows: Array) -> NDArray[np.float32]:
    """Return ranks within each row, from 1, ties averaged.

    Draws are stored in float16 and clipped at 0, so ties are common, and their order in the file
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
