"""Fit of the conditional mean: a ridge in closed form, then a pooled head on what it misses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.log import log
from slide2rna.core.settings import ModelSettings
from slide2rna.core.types import Array
from slide2rna.flow.conditional_mean import ConditionalMean
from slide2rna.flow.feature_scale import FeatureScale
from slide2rna.models.low_rank import RANKS, LowRankRidge
from slide2rna.models.ridge import mean_of_bags
from slide2rna.training.head import HeadPart, fit_head
from slide2rna.training.resampled_bags import ResampledBags
from slide2rna.training.task import PartSlides

# Components of the head's output: more are noise at a few hundred slides.
HEAD_RANK = 32
# Shares of the ridge on all cohorts that val chooses from.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

Tried = dict[str, Any]


@dataclass(frozen=True)
class BagPart:
    """Slides of a part: standardised features (N, K, d), sizes (N, K), their mean (N, d).

    The train part may have further bags, which the head sees and the ridge doesn't.
    """

    features: Tensor
    sizes: Tensor
    mean: Array
    sample_ids: list[str]
    resamples: ResampledBags | None = None

    @classmethod
    def of(cls, scale: FeatureScale, slides: PartSlides) -> BagPart:
        """Scale a part's bags."""
        features = scale.scale_features(torch.from_numpy(slides.means))
        mean = mean_of_bags(features.numpy(), slides.sizes)
        further = None if slides.resamples is None else slides.resamples.scaled(scale)
        return cls(features, torch.from_numpy(slides.sizes), mean, slides.sample_ids, further)


@dataclass(frozen=True)
class PartnerRows:
    """Slides of another cohort: means (n, d), targets (n, G) with NaN for absent genes, samples."""

    mean: Array
    targets: Array
    sample_ids: list[str]


@dataclass(frozen=True)
class _Linear:
    """A linear fit: weight (d, G), bias (G,), predictions left out (N, G) and for val, error."""

    weight: Array
    bias: Array
    left_out: Array
    val: Array
    error: float


@dataclass(frozen=True)
class MeanFit:
    """Fitted conditional mean.

    Attributes
    ----------
    mean : the network, on the CPU.
    head_rank : 0 without a head.
    left_out : (N, G) predictions for train, each sample left out of the ridge; the head has seen
        it.
    val : (M, G) predictions for val.
    tried : rows of search.parquet.
    """

    mean: ConditionalMean
    head_rank: int
    left_out: Array
    val: Array
    tried: list[Tried]


def fit_mean(
    parts: tuple[BagPart, BagPart],
    targets: tuple[Array, Array],
    active: Array,
    settings: ModelSettings,
    seed: int,
    name: str,
    partners: Sequence[PartnerRows] = (),
) -> MeanFit:
    """Fit the mean of targets (N, G) and (M, G) of train and val.

    Parameters
    ----------
    active : (G,) 1 for genes that vary in train.
    name : of the targets, for the log and the table.
    partners : slides of other cohorts, for a second ridge that gets a share of the mean.
    """
    began = time.monotonic()
    (train, val), (z, z_val) = parts, targets
    ridge = LowRankRidge.fit(train.mean, z, active)
    ranks = RANKS if settings["rank"] == "low" else ()
    rank, penalty, error = ridge.choose(val.mean, z_val, len(z), ranks=ranks)
    weight, bias = ridge.affine(rank, penalty)
    left_out: Array = z - ridge.left_out_residuals(train.mean, z, rank, penalty, train.sample_ids)
    predicted: Array = val.mean @ weight + bias
    solution = _Linear(weight, bias, left_out, predicted, error)
    facts = {"target": name, "rank": rank, "penalty": float(f"{penalty / len(z):.3g}")}
    tried = [_row("start", facts, error, time.monotonic() - began)]
    log.info(
        "%s: ridge of rank %d of %d, penalty %.3g per slide, val error %.4f",
        *(name, rank, ridge.basis.shape[1], penalty / len(z), error),
    )
    if partners:
        solution, row = _with_partners(solution, parts, targets, active, ranks, partners)
        tried.append(row | {"settings": {"target": name} | row["settings"]})
    left_out, error = np.asarray(solution.left_out), solution.error
    predicted = solution.val
    head_rank = 0
    if settings["head"] == "pooled":
        head_rank = min(HEAD_RANK, ridge.basis.shape[1])
    torch.manual_seed(seed)
    clusters, features = train.features.shape[1:]
    mean = ConditionalMean(features, clusters, z.shape[1], head_rank)
    with torch.no_grad():
        mean.linear.weight.copy_(torch.from_numpy(solution.weight.T))
        mean.linear.bias.copy_(torch.from_numpy(solution.bias))
    if mean.head is not None:
        basis = ridge.basis[:, :head_rank]
        mean.head.basis.copy_(torch.from_numpy(basis))
        fit = fit_head(
            mean.head,
            _head_part(train, (z - left_out) @ basis),
            _head_part(val, (z_val - predicted) @ basis),
            seed,
        )
        error -= fit.gain / z_val.size
        epochs = {"epochs": fit.epochs, "best_epoch": fit.best_epoch}
        tried.append(_row("head", {"target": name}, error, fit.seconds, **epochs))
        log.info(
            "%s: pooled head, val error %.4f in epoch %d of %d",
            *(name, error, fit.best_epoch, fit.epochs),
        )
        with torch.no_grad():
            left_out = left_out + mean.head(train.features, train.sizes).double().numpy()
            predicted = predicted + mean.head(val.features, val.sizes).double().numpy()
    return MeanFit(mean.eval(), head_rank, left_out, predicted, tried)


def _with_partners(
    own: _Linear,
    parts: tuple[BagPart, BagPart],
    targets: tuple[Array, Array],
    active: Array,
    ranks: Sequence[int],
    partners: Sequence[PartnerRows],
) -> tuple[_Linear, Tried]:
    """Blend the fit with a ridge on all cohorts, by the share of least val error.

    Genes that a partner lacks keep their own fit.
    """
    began = time.monotonic()
    (train, val), (z, z_val) = parts, targets
    shared = active * np.all([~np.isnan(other.targets).any(axis=0) for other in partners], axis=0)
    x = np.concatenate([train.mean, *(other.mean for other in partners)])
    y = np.concatenate([z, *(np.nan_to_num(other.targets) for other in partners)])
    # A sample of the same name in two cohorts is left out of both.
    groups = [*train.sample_ids, *(name for other in partners for name in other.sample_ids)]
    ridge = LowRankRidge.fit(x, y, shared)
    rank, penalty, _ = ridge.choose(val.mean, z_val, len(x), ranks=ranks)
    weight, bias = ridge.affine(rank, penalty)
    left_out = (y - ridge.left_out_residuals(x, y, rank, penalty, groups))[: len(z)]
    predicted = val.mean @ weight + bias
    errors = {}
    for share in SHARES:
        blend = own.val + share * shared * (predicted - own.val)
        errors[share] = float(np.square(blend - z_val).mean())
    best = min(errors, key=lambda share: errors[share])
    step = best * shared
    log.info(
        "all cohorts: ridge of rank %d, penalty %.3g per slide, share %.2f, val error %.4f",
        *(rank, penalty / len(x), best, errors[best]),
    )
    blended = _Linear(
        own.weight + step * (weight - own.weight),
        own.bias + step * (bias - own.bias),
        own.left_out + step * (left_out - own.left_out),
        own.val + step * (predicted - own.val),
        errors[best],
    )
    facts = {"rank": rank, "penalty": float(f"{penalty / len(x):.3g}"), "share": best}
    return blended, _row("partners", facts, errors[best], time.monotonic() - began)


def _head_part(part: BagPart, scores: Array) -> HeadPart:
    values = torch.from_numpy(scores.astype(np.float32))
    return HeadPart(part.features, part.sizes, values, part.resamples)


def _row(step: str, settings: Tried, loss: float, seconds: float, **facts: int) -> Tried:
    return {"step": step, "settings": settings, "val_loss": loss, "seconds": seconds} | facts
