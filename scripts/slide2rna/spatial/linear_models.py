"""Linear models of spots: ridge on a spot's features, with its neighbours' mean, and by kernel.

The penalty is chosen on val slides, as in the bulk models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from slide2rna.core.types import Array
from slide2rna.models.ridge import Ridge
from slide2rna.spatial.slides import SpotSlide, stacked
from slide2rna.spatial.targets import Target

Inputs = Callable[[SpotSlide], Array]
LANDMARKS = 500  # training spots that a kernel ridge compares with


@dataclass(frozen=True)
class SpotRidge:
    """Ridge on what `inputs` makes of a slide.

    Attributes
    ----------
    ridge, penalty : the fit.
    inputs : slide to (n, d).
    left_out : residuals (n, G) of each training slide, with all slides of its patient left out,
        or the slide alone if the training has one patient.
    """

    ridge: Ridge
    penalty: float
    inputs: Inputs
    left_out: list[Array]

    def predict(self, slide: SpotSlide) -> Array:
        """Predict (n, G)."""
        return self.ridge.predict(self.inputs(slide), self.penalty)


def own_features(slide: SpotSlide) -> Array:
    """Return the features (n, d) of the spots."""
    return slide.features


def with_neighbours(slide: SpotSlide) -> Array:
    """Return the features of each spot and the mean of its neighbours' (n, 2d)."""
    return np.hstack([slide.features, slide.neighbour_mean(slide.features)])


def standardised(slide: SpotSlide) -> SpotSlide:
    """Return the slide with features of mean 0 and sd 1 over its own spots."""
    sd = slide.features.std(axis=0)
    scaled = (slide.features - slide.features.mean(axis=0)) / np.where(sd > 1e-9, sd, 1.0)
    return slide.with_features(scaled)


def fit(
    train: Sequence[SpotSlide],
    val: Sequence[SpotSlide],
    kind: Target,
    inputs: Inputs = own_features,
    scaled: bool = True,
) -> SpotRidge:
    """Fit a ridge on all spots of the training slides.

    Inputs of a kernel stay unscaled (`scaled` false): their variances are what the kernel says.
    """
    x, y = np.concatenate([inputs(slide) for slide in train]), stacked(train, kind)
    ridge = Ridge.fit(x, y, scaled)
    val_x = np.concatenate([inputs(slide) for slide in val])
    penalty, _ = ridge.choose(val_x, stacked(val, kind), len(x))
    several = len({slide.patient for slide in train}) > 1
    groups = [slide.patient if several else slide.name for slide in train for _ in slide.xy]
    residuals = ridge.left_out_residuals(x, y, penalty, groups)
    ends = np.cumsum([len(slide.xy) for slide in train])[:-1]
    return SpotRidge(ridge, penalty, inputs, np.split(residuals, ends))


def kernel_inputs(train: Sequence[SpotSlide], rng: np.random.Generator) -> Inputs:
    """Return the inputs of a Gaussian kernel ridge on random training spots.

    Williams and Seeger (2001), Using the Nyström method to speed up kernel machines, NIPS 13.

    The width is the median distance between training spots' standardised features.
    """
    x = np.concatenate([slide.features for slide in train])
    mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    z = (x - mean) / sd
    landmarks = z[np.sort(rng.choice(len(z), min(LANDMARKS, len(z)), replace=False))]
    squares = euclidean_distances(landmarks, squared=True)
    width = np.median(squares[np.triu_indices(len(landmarks), 1)])
    values, vectors = np.linalg.eigh(np.exp(-squares / width))
    kept = values > values.max() * 1e-9
    root = vectors[:, kept] / np.sqrt(values[kept])

    def inputs(slide: SpotSlide) -> Array:
        squares = euclidean_distances((slide.features - mean) / sd, landmarks, squared=True)
        return np.exp(-squares / width) @ root

    return inputs
