"""Linear fit of the conditional mean: a ridge, shares of other cohorts, and slopes of genes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from slide2rna.core.log import log
from slide2rna.core.types import Array
from slide2rna.models.low_rank import LowRankRidge
from slide2rna.training.gene_slopes import gene_slopes
from slide2rna.training.resampled_bags import ResampledBags
from slide2rna.training.selection import clearly_better

# Shares of another fit; the average is used unless another share is clearly better on val.
SHARES, AVERAGE = (0.0, 0.25, 0.5, 0.75, 1.0), 0.5

Tried = dict[str, Any]


@dataclass(frozen=True)
class BagPart:
    """Slides of a part: standardised features (N, K, d), sizes (N, K), their mean (N, d), units.

    The train part may have resampled bags, which the heads use and the ridge doesn't.
    """

    features: Tensor
    sizes: Tensor
    mean: Array
    units: list[str]
    resamples: ResampledBags | None = None

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and sizes of the slides `rows` (B,), one bag drawn of each."""
        bags = self.features[rows], self.sizes[rows]
        return bags if self.resamples is None else self.resamples.draw(rows, *bags)


@dataclass(frozen=True)
class Targets:
    """Targets of a fold: train (N, G), val (M, G), and (G,) 1 for genes that vary in train."""

    train: Array
    val: Array
    active: Array


@dataclass(frozen=True)
class PartnerRows:
    """Slides of another cohort: means (n, d), targets (n, G) with NaN for absent genes, units."""

    mean: Array
    targets: Array
    units: list[str]


@dataclass(frozen=True)
class StartingWeights:
    """Weights (d, G) of another model's mean, NaN for genes that it doesn't have."""

    name: str
    weight: Array


@dataclass(frozen=True)
class LinearFit:
    """A linear fit.

    Attributes
    ----------
    weight, bias : (d, G), (G,).
    left_out, val : (N, G), (M, G) predictions for train, each split unit left out, and for val.
    left_out_mean : (N, G) the mean alone, without the split unit; a part of `left_out`.
    error : mean squared error on val.
    """

    weight: Array
    bias: Array
    left_out: Array
    left_out_mean: Array
    val: Array
    error: float


def fit_ridge(
    parts: tuple[BagPart, BagPart], targets: Targets, ranks: Sequence[int], name: str
) -> tuple[LinearFit, LowRankRidge, Tried]:
    """Fit a ridge on the fold's own slides; val chooses rank and penalty."""
    began = time.monotonic()
    (train, val), z = parts, targets.train
    ridge = LowRankRidge.fit(train.mean, z, targets.active)
    rank, penalty, error = ridge.choose(val.mean, targets.val, len(z), ranks=ranks)
    weight, bias = ridge.affine(rank, penalty)
    left_out, left_out_mean = (
        z - ridge.left_out_residuals(train.mean, z, rank, strength, train.units)
        for strength in (penalty, np.inf)
    )
    log.info(
        "%s: ridge of rank %d of %d, penalty %.3g per slide, val error %.4f",
        *(name, rank, ridge.basis.shape[1], penalty / len(z), error),
    )
    facts = {"rank": rank, "penalty": _rounded(penalty / len(z))}
    fit = LinearFit(weight, bias, left_out, left_out_mean, val.mean @ weight + bias, error)
    return fit, ridge, step_row("start", facts, error, began)


def add_partners(
    own: LinearFit,
    parts: tuple[BagPart, BagPart],
    targets: Targets,
    ranks: Sequence[int],
    partners: Sequence[PartnerRows],
) -> tuple[LinearFit, Tried]:
    """Blend the fit with a ridge on all cohorts (`_blend`).

    Genes that a partner lacks keep their own fit.
    """
    began = time.monotonic()
    train, val = parts
    present = np.all([~np.isnan(other.targets).any(axis=0) for other in partners], axis=0)
    shared = targets.active * present
    x = np.concatenate([train.mean, *(other.mean for other in partners)])
    y = np.concatenate([targets.train, *(np.nan_to_num(other.targets) for other in partners)])
    # A patient of the same name in two cohorts is left out of both.
    groups = [*train.units, *(name for other in partners for name in other.units)]
    ridge = LowRankRidge.fit(x, y, shared)
    rank, penalty, _ = ridge.choose(val.mean, targets.val, len(x), ranks=ranks)
    weight, bias = ridge.affine(rank, penalty)
    left_out, left_out_mean = (
        (y - ridge.left_out_residuals(x, y, rank, strength, groups))[: len(train.mean)]
        for strength in (penalty, np.inf)
    )
    joint = LinearFit(weight, bias, left_out, left_out_mean, val.mean @ weight + bias, np.nan)
    fit, share = _blend(own, joint, shared, targets.val, val.units)
    log.info(
        "all cohorts: ridge of rank %d, penalty %.3g per slide, share %.2f, val error %.4f",
        *(rank, penalty / len(x), share, fit.error),
    )
    facts = {"rank": rank, "penalty": _rounded(penalty / len(x)), "share": share}
    return fit, step_row("partners", facts, fit.error, began)


def add_starting_weights(
    own: LinearFit, parts: tuple[BagPart, BagPart], targets: Targets, start: StartingWeights
) -> tuple[LinearFit, Tried]:
    """Blend the fit with another model's weights (`_blend`).

    The model has seen none of the slides, so its predictions for train are left out as they are.
    """
    began = time.monotonic()
    shared = targets.active * ~np.isnan(start.weight).any(axis=0)
    weight = np.nan_to_num(start.weight)
    train, val = (part.mean @ weight for part in parts)
    other = LinearFit(weight, np.zeros(len(shared)), train, np.zeros_like(train), val, np.nan)
    fit, share = _blend(own, other, shared, targets.val, parts[1].units)
    log.info("model %s: share %.2f, val error %.4f", start.name, share, fit.error)
    facts = {"model": start.name, "share": share}
    return fit, step_row("model", facts, fit.error, began)


def _blend(
    own: LinearFit, other: LinearFit, shared: Array, z_val: Array, units: Sequence[str]
) -> tuple[LinearFit, float]:
    """Average the fit with another in the shared genes (G,), unless val clearly prefers a share.

    The average of two fits is hard to beat with a few val patients (Bates and Granger 1969,
    doi:10.1057/jors.1969.103). Another share is taken where val is clearly better with it.
    """
    errors = {}
    for share in SHARES:
        blend = own.val + share * shared * (other.val - own.val)
        errors[share] = np.square(blend - z_val).mean(axis=1)
    best = min(errors, key=lambda share: float(errors[share].mean()))
    if not clearly_better(errors[best], errors[AVERAGE], units):
        best = AVERAGE
    step = best * shared
    blended = LinearFit(
        own.weight + step * (other.weight - own.weight),
        own.bias + step * (other.bias - own.bias),
        own.left_out + step * (other.left_out - own.left_out),
        own.left_out_mean + step * (other.left_out_mean - own.left_out_mean),
        own.val + step * (other.val - own.val),
        float(errors[best].mean()),
    )
    return blended, best


def scale_by_slopes(
    fit: LinearFit, targets: Targets, val_units: Sequence[str]
) -> tuple[LinearFit, Tried]:
    """Multiply each gene's deviation by its slope in left-out samples, unless val is worse.

    The left-out train samples are many more than those of val, which alone would often be chance.
    The mean without a sample lies on the other side of the mean than the sample does. With few
    samples and a weak prediction it would pull the slopes down, so it isn't part of the deviation.
    """
    began = time.monotonic()
    deviation = fit.left_out - fit.left_out_mean
    slopes = gene_slopes(deviation, targets.train - fit.left_out_mean)
    errors, plain = (
        np.square(values - targets.val).mean(axis=1) for values in (fit.val * slopes, fit.val)
    )
    error = float(errors.mean())
    low, middle, high = np.quantile(slopes, [0.05, 0.5, 0.95])
    used = not clearly_better(plain, errors, val_units)
    log.info(
        "slopes of genes: 5, 50 and 95 %% at %.2f, %.2f and %.2f, val error %.4f, %s",
        *(low, middle, high, error, "used" if used else "not used"),
    )
    facts = {"median_slope": round(float(middle), 3), "used": used}
    row = step_row("slopes", facts, error, began)
    if not used:
        return fit, row
    scaled = LinearFit(
        *(fit.weight * slopes, fit.bias * slopes),
        *(fit.left_out_mean + deviation * slopes, fit.left_out_mean),
        *(fit.val * slopes, error),
    )
    return scaled, row


def step_row(step: str, facts: Tried, loss: float, began: float) -> Tried:
    """Return a row of search.parquet for a step that began at a time of `time.monotonic`."""
    return {
        "step": step,
        "settings": facts,
        "val_loss": loss,
        "seconds": time.monotonic() - began,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
