"""Predictions that any model must beat: no image, colour alone, and a ridge on the bag's mean.

All are fitted on the fold's train slides; a penalty is picked by val; points of a sample's
slides are averaged, as for the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna import io
from slide2rna.patients import Cohort, Fold, Part

Array = NDArray[np.floating]

NAMES = ("constant", "site-mean", "color-ridge", "ridge", "permuted")
# In units of the number of train slides; features are standardised, so that 1e-4 hardly
# shrinks and 1e5 leaves little but the mean.
PENALTIES = np.logspace(-4, 5, 19)


@dataclass(frozen=True)
class Null:
    """A null's predictions in log2(x+1).

    Attributes
    ----------
    val, test : (n, G) float32, a row per sample.
    note : how it was fitted, for the table.
    """

    val: NDArray[np.float32]
    test: NDArray[np.float32]
    note: str


@dataclass(frozen=True)
class Ridge:
    """Ridge regression of all genes at once, for every penalty from one decomposition.

    With X = U S V' (centred and scaled on train), the prediction for a new row x is
    mean + x V diag(s / (s^2 + penalty)) U'Y: the only part that the penalty changes is a diagonal.
    """

    mean_x: Array
    sd_x: Array
    mean_y: Array
    v: Array
    s: Array
    uty: Array

    @classmethod
    def fit(cls, x: Array, y: Array) -> Ridge:
        """Fit on features (n, d) and targets (n, G)."""
        mean_x, sd_x = x.mean(axis=0), x.std(axis=0)
        sd_x = np.where(sd_x > 1e-12, sd_x, 1.0)
        mean_y = y.mean(axis=0, dtype=np.float64)
        u, s, vt = np.linalg.svd((x - mean_x) / sd_x, full_matrices=False)
        kept = s > s.max(initial=0.0) * 1e-10
        return cls(mean_x, sd_x, mean_y, vt[kept].T, s[kept], u[:, kept].T @ (y - mean_y))

    def predict(self, x: Array, penalty: float) -> Array:
        """Predictions (n, G) for features (n, d)."""
        shrunk = (self.s / (self.s**2 + penalty))[:, None] * self.uty
        return self.mean_y + ((x - self.mean_x) / self.sd_x) @ self.v @ shrunk


def fit_nulls(cohort: Cohort, fold: Fold, seed: int) -> tuple[dict[str, Null], dict[str, str]]:
    """All nulls that this fold allows.

    Returns
    -------
    nulls : by name.
    absent : the reason, for those that can't be had.
    """
    nulls = {"constant": _constant(fold)}
    absent = {}
    by_site = _site_mean(fold)
    if by_site is None:
        absent["site-mean"] = "fewer than two sites among the train slides"
    else:
        nulls["site-mean"] = by_site
    color = cohort.bags.color.astype(np.float64)
    parts = (fold.train, fold.val, fold.test)
    if all(np.isfinite(color[part.bag_rows]).all() for part in parts):
        nulls["color-ridge"] = _ridge(fold, color, fold.train.truth, fold.val.truth)
    else:
        absent["color-ridge"] = "slides without colour statistics in their features"
    bag_mean = mean_of_bags(cohort.bags.means, cohort.bags.sizes)
    nulls["ridge"] = _ridge(fold, bag_mean, fold.train.truth, fold.val.truth)
    rng = io.rng_for(seed, "permuted", fold.number)
    shuffled = [part.truth[rng.permutation(len(part.samples))] for part in (fold.train, fold.val)]
    nulls["permuted"] = _ridge(fold, bag_mean, *shuffled)
    return nulls, absent


def mean_of_bags(means: Array, sizes: Array) -> Array:
    """Mean of a slide's tiles (S, d) from its cluster means (S, k, d) and sizes (S, k)."""
    total = sizes.sum(axis=1, dtype=np.float64)[:, None]
    return np.einsum("skd,sk->sd", means, sizes, dtype=np.float64) / np.maximum(total, 1e-12)


def _constant(fold: Fold) -> Null:
    mean = fold.train.truth.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = [np.broadcast_to(mean, part.truth.shape) for part in (fold.val, fold.test)]
    return Null(rows[0], rows[1], "mean of the train samples")


def _site_mean(fold: Fold) -> Null | None:
    known = sorted({site for site in fold.train.sites if site is not None})
    if len(known) < 2:
        return None
    overall = fold.train.truth.mean(axis=0, dtype=np.float64)
    means = {}
    for site in known:
        here = np.array([name == site for name in fold.train.sites])
        samples = (fold.train.pool[:, here] > 0).any(axis=1)
        means[site] = fold.train.truth[samples].mean(axis=0, dtype=np.float64)

    def predict(part: Part) -> NDArray[np.float32]:
        rows = [means.get(site, overall) if site else overall for site in part.sites]
        return part.average(np.array(rows, dtype=np.float32)).astype(np.float32)

    return Null(predict(fold.val), predict(fold.test), "mean of the site's train samples, no image")


def _ridge(fold: Fold, features: Array, train_truth: Array, val_truth: Array) -> Null:
    """Ridge with the penalty that has the least val error, in units of each gene's train sd."""
    train, val, test = fold.train, fold.val, fold.test
    model = Ridge.fit(features[train.bag_rows], train_truth[train.pool.argmax(axis=0)])
    sd = train_truth.std(axis=0, dtype=np.float64)
    scale = np.where(sd > 1e-6, 1.0 / np.where(sd > 1e-6, sd, 1.0), 0.0)
    penalties = PENALTIES * len(train.slide_ids)
    errors = [
        float(
            (
                ((val.average(model.predict(features[val.bag_rows], p)) - val_truth) * scale) ** 2
            ).mean()
        )
        for p in penalties
    ]
    penalty = float(penalties[int(np.argmin(errors))])
    predicted = [
        part.average(model.predict(features[part.bag_rows], penalty)).astype(np.float32)
        for part in (val, test)
    ]
    relative = penalty / len(train.slide_ids)
    return Null(predicted[0], predicted[1], f"penalty {relative:.3g} per train slide")
