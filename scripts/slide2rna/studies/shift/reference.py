"""Training reference: distances of a slide to a fold's train part, with p-values from cal patients.

`TrainingReference` holds everything for judging a new slide: a few tens of MB, without the cohort.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from slide2rna.core.errors import StageError
from slide2rna.core.types import Array
from slide2rna.flow.feature_scale import Scale
from slide2rna.storage import tensors

SCALE_PREFIX = "scale."
BROKEN = (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError)
LIMIT = 6e4  # limit of 16 bits


class FoldShift(TypedDict):
    """A slide judged by one fold model; `judge` leaves out the fold's number.

    Without a profile, expression_distance and expression_p are None. A p-value is None without
    patients to compare with.
    """

    fold: NotRequired[int]
    bag_distance: float
    bag_p: float | None
    bag_p_train: float | None
    expression_distance: float | None
    expression_p: float | None
    n_cal: int
    n_train: int
    train_distance: float | None


@dataclass(frozen=True)
class TrainingReference:
    """The train part of a fold, and the distances of the cal patients to it.

    Attributes
    ----------
    feature_mean, feature_scale : (d,) of the train clusters, weighted by size.
    clusters : (M, d) float16 standardised train clusters, at most `shift.clusters` of them.
    gene_mean, gene_sd : (G,) of the train samples; sd 0 for a gene that doesn't vary.
    components : (K, G) leading principal components of the standardised train profiles.
    precision : (K, K) inverse of their scores' covariance, shrunk (Ledoit and Wolf).
    cal_bag, cal_expression : (n,) distances of the cal patients, one slide each; sorted.
    train_bag : (m,) distances of the train patients to each other, one slide each; sorted.
    about : genes, encoder, fold, run, and the kind of the profiles (`draws` or `point`).
    scale : what precedes the mean and sd of features, as in the fold's model; None for nothing.
    """

    feature_mean: Array
    feature_scale: Array
    clusters: NDArray[np.float16]
    gene_mean: Array
    gene_sd: Array
    components: Array
    precision: Array
    cal_bag: Array
    cal_expression: Array
    train_bag: Array
    about: dict[str, Any]
    scale: Scale | None = None

    @property
    def genes(self) -> list[str]:
        return list(self.about["genes"])

    @cached_property
    def _clusters(self) -> NDArray[np.float32]:
        return self.clusters.astype(np.float32)

    def bag_distance(self, means: Array, sizes: Array) -> float:
        """Return the distance of one bag, means (k, d) and sizes (k,), to the train clusters."""
        occupied = sizes > 0
        means = means[occupied]
        if self.scale is not None:
            means = self.scale.prepare_array(means)
        z = standardise(means, self.feature_mean, self.feature_scale)
        return bag_distance(z, sizes[occupied], self._clusters)

    def expression_distance(self, profiles: Array) -> Array:
        """Return the Mahalanobis distance (...) of profiles (..., G) in log2(x+1), per component.

        The square is divided by the number of principal components, so that train profiles have a
        mean square of 1.
        """
        active = self.gene_sd > 0
        z = np.where(active, (profiles - self.gene_mean) / np.where(active, self.gene_sd, 1), 0)
        scores = z @ self.components.T.astype(np.float64)
        square = np.einsum("...i,ij,...j->...", scores, self.precision, scores)
        return np.asarray(np.sqrt(np.maximum(square, 0) / len(self.components)))

    def judge(self, means: Array, sizes: Array, profile: Array | None = None) -> FoldShift:
        """Return the distances and p-values of one slide; without a profile, its values are None.

        Parameters
        ----------
        means, sizes : (k, d) and (k,), the slide's bag.
        profile : (G,) its predicted profile, of the kind `about["profiles"]`.

        Returns
        -------
        dict
            bag_distance, bag_p, bag_p_train, expression_distance, expression_p; n_cal and n_train,
            the numbers of patients compared with; train_distance (the train patients' median, or
            None).
        """
        bag = self.bag_distance(means, sizes)
        has_profile = profile is not None and bool(np.isfinite(profile).all())
        expression = float(self.expression_distance(profile)) if has_profile else None  # type: ignore[arg-type]
        return {
            "bag_distance": bag,
            "bag_p": p_value(bag, self.cal_bag),
            "bag_p_train": p_value(bag, self.train_bag),
            "expression_distance": expression,
            "expression_p": p_value(expression, self.cal_expression),
            "n_cal": len(self.cal_bag),
            "n_train": len(self.train_bag),
            "train_distance": float(np.median(self.train_bag)) if len(self.train_bag) else None,
        }


def standardise(means: Array, mean: Array, scale: Array) -> NDArray[np.float16]:
    """Scale features (..., d) to the train clusters' sd, in 16 bits as they are stored."""
    z = (means.astype(np.float64) - mean) / scale
    return np.asarray(np.clip(z, -LIMIT, LIMIT), dtype=np.float16)


def bag_distance(
    z: NDArray[np.float16],
    sizes: Array,
    clusters: NDArray[np.float32],
    left_out: NDArray[np.bool_] | None = None,
) -> float:
    """Average, over a slide's tiles, their cluster's distance to the nearest train cluster.

    Parameters
    ----------
    z : (c, d) standardised cluster means of the slide.
    sizes : (c,) tiles in each.
    clusters : (M, d) float32 standardised train clusters.
    left_out : (M,) train clusters to ignore.

    Returns
    -------
    float
        Root mean square over the features, in units of one feature's sd.

    Notes
    -----
    The nearest-neighbour distance detects out-of-distribution features without a model of their
    density: Sun et al. 2022, https://proceedings.mlr.press/v162/sun22d.html. One matrix product
    finds the neighbours in a sixteenth of the time of FAISS's exact search. Distances are then
    computed from differences, since the product cancels for near neighbours.
    """
    wide = z.astype(np.float32)
    gap = np.einsum("md,md->m", clusters, clusters) - 2 * (wide @ clusters.T)
    if left_out is not None:
        gap[:, left_out] = np.inf
    square = ((wide - clusters[gap.argmin(axis=1)]) ** 2).mean(axis=1, dtype=np.float64)
    return float(np.average(np.sqrt(square), weights=sizes))


def p_value(score: float | None, calibration: Array) -> float | None:
    """Return the conformal p-value: the share of cal patients and the slide at least as far away.

    If slide and cal patients are exchangeable, P(p <= a) <= a for every a (Vovk et al. 2005,
    Algorithmic Learning in a Random World; Bates et al. 2023, doi:10.1214/22-AOS2244). The
    smallest value is 1 / (n + 1). None without cal patients.
    """
    if score is None or not np.isfinite(score) or not len(calibration):
        return None
    return float((1 + np.count_nonzero(calibration >= score)) / (len(calibration) + 1))


ARRAYS = [field.name for field in fields(TrainingReference) if field.type == "Array"]
ARRAYS.append("clusters")


def save(reference: TrainingReference, path: str | Path) -> None:
    """Write as safetensors, atomically."""
    arrays = {name: np.ascontiguousarray(getattr(reference, name)) for name in ARRAYS}
    about = reference.about
    if reference.scale is not None:
        about = about | {"feature_scale": reference.scale.scaling}
        for name, value in reference.scale.state_dict().items():
            arrays[SCALE_PREFIX + name] = value.numpy()
    metadata = {"about": json.dumps(about, sort_keys=True)}
    tensors.write(save_file, arrays, path, metadata)


def load(path: str | Path) -> TrainingReference:
    """Read a file that `save` wrote.

    Raises
    ------
    StageError
        The file is missing, or is not such a file.
    """
    try:
        with tensors.open_checked(path) as file:
            about = json.loads(file.metadata()["about"])
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
            scale = None
            if "feature_scale" in about:
                scale = Scale(len(arrays["feature_mean"]), about["feature_scale"])
                names = list(scale.state_dict())
                scale.load_state_dict(
                    {n: torch.from_numpy(file.get_tensor(SCALE_PREFIX + n)) for n in names}
                )
            return TrainingReference(**arrays, about=about, scale=scale)
    except BROKEN as error:
        cause = f"not a file of the stage shift ({error})"
        raise StageError(path, cause, "rerun the stage shift") from error
