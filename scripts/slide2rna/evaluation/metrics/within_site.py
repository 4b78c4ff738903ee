"""What is left of a correlation once every site is compared with itself alone.

Sites differ in expression and in staining; a model that recognises the site is rewarded for it
in the ordinary correlation, and not in this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array


@dataclass(frozen=True)
class Sites:
    """The scored samples of a fold whose site has at least two of them.

    Attributes
    ----------
    rows : (m,) rows of these samples.
    code : (m,) number of the site, from 0.
    count : number of sites.
    """

    rows: NDArray[np.int64]
    code: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, sites: Sequence[str | None]) -> Sites:
        """From the site of each sample."""
        names = np.array([site or "" for site in sites], dtype=object)
        known, code, counts = np.unique(names, return_inverse=True, return_counts=True)
        usable = (counts >= 2) & (known != "")
        rows = np.flatnonzero(usable[code])
        renumbered = np.cumsum(usable) - 1
        return cls(rows, renumbered[code[rows]], int(usable.sum()))

    @property
    def effective(self) -> int:
        """Samples less one for each further mean that is taken off: n for the weight n - 3."""
        return len(self.rows) - max(self.count - 1, 0)

    def centre(self, values: Array) -> Array:
        """Values (n, G) of the rows, less the mean of their site: (m, G)."""
        kept = values[self.rows].astype(np.float64)
        return kept - site_means(kept, self.code, self.count)[self.code]


def site_means(values: Array, code: NDArray[np.int64], count: int) -> Array:
    """Mean of values (n, G) per site (count, G)."""
    member = np.zeros((count, len(values)))
    member[code, np.arange(len(values))] = 1.0
    return (member @ values) / member.sum(axis=1, keepdims=True)


def site_share(truth: Array, sites: Sequence[str | None]) -> Array:
    """Share of each gene's variance over samples that the site explains, adjusted (G,).

    The adjusted R squared of a one-way analysis of variance: 0 on average where sites don't
    matter, and below 0 half of the time. NaN without two sites, or without variance.
    """
    known = np.array([site is not None for site in sites])
    names, code = np.unique([site for site in sites if site is not None], return_inverse=True)
    n, count = int(known.sum()), len(names)
    if count < 2 or n <= count:
        return np.full(truth.shape[1], np.nan)
    values = truth[known].astype(np.float64)
    centred = values - values.mean(axis=0)
    total = (centred**2).sum(axis=0)
    inside = ((centred - site_means(centred, code, count)[code]) ** 2).sum(axis=0)
    flat = values.std(axis=0) <= 1e-6 * np.maximum(1.0, np.abs(values.mean(axis=0)))
    share = 1.0 - (inside / (n - count)) / (np.where(flat, 1.0, total) / (n - 1))
    return np.where(flat, np.nan, share)
