"""Fit of the conditional mean: linear in closed form, then a pooled head on its residuals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slide2rna.core.log import log
from slide2rna.core.settings import ModelSettings
from slide2rna.core.types import Array
from slide2rna.flow.conditional_mean import ConditionalMean
from slide2rna.flow.feature_scale import FeatureScale
from slide2rna.flow.mixture_head import MixtureHead
from slide2rna.models.low_rank import RANKS
from slide2rna.models.ridge import mean_of_bags
from slide2rna.training import linear_fit
from slide2rna.training.head import HeadPart, fit_head
from slide2rna.training.linear_fit import BagPart, PartnerRows, StartingWeights, Targets, Tried
from slide2rna.training.task import PartSlides

# Components of the head's output: with a few hundred slides, more would be noise.
HEAD_RANK = 32


@dataclass(frozen=True)
class Others:
    """External data of the fit: slides of partner cohorts, and a model's weights or None."""

    partners: Sequence[PartnerRows] = ()
    start: StartingWeights | None = None


@dataclass(frozen=True)
class MeanFit:
    """Fitted conditional mean.

    Attributes
    ----------
    mean : the network, on the CPU.
    head_rank : 0 without a head.
    left_out : (N, G) predictions for train, each split unit left out of the ridge.
    saw_train : True if a head that has seen the train slides is part of `left_out`.
    val : (M, G) predictions for val.
    tried : rows of search.parquet.
    basis : (G, r) leading components of the train targets, orthonormal.
    mixture : a mixture head, if one was fitted (`mixture_fit`).
    mixture_is_mean : whether left_out and val are the mixture head's, instead of those of `mean`.
    """

    mean: ConditionalMean
    head_rank: int
    left_out: Array
    saw_train: bool
    val: Array
    tried: list[Tried]
    basis: Array
    mixture: MixtureHead | None = None
    mixture_is_mean: bool = False


def scale_bags(scale: FeatureScale, slides: PartSlides) -> BagPart:
    """Scale a part's bags."""
    features = scale.scale_features(torch.from_numpy(slides.means))
    mean = mean_of_bags(features.numpy(), slides.sizes)
    further = None if slides.resamples is None else slides.resamples.scaled(scale)
    return BagPart(features, torch.from_numpy(slides.sizes), mean, slides.units, further)


def fit_mean(
    parts: tuple[BagPart, BagPart],
    targets: Targets,
    settings: ModelSettings,
    seed: int,
    name: str,
    others: Others,
) -> MeanFit:
    """Fit the mean of the targets; `name` is theirs, for the log and the table."""
    train, val = parts
    ranks = RANKS if settings["rank"] == "low" else ()
    linear, ridge, row = linear_fit.fit_ridge(parts, targets, ranks, name)
    tried = [row]
    if others.partners:
        linear, row = linear_fit.add_partners(linear, parts, targets, ranks, others.partners)
        tried.append(row)
    if others.start is not None:
        linear, row = linear_fit.add_starting_weights(linear, parts, targets, others.start)
        tried.append(row)
    if settings["gene_slopes"]:
        linear, row = linear_fit.scale_by_slopes(linear, targets, val.units)
        tried.append(row)
    head_rank = min(HEAD_RANK, ridge.basis.shape[1]) if settings["head"] == "pooled" else 0
    torch.manual_seed(seed)
    clusters, features = train.features.shape[1:]
    mean = ConditionalMean(features, clusters, targets.train.shape[1], head_rank)
    with torch.no_grad():
        mean.linear.weight.copy_(torch.from_numpy(linear.weight.T))
        mean.linear.bias.copy_(torch.from_numpy(linear.bias))
    left_out, predicted, saw_train = linear.left_out, linear.val, False
    if mean.head is not None:
        began = time.monotonic()
        basis = ridge.basis[:, :head_rank]
        mean.head.basis.copy_(torch.from_numpy(basis))
        fit = fit_head(
            mean.head,
            _head_part(train, (targets.train - left_out) @ basis),
            _head_part(val, (targets.val - predicted) @ basis),
            seed,
        )
        error = linear.error - fit.gain / targets.val.size
        epochs = {"epochs": fit.epochs, "best_epoch": fit.best_epoch}
        tried.append(linear_fit.step_row("head", {}, error, began) | epochs)
        log.info(
            "%s: pooled head, val error %.4f in epoch %d of %d",
            *(name, error, fit.best_epoch, fit.epochs),
        )
        saw_train = fit.best_epoch > 0
        with torch.no_grad():
            left_out = left_out + mean.head(train.features, train.sizes).double().numpy()
            predicted = predicted + mean.head(val.features, val.sizes).double().numpy()
    tried = [row | {"settings": {"target": name} | row["settings"]} for row in tried]
    basis = ridge.basis[:, :HEAD_RANK]
    return MeanFit(mean.eval(), head_rank, left_out, saw_train, predicted, tried, basis)


def _head_part(part: BagPart, scores: Array) -> HeadPart:
    return HeadPart(part, torch.from_numpy(scores.astype(np.float32)))
