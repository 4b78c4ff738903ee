"""Correlation within sites: the correlation that remains after subtracting each site's mean.

Sites differ in expression and in staining. The ordinary correlation rewards a model that
recognises the site; this one doesn't.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array


@dataclass(frozen=True)
class Sites:
    """Scored samples of a fold whose site has at least two of them.

    Attributes
    ----------
    rows : (m,) rows of these samples.
    code : (m,) index of the site, from 0.
    count : number of sites.
    """

    rows: NDArray[np.int64]
    code: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, sites: Sequence[str | None]) -> Sites:
        """Select the rows from the site of each sample."""
        names = np.array([site or "" for site in sites], dtype=object)
        unique, code, counts = np.unique(names, return_inverse=True, return_counts=True)
        usable = (counts >= 2) & (unique != "")
        rows = np.flatnonzero(usable[code])
        renumbered = np.cumsum(usable) - 1
        return cls(rows, renumbered[code[rows]], int(usable.sum()))

    @property
    def effective(self) -> int:
        """Samples minus one for each further site mean removed: n for the weight n - 3."""
        return len(self.rows) - max(self.count - 1, 0)

    def centre(self, values: Array) -> Array:
        """Return the rows of values (n, G) minus the mean of their site: (m, G)."""
        selected = values[self.rows].astype(np.float64)
        return selected - site_means(selected, self.code, self.count)[self.code]


def site_means(values: Array, code: NDArray[np.int64], count: int) -> Array:
    """Return the mean of values (n, G) per site (count, G)."""
    member = np.zeros((count, len(values)))
    member[code, np.arange(len(values))] = 1.0
    return (member @ values) / member.sum(axis=1, keepdims=True)


def site_share(truth: Array, sites: Sequence[str | None]) -> Array:
    """Return the adjusted share of each gene's variance over samples that site explains (G,).

    The adjusted R squared of a one-way analysis of variance: 0 on average if sites don't matter,
    and below 0 half of the time. NaN without two sites, or without variance.
    """
    has_site = np.array([site is not None for site in sites])
    names, code = np.unique([site for site in sites if site is not None], return_inverse=True)
    n, count = int(has_site.sum()), len(names)
    if count < 2 or n <= count:
        return np.full(truth.shape[1], np.nan)
    values = truth[has_site].astype(np.float64)
    centred = values - values.mean(axis=0)
    total = (centred**2).sum(axis=0)
    inside = ((centred - site_means(centred, code, count)[code]) ** 2).sum(axis=0)
    flat = values.std(axis=0) <= 1e-6 * np.maximum(1.0, np.abs(values.mean(axis=0)))
    share = 1.0 - (inside / (n - count)) / (np.where(flat, 1.0, total) / (n - 1))
    return np.where(flat, np.nan, share)
