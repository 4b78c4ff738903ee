"""Ridge regression on the mean of a slide's tiles, its penalty picked by val.

Hoerl and Kennard (1970), doi:10.1080/00401706.1970.10488634. `tuned` serves the colour and the
permuted model too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.data.patients import Part
from slide2rna.models.base import FittedModel

# In units of the number of train slides; features are standardised, so that 1e-4 hardly
# shrinks and 1e5 leaves little but the mean.
PENALTIES = np.logspace(-4, 5, 19)


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
        z = (x - mean_x) / sd_x
        # The smaller of the two products has the same decomposition, for a tenth of the time.
        wide = z.shape[1] > z.shape[0]
        squares, vectors = np.linalg.eigh(z @ z.T if wide else z.T @ z)
        kept = squares > squares.max(initial=0.0) * 1e-12
        s, vectors = np.sqrt(squares[kept]), vectors[:, kept]
        u, v = (vectors, z.T @ vectors / s) if wide else (z @ vectors / s, vectors)
        return cls(mean_x, sd_x, mean_y, v, s, u.T @ (y - mean_y))

    def project(self, x: Array) -> Array:
        """Features (n, d) along the directions of train (n, r)."""
        return ((x - self.mean_x) / self.sd_x) @ self.v

    def predict(self, x: Array, penalty: float) -> Array:
        """Predictions (n, G) for features (n, d)."""
        return self.mean_y + (self.project(x) * (self.s / (self.s**2 + penalty))) @ self.uty

    def choose(
        self, x: Array, y: Array, slides: int, scale: Array | float = 1.0, pool: Array | None = None
    ) -> tuple[float, float]:
        """The penalty with the least squared error on val, and its mean squared error.

        Averaging slides and shrinking are both linear, so val is projected once for all
        penalties, and the error over all genes is a quadratic form in what the penalty changes.

        Parameters
        ----------
        x, y : features (S, d) and targets (n, G) of val.
        slides : number of train slides, the unit of the penalties.
        scale : (G,) weight of each gene's errors.
        pool : (n, S) average of a sample's slides; the identity if not given.
        """
        projected = self.project(x)
        if pool is not None:
            projected = pool.astype(np.float64) @ projected
        off = (self.mean_y - y) * scale
        uty = self.uty * scale
        square, cross, constant = uty @ uty.T, off @ uty.T, np.square(off).sum()
        penalties = PENALTIES * slides
        errors = []
        for penalty in penalties:
            shrunk = projected * (self.s / (self.s**2 + penalty))
            errors.append(float(((shrunk @ square) * shrunk + 2.0 * shrunk * cross).sum()))
        best = int(np.argmin(errors))
        return float(penalties[best]), float(errors[best] + constant) / off.size

    def affine(self, penalty: float) -> tuple[Array, Array]:
        """Weights (d, G) and offsets (G,) of the same predictions, x @ weights + offsets."""
        weights = (self.v * (self.s / (self.s**2 + penalty))) @ self.uty / self.sd_x[:, None]
        return weights, self.mean_y - self.mean_x @ weights

    def left_out(self, x: Array, y: Array, penalty: float, owners: Sequence[str]) -> Array:
        """Residuals (n, G) of each row it was fitted on, had all rows of its owner been left out.

        (I - H)^-1 r with the owner's block H of the hat matrix, exact for a given scaling of the
        features: Cook and Weisberg (1982), Residuals and Influence in Regression, section 3.5.
        """
        u = self.project(x) / self.s
        shrunk = u * (self.s**2 / (self.s**2 + penalty))
        residual = y - self.predict(x, penalty)
        names = np.array(owners)
        for name in np.unique(names):
            rows = np.flatnonzero(names == name)
            hat = 1 / len(x) + shrunk[rows] @ u[rows].T
            residual[rows] = np.linalg.solve(np.eye(len(rows)) - hat, residual[rows])
        return residual


def fit(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Ridge on bag means; seed and fold aren't used."""
    return tuned(bag_mean, train, val, train.truth, val.truth)


def bag_mean(part: Part) -> Array:
    """Mean over each slide's tiles (S, d)."""
    return mean_of_bags(part.bags.means[part.bag_rows], part.bags.sizes[part.bag_rows])


def mean_of_bags(means: Array, sizes: Array) -> Array:
    """Mean of a slide's tiles (S, d) from its cluster means (S, k, d) and sizes (S, k)."""
    total = sizes.sum(axis=1, dtype=np.float64)[:, None]
    return np.einsum("skd,sk->sd", means, sizes, dtype=np.float64) / np.maximum(total, 1e-12)


def tuned(
    features: Callable[[Part], Array], train: Part, val: Part, train_truth: Array, val_truth: Array
) -> FittedModel:
    """Ridge with the penalty that has the least val error, in units of each gene's train sd.

    Parameters
    ----------
    features : a part's slides to (S, d).
    train_truth, val_truth : (n, G) rows of the parts' samples.
    """
    model = Ridge.fit(features(train), train_truth[train.pool.argmax(axis=0)])
    sd = train_truth.std(axis=0, dtype=np.float64)
    scale = np.where(sd > 1e-6, 1.0 / np.where(sd > 1e-6, sd, 1.0), 0.0)
    slides = len(train.slide_ids)
    penalty, _ = model.choose(features(val), val_truth, slides, scale, val.pool)

    def predict(part: Part) -> NDArray[np.float32]:
        return model.predict(features(part), penalty).astype(np.float32)

    return FittedModel(f"penalty {penalty / slides:.3g} per train slide", predict)
