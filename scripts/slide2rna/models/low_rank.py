"""Low-rank ridge: from the mean of a slide's tiles to the leading components of expression.

A slide's information on thousands of genes is mostly on a few programmes. A ridge to the first
q principal components of the train profiles leaves out the directions that are noise: reduced-rank
regression with a ridge penalty (Mukherjee and Zhu 2011, doi:10.1002/sam.10138), with components of
the profiles instead of those of the fit. Val chooses q and the penalty together; with all
components it is the plain ridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.data.patients import Part
from slide2rna.models.base import FittedModel
from slide2rna.models.ridge import PENALTIES, Ridge, bag_mean, per_sample, unit_scale

RANKS = (1, 2, 3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 65, 80, 100, 150, 200)


@dataclass(frozen=True)
class LowRankRidge:
    """A ridge whose predictions are projected on components of the train targets.

    Attributes
    ----------
    ridge : ridge to all targets, multiplied by `scale`.
    scale : (G,) factor that gives each target unit variance; 0 for one without variance.
    basis : (G, Q) components of the scaled train targets, by falling variance, orthonormal.
    """

    ridge: Ridge
    scale: Array
    basis: Array

    @classmethod
    def fit(cls, x: Array, y: Array, scale: Array) -> LowRankRidge:
        """Fit on features (n, d) and targets (n, G)."""
        ridge = Ridge.fit(x, y * scale)
        centred = y * scale - ridge.mean_y
        squares, vectors = np.linalg.eigh(centred @ centred.T)
        order = np.argsort(-squares, kind="stable")
        order = order[squares[order] > squares.max(initial=0.0) * 1e-10]
        basis = centred.T @ (vectors[:, order] / np.sqrt(squares[order]))
        return cls(ridge, scale, basis)

    def choose(
        self,
        x: Array,
        y: Array,
        slides: int,
        pool: Array | None = None,
        ranks: Sequence[int] = RANKS,
    ) -> tuple[int, float, float]:
        """Return rank and penalty of least squared error on val, and its mean squared error.

        The components are orthonormal: each adds its own change of the error, so one cumulative
        sum gives the errors of all ranks.

        Parameters
        ----------
        x, y : features (S, d) and targets (n, G) of val.
        slides : number of train slides, the unit of the penalties.
        pool : (n, S) average of a sample's slides; the identity by default.
        ranks : ranks to try besides that of all components.
        """
        projected = self.ridge.project(x)
        if pool is not None:
            projected = pool.astype(np.float64) @ projected
        truth = y * self.scale - self.ridge.mean_y
        scores, weights = truth @ self.basis, self.ridge.uty @ self.basis
        total = self.basis.shape[1]
        tried = np.array([rank for rank in ranks if rank < total] + [total])
        best = (total, float(PENALTIES[0]) * slides, np.inf)
        for penalty in PENALTIES * slides:
            predicted = (projected * (self.ridge.s / (self.ridge.s**2 + penalty))) @ weights
            change = (np.square(scores - predicted) - np.square(scores)).sum(axis=0)
            errors = np.cumsum(change)[tried - 1]
            index = int(np.argmin(errors))
            if errors[index] < best[2]:
                best = (int(tried[index]), float(penalty), float(errors[index]))
        rank, penalty, error = best
        return rank, penalty, (error + float(np.square(truth).sum())) / truth.size

    def affine(self, rank: int, penalty: float) -> tuple[Array, Array]:
        """Return weights (d, G) and offsets (G,): predictions are x @ weights + offsets."""
        weights, _ = self.ridge.affine(penalty)
        basis = self.basis[:, :rank]
        weights = weights @ basis @ basis.T
        offset = self.ridge.mean_y - self.ridge.mean_x @ weights
        # A target without variance is its constant; its weights are 0.
        restore = np.where(self.scale > 0, 1 / np.where(self.scale > 0, self.scale, 1), 0)
        return weights * restore, offset * restore

    def predict(self, x: Array, rank: int, penalty: float) -> Array:
        """Predict (n, G) from features (n, d)."""
        weights, offset = self.affine(rank, penalty)
        return x @ weights + offset

    def left_out_residuals(
        self, x: Array, y: Array, rank: int, penalty: float, groups: Sequence[str]
    ) -> Array:
        """Return residuals (n, G) of the fitted rows, each with all rows of its group left out.

        Exact for fixed components, as `Ridge.left_out_residuals`; what the components leave out is
        a residual from the mean.
        """
        basis, restore = self.basis[:, :rank], np.where(self.scale > 0, self.scale, 1)
        inside = self.ridge.left_out_residuals(x, y * self.scale, penalty, groups) @ basis
        outside = self.ridge.left_out_residuals(x, y * self.scale, np.inf, groups)
        outside -= outside @ basis @ basis.T
        return (inside @ basis.T + outside) / restore


def fit(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Fit a low-rank ridge on bag means; seed and fold aren't used."""
    features = bag_mean(train)
    y, x = train.spread(train.truth), features(train)
    scale = unit_scale(train.truth)
    model = LowRankRidge.fit(x, y, scale)
    slides = len(train.slide_ids)
    rank, penalty, _ = model.choose(features(val), val.truth, slides, val.pool)
    weights, offset = model.affine(rank, penalty)
    constant = np.where(scale > 0, 0.0, train.truth.mean(axis=0, dtype=np.float64))
    residuals = model.left_out_residuals(x, y, rank, penalty, train.units)
    samples = [train.samples[row] for row in train.pool.argmax(axis=0)]

    def predict(part: Part) -> NDArray[np.float32]:
        return np.asarray(features(part) @ weights + offset + constant, dtype=np.float32)

    note = f"rank {rank} of {model.basis.shape[1]}, penalty {penalty / slides:.3g} per train slide"
    return FittedModel(note, predict, per_sample(residuals, samples).astype(np.float32))
