"""Ridge regression on the mean of a slide's tiles, with the penalty chosen on val.

Hoerl and Kennard (1970), doi:10.1080/00401706.1970.10488634. The colour and permuted models use
`fit_tuned` too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.data.patients import Part
from slide2rna.data.statistics import fit_scale
from slide2rna.models.base import FittedModel

# In units of the number of train slides. Features are standardised, so 1e-4 hardly shrinks and 1e5
# leaves little more than the mean.
PENALTIES = np.logspace(-4, 5, 19)


@dataclass(frozen=True)
class Ridge:
    """Ridge regression of all genes at once, for every penalty from one decomposition.

    With X = U S V' (centred and scaled on train), the prediction for a new row x is
    mean + x V diag(s / (s^2 + penalty)) U'Y: the penalty changes only a diagonal matrix.
    """

    mean_x: Array
    sd_x: Array
    mean_y: Array
    v: Array
    s: Array
    uty: Array

    @classmethod
    def fit(cls, x: Array, y: Array, scaled: bool = True) -> Ridge:
        """Fit on features (n, d) and targets (n, G); `scaled` gives each feature unit variance."""
        mean_x, sd_x = x.mean(axis=0), x.std(axis=0)
        sd_x = np.where((sd_x > 1e-12) & scaled, sd_x, 1.0)
        mean_y = y.mean(axis=0, dtype=np.float64)
        z = (x - mean_x) / sd_x
        # The smaller of the two products gives the same decomposition in a tenth of the time.
        wide = z.shape[1] > z.shape[0]
        squares, vectors = np.linalg.eigh(z @ z.T if wide else z.T @ z)
        nonzero = squares > squares.max(initial=0.0) * 1e-12
        s, vectors = np.sqrt(squares[nonzero]), vectors[:, nonzero]
        u, v = (vectors, z.T @ vectors / s) if wide else (z @ vectors / s, vectors)
        return cls(mean_x, sd_x, mean_y, v, s, u.T @ (y - mean_y))

    def project(self, x: Array) -> Array:
        """Project features (n, d) on the singular directions of train (n, r)."""
        return ((x - self.mean_x) / self.sd_x) @ self.v

    def predict(self, x: Array, penalty: float) -> Array:
        """Predict (n, G) from features (n, d)."""
        return self.mean_y + (self.project(x) * (self.s / (self.s**2 + penalty))) @ self.uty

    def choose(
        self, x: Array, y: Array, slides: int, scale: Array | float = 1.0, pool: Array | None = None
    ) -> tuple[float, float]:
        """Return the penalty with the least squared error on val, and its mean squared error.

        Averaging slides and shrinking are both linear. So val is projected once for all penalties,
        and the error over all genes is a quadratic form in the shrunk projection.

        Parameters
        ----------
        x, y : features (S, d) and targets (n, G) of val.
        slides : number of train slides, the unit of the penalties.
        scale : (G,) weight of each gene's errors.
        pool : (n, S) average of a sample's slides; the identity by default.
        """
        projected = self.project(x)
        if pool is not None:
            projected = pool.astype(np.float64) @ projected
        error = (self.mean_y - y) * scale
        uty = self.uty * scale
        square, cross, constant = uty @ uty.T, error @ uty.T, np.square(error).sum()
        penalties = PENALTIES * slides
        errors = []
        for penalty in penalties:
            shrunk = projected * (self.s / (self.s**2 + penalty))
            errors.append(float(((shrunk @ square) * shrunk + 2.0 * shrunk * cross).sum()))
        best = int(np.argmin(errors))
        return float(penalties[best]), float(errors[best] + constant) / error.size

    def affine(self, penalty: float) -> tuple[Array, Array]:
        """Return weights (d, G) and offsets (G,): predictions are x @ weights + offsets."""
        weights = (self.v * (self.s / (self.s**2 + penalty))) @ self.uty / self.sd_x[:, None]
        return weights, self.mean_y - self.mean_x @ weights

    def left_out_residuals(
        self, x: Array, y: Array, penalty: float, groups: Sequence[str]
    ) -> Array:
        """Return residuals (n, G) of the fitted rows, each with all rows of its group left out.

        (I - H)^-1 r with the group's block H of the hat matrix, exact for a fixed scaling of the
        features: Cook and Weisberg (1982), Residuals and Influence in Regression, section 3.5.
        """
        u = self.project(x) / self.s
        shrunk = u * (self.s**2 / (self.s**2 + penalty))
        residual = y - self.predict(x, penalty)
        names = np.array(groups)
        for name in np.unique(names):
            rows = np.flatnonzero(names == name)
            hat = 1 / len(x) + shrunk[rows] @ u[rows].T
            residual[rows] = np.linalg.solve(np.eye(len(rows)) - hat, residual[rows])
        return residual


def fit(train: Part, val: Part, seed: int, fold: int) -> FittedModel:
    """Fit a ridge on bag means; seed and fold aren't used."""
    return fit_tuned(bag_mean(train), train, val, train.truth, val.truth)


def bag_mean(train: Part) -> Callable[[Part], Array]:
    """Return the map of a part to the mean over each slide's tiles (S, d).

    Missing values and the features' scale are fitted on the train part.
    """
    scale = fit_scale(train.bags, train.bag_rows)

    def mean(part: Part) -> Array:
        means = part.bags.means[part.bag_rows]
        if scale is not None:
            means = scale.prepare_array(means)
        return mean_of_bags(means, part.bags.sizes[part.bag_rows])

    return mean


def mean_of_bags(means: Array, sizes: Array) -> Array:
    """Average each slide's tiles (S, d) from cluster means (S, k, d) and sizes (S, k)."""
    total = sizes.sum(axis=1, dtype=np.float64)[:, None]
    return np.einsum("skd,sk->sd", means, sizes, dtype=np.float64) / np.maximum(total, 1e-12)


def per_sample(values: Array, sample_ids: Sequence[str]) -> Array:
    """Average over the slides of each sample, (slides, G) to (samples, G)."""
    names, position = np.unique(np.array(sample_ids), return_inverse=True)
    total = np.zeros((len(names), values.shape[1]))
    np.add.at(total, position, values)
    return total / np.bincount(position)[:, None]


def unit_scale(y: Array) -> Array:
    """Return the factors (G,) that give targets (n, G) unit variance; 0 without variance."""
    sd = y.std(axis=0, dtype=np.float64)
    return np.where(sd > 1e-6, 1.0 / np.where(sd > 1e-6, sd, 1.0), 0.0)


def fit_tuned(
    features: Callable[[Part], Array], train: Part, val: Part, train_truth: Array, val_truth: Array
) -> FittedModel:
    """Fit a ridge with the penalty of least val error, in units of each gene's train sd.

    Parameters
    ----------
    features : maps a part's slides to (S, d).
    train_truth, val_truth : (n, G) rows of the parts' samples.
    """
    model = Ridge.fit(features(train), train_truth[train.pool.argmax(axis=0)])
    scale = unit_scale(train_truth)
    slides = len(train.slide_ids)
    penalty, _ = model.choose(features(val), val_truth, slides, scale, val.pool)

    def predict(part: Part) -> NDArray[np.float32]:
        return model.predict(features(part), penalty).astype(np.float32)

    return FittedModel(f"penalty {penalty / slides:.3g} per train slide", predict)
