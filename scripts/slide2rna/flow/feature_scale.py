"""Feature scale of the networks: missing values, a nonlinear scale, then train mean and sd."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slide2rna.core.types import Array
from slide2rna.features.bag_file import ScaleKind
from slide2rna.flow import quantile_map


class FeatureScaling(TypedDict, total=False):
    """Arguments of `FeatureScale.register_features`, stored in model.json."""

    scale: ScaleKind
    missing: bool
    knots: int


class FeatureScale(nn.Module):
    """Base class of networks that take bags, with the scale of the features as buffers.

    `features.scale` names the scale: `zscore` changes nothing before mean and sd; `signed_log` is
    sign(x) log(1 + |x| / unit), with the median of |x| as the unit; `rank` maps the quantiles of
    the train clusters to normal scores. `data.statistics.fit_feature_scale` fits the buffers.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    feature_fill: Tensor
    feature_unit: Tensor
    feature_knots: Tensor

    def register_features(
        self, features: int, scale: ScaleKind = "zscore", missing: bool = False, knots: int = 0
    ) -> None:
        """Register the buffers of d features: mean 0, sd 1.

        Parameters
        ----------
        scale
            zscore, signed_log or rank.
        missing
            Whether features may be NaN; the train median replaces them.
        knots
            Number of quantiles of `rank`.
        """
        self.scale_kind, self.missing = scale, missing
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        if missing:
            self.register_buffer("feature_fill", torch.zeros(features))
        if scale == "signed_log":
            self.register_buffer("feature_unit", torch.ones(features))
        if scale == "rank":
            self.register_buffer("feature_knots", torch.zeros(knots, features))

    def prepare(self, means: Tensor) -> Tensor:
        """Fill missing values of features (..., d) and apply the nonlinear scale."""
        if self.missing:
            means = torch.where(means.isnan(), self.feature_fill, means)
        if self.scale_kind == "signed_log":
            return means.sign() * (means.abs() / self.feature_unit).log1p()
        if self.scale_kind == "rank":
            rows = means.reshape(-1, means.shape[-1])
            return quantile_map.to_scores(rows, self.feature_knots).reshape(means.shape)
        return means

    def scale_features(self, means: Tensor) -> Tensor:
        """Scale features (..., d) for the network."""
        return (self.prepare(means) - self.feature_mean) / self.feature_scale


class Scale(FeatureScale):
    """A feature scale without a network, for closed forms and distances."""

    def __init__(self, features: int, scaling: FeatureScaling) -> None:
        super().__init__()
        self.scaling = scaling
        self.register_features(features, **scaling)

    def prepare_array(self, means: Array) -> NDArray[np.float32]:
        """Prepare features (..., d) in NumPy."""
        return np.asarray(self.prepare(torch.from_numpy(means)).numpy(), dtype=np.float32)
