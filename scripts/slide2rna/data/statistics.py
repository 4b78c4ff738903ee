"""Train-part statistics: mean and sd per gene and per feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from slide2rna.core.errors import StageError
from slide2rna.core.types import Array
from slide2rna.features.bag_file import Bags
from slide2rna.flow import quantile_map
from slide2rna.flow.feature_scale import FeatureScale, FeatureScaling, Scale


def gene_statistics(values: np.ndarray, sample_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd (n - 1) per gene over the train samples, each sample once, in float64.

    A gene with the same value in all samples has sd exactly 0 (as DGCR5 has in all six published
    cohorts); such genes are predicted as their constant.

    Raises
    ------
    StageError
        Fewer than two samples, or no gene that varies.
    """
    _, first = np.unique(np.array(sample_ids), return_index=True)
    once = values[first].astype(np.float64)
    if len(once) < 2:
        raise StageError("training part", f"{len(once)} samples", "at least 2 are needed")
    sd = once.std(axis=0, ddof=1)
    sd[once.max(axis=0) == once.min(axis=0)] = 0
    if not (sd > 0).any():
        raise StageError("training part", "no gene varies", "check the expression table")
    mean = np.where(sd > 0, once.mean(axis=0), once[0])
    return mean, sd


def feature_statistics(
    means: np.ndarray, sizes: np.ndarray, rows: Sequence[int] | NDArray[np.int64] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd per feature over the train bags' clusters.

    Clusters are weighted by size and slides equally. The statistics are stored with the model, so
    that encoders of any scale train with the same settings; a converted published model has 0 and
    1. A constant feature gets sd 1. Slides are read one at a time to avoid a copy of the bags.

    Parameters
    ----------
    means, sizes : (S, k, d) and (S, k)
    rows : rows of the train slides; None for all.
    """
    rows = range(len(means)) if rows is None else rows
    mean, square = np.zeros((2, means.shape[-1]))
    for row in rows:
        weight = sizes[row].astype(np.float64)
        weight /= weight.sum() * len(rows)
        mean += np.einsum("k,kd->d", weight, means[row].astype(np.float64))
    for row in rows:
        weight = sizes[row].astype(np.float64)
        weight /= weight.sum() * len(rows)
        square += np.einsum("k,kd->d", weight, (means[row] - mean) ** 2)
    sd = np.sqrt(square)
    return mean, np.where(sd > 1e-6 * np.maximum(np.abs(mean), 1e-6), sd, 1.0)


def feature_scaling(scale: str, missing: bool, clusters: int) -> FeatureScaling:
    """Return a network's settings of the feature scale; {} for plain z-scores.

    Parameters
    ----------
    scale, missing : of the bags.
    clusters : number of train clusters.
    """
    if scale == "zscore" and not missing:
        return {}
    knots = min(clusters, quantile_map.MAX_KNOTS) if scale == "rank" else 0
    return {"scale": scale, "missing": missing, "knots": knots}  # type: ignore[typeddict-item]


def fit_feature_scale(scale: FeatureScale, means: Array, sizes: Array) -> None:
    """Fit the buffers of a feature scale to the train bags, means (S, k, d) and sizes (S, k)."""
    if scale.missing or scale.scale_kind != "zscore":
        values = means[sizes > 0].astype(np.float64)
        if scale.missing:
            empty = np.isnan(values).all(axis=0)
            median = np.nanmedian(np.where(empty, 0.0, values), axis=0)
            values = np.where(np.isnan(values), median, values)
            _fill(scale.feature_fill, median)
        if scale.scale_kind == "signed_log":
            unit = np.median(np.abs(values), axis=0)
            unit = np.where(unit > 0, unit, np.abs(values).mean(axis=0))
            _fill(scale.feature_unit, np.where(unit > 0, unit, 1.0))
        if scale.scale_kind == "rank":
            _fill(scale.feature_knots, quantile_map.quantile_knots(values))
        means = scale.prepare(torch.from_numpy(means)).numpy()
    mean, sd = feature_statistics(means, sizes)
    _fill(scale.feature_mean, mean)
    _fill(scale.feature_scale, sd)


def _fill(buffer: torch.Tensor, values: Array) -> None:
    buffer.copy_(torch.from_numpy(np.asarray(values)))


def scale_of(means: Array, sizes: Array, scale: str, missing: bool) -> Scale:
    """Return the features' scale fitted to bags, means (S, k, d) and sizes (S, k)."""
    fitted = Scale(means.shape[2], feature_scaling(scale, missing, int((sizes > 0).sum())))
    fit_feature_scale(fitted, means, sizes)
    return fitted


def fit_scale(bagged: Bags, train: NDArray[np.int64]) -> Scale | None:
    """Fit the features' scale and the medians of missing values on the bags of rows `train`.

    None for plain z-scores, which need no such step.
    """
    if not feature_scaling(bagged.scale, bagged.missing, 0):
        return None
    return scale_of(bagged.means[train], bagged.sizes[train], bagged.scale, bagged.missing)
