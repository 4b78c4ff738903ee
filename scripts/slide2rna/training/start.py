"""Start of the flow: the parts that are fitted before it trains, chosen by val.

1. The conditional mean (`mean_fit`, `mixture_fit`), in z-scores and in normal scores.
2. The units of the targets, by the CRPS of val: z-scores, unless normal scores are clearly better.
3. With normal scores, the share of the fit in the genes' own scale, by the CRPS of val and of the
   left-out train samples: all, unless another share is clearly better.
4. The noise: residual sds and shared factors.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.log import log
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import ModelSettings
from slide2rna.core.types import Array
from slide2rna.flow.feature_scale import Scale
from slide2rna.flow.fitted_shape import FittedShape
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.velocity import RNAFM, SD_RANGE
from slide2rna.models.ridge import per_sample
from slide2rna.training.factors import fit_factors
from slide2rna.training.linear_fit import BagPart, Targets, Tried
from slide2rna.training.mean_fit import MeanFit, fit_mean, scale_bags
from slide2rna.training.mixture_fit import fit_mixture
from slide2rna.training.outside import Outside
from slide2rna.training.selection import clearly_better
from slide2rna.training.spread import best_factor, gaussian_crps
from slide2rna.training.targets import fit_gene_scale, targets
from slide2rna.training.task import FoldTask, PartSlides

OWN_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Units:
    """Targets in one kind of units, and the mean that was fitted to them.

    Attributes
    ----------
    scale : from expression to targets.
    train, val : (N, G), (M, G) targets.
    fit : fitted mean.
    """

    scale: GeneScale
    train: Array
    val: Array
    fit: MeanFit


@dataclass(frozen=True)
class Blend:
    """Mean with a share of the fit in the genes' own scale.

    Attributes
    ----------
    weight : the share.
    left_out, val : (N, G), (M, G) mean targets of train and val.
    residual_sd : (G,) of the train residuals around it.
    """

    weight: float
    left_out: Array
    val: Array
    residual_sd: Array


@dataclass(frozen=True)
class Start:
    """Fitted start; see `install`.

    Attributes
    ----------
    units : of the flow's targets.
    own : fitted mean in z-scores, if the targets are normal scores.
    own_weight : its share in the mean.
    residual_sd : (G,) of the left-out residuals, times a common factor.
    loadings : (G, F) of the noise's shared factors.
    tried : rows of search.parquet.
    """

    units: Units
    own: MeanFit | None
    own_weight: float
    residual_sd: Array
    loadings: Array
    tried: list[Tried]

    @property
    def own_scale(self) -> MeanFit:
        """Return the fitted mean in z-scores."""
        return self.units.fit if self.own is None else self.own

    @property
    def shape(self) -> FittedShape:
        """Return the sizes of the network's layers."""
        scale, mixture = self.units.scale, self.own_scale.mixture
        return {
            "head_rank": self.units.fit.head_rank,
            "own_head_rank": 0 if self.own is None else self.own.head_rank,
            "mixture_rank": 0 if mixture is None else len(mixture.states),
            "mixture_is_mean": self.own_scale.mixture_is_mean,
            "gene_knots": len(scale.gene_knots) if scale.uses_normal_scores else 0,
        }

    def install(self, model: RNAFM) -> None:
        """Copy the start into a network of this shape."""
        assert model.mean is not None
        assert model.theta is not None
        model.load_state_dict(self.units.scale.state_dict(), strict=False)
        model.mean.load_state_dict(self.units.fit.mean.state_dict())
        if model.own_mean is not None:
            assert self.own is not None
            model.own_mean.load_state_dict(self.own.mean.state_dict())
            model.own_weight.fill_(self.own_weight)
        if model.mixture is not None and self.own_scale.mixture is not None:
            model.mixture.load_state_dict(self.own_scale.mixture.state_dict())
        with torch.no_grad():
            sd = np.clip(self.residual_sd, *SD_RANGE)
            model.theta.copy_(torch.from_numpy(np.log(sd)))
            count = self.loadings.shape[1]
            model.loadings[:, :count] = torch.from_numpy(self.loadings)


def fit_start(task: FoldTask, scale: Scale, settings: ModelSettings, outside: Outside) -> Start:
    """Fit the start of a fold's flow; `scale` is fitted to the train bags."""
    bags = scale_bags(scale, task.train), scale_bags(scale, task.val)
    outside = outside if settings["outside"] else Outside()
    own = _fit_units(task, bags, settings, outside, normal_scores=False)
    residual_sd = _residual_sd(own.train - own.fit.left_out)
    chosen, blend = own, Blend(0.0, own.fit.left_out, own.fit.val, residual_sd)
    tried = list(own.fit.tried)
    if settings["target"] != "zscore":
        scores = _fit_units(task, bags, settings, outside, normal_scores=True)
        tried += scores.fit.tried
        began = time.monotonic()
        plain = _val_crps(task, own, blend)
        best = _best_blend(task, own, scores)
        crps = _val_crps(task, scores, best)
        seconds = (time.monotonic() - began) / 2
        clear = clearly_better(crps, plain, _witnesses(task.val))
        scores_win = settings["target"] == "normal_scores" or clear
        for name, losses in (("zscore", plain), ("normal_scores", crps)):
            facts: Tried = {"target": name}
            if name == "normal_scores":
                facts["own_weight"] = best.weight
            row: Tried = {"step": "target", "settings": facts, "val_loss": float(losses.mean())}
            tried.append(row | {"seconds": seconds, "chosen": scores_win == (losses is crps)})
        log.info(
            "val CRPS %.4f in z-scores, %.4f in normal scores with %.2f of the mean's own scale",
            *(plain.mean(), crps.mean(), best.weight),
        )
        if scores_win:
            chosen, blend = scores, best
    saw_train = chosen.fit.saw_train or (blend.weight > 0 and own.fit.saw_train)
    sd = _scaled_sd(task, chosen, blend, saw_train)
    if chosen is not own:
        chosen.scale.fit_mean_table(_tensor(np.clip(sd, *SD_RANGE)))
    residuals, val_residuals = chosen.train - blend.left_out, chosen.val - blend.val
    loadings = _fit_loadings(task, residuals, val_residuals, blend.residual_sd, settings["factors"])
    mean = own.fit if chosen is not own else None
    return Start(chosen, mean, blend.weight, sd, loadings, tried)


def _fit_units(
    task: FoldTask,
    bags: tuple[BagPart, BagPart],
    settings: ModelSettings,
    outside: Outside,
    normal_scores: bool,
) -> Units:
    train, val = task.train, task.val
    scale = fit_gene_scale(train.values, train.sample_ids, normal_scores)
    z, z_val = (
        targets(scale, part.values, part.sample_ids, task.seed).double().numpy()
        for part in (train, val)
    )
    name = "normal_scores" if normal_scores else "zscore"
    seed = seed_for(task.seed, "head", task.fold, name)
    fold_targets = Targets(z, z_val, scale.active.double().numpy())
    others = outside.in_units(z.shape[1], normal_scores, task.seed)
    fit = fit_mean(bags, fold_targets, settings, seed, name, others)
    if not normal_scores:
        fit = fit_mixture(bags, fold_targets, scale, fit, settings["mixture"], seed)
    return Units(scale, z, z_val, fit)


def _residual_sd(residuals: Array) -> Array:
    return np.asarray(np.sqrt(np.square(residuals).mean(axis=0)))


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values).float()


def _own_expression(own: Units, part: str) -> Tensor:
    """Return expected log2(x+1) of the fit in z-scores; part is `left_out` or `val`."""
    z = _tensor(getattr(own.fit, part))
    return z * own.scale.gene_sd + own.scale.gene_mean


def _blend(own: Units, scores: Units, weight: float) -> Blend:
    """Give the fit in z-scores this share of the expected expression.

    The table of expected expression needs the residual sds, and these depend on the blend: two
    rounds from the sds of the fit in scores.
    """
    sd = _residual_sd(scores.train - scores.fit.left_out)
    parts = {"left_out": scores.fit.left_out, "val": scores.fit.val}
    for _ in range(2 if weight else 1):
        scores.scale.fit_mean_table(_tensor(np.clip(sd, *SD_RANGE)))
        if weight:
            parts = {part: _blend_part(own, scores, part, weight) for part in parts}
        sd = _residual_sd(scores.train - parts["left_out"])
    return Blend(weight, parts["left_out"], parts["val"], sd)


def _blend_part(own: Units, scores: Units, part: str, weight: float) -> Array:
    mean = _tensor(getattr(scores.fit, part))
    expression = _own_expression(own, part)
    blended = scores.scale.blend_means(mean, expression, torch.tensor(weight))
    return blended.double().numpy()


def _best_blend(task: FoldTask, own: Units, scores: Units) -> Blend:
    """Return the blend with all of the own scale, or that of least CRPS if it is clearly better.

    With few samples, the fit in the genes' own scale has the better correlation.
    """
    saw_train = own.fit.saw_train or scores.fit.saw_train
    units = list(task.val.units) + ([] if saw_train else list(task.train.units))
    blends = [_blend(own, scores, weight) for weight in OWN_WEIGHTS]
    losses = []
    for blend in blends:
        mean, values = _unseen(task, blend, saw_train)
        losses.append(gaussian_crps(scores.scale, mean, blend.residual_sd, values))
    best = int(np.argmin([values.mean() for values in losses]))
    return blends[best if clearly_better(losses[best], losses[0], units) else 0]


def _unseen(task: FoldTask, blend: Blend, saw_train: bool) -> tuple[Array, Array]:
    """Return means and expression of val, and of train where each sample was left out."""
    if saw_train:
        return blend.val, task.val.values
    mean = np.concatenate([blend.val, blend.left_out])
    return mean, np.concatenate([task.val.values, task.train.values])


def _witnesses(val: PartSlides) -> list[str]:
    """Return the split units of val, or its samples if there is one unit alone."""
    return list(val.units if len(set(val.units)) > 1 else val.sample_ids)


def _val_crps(task: FoldTask, units: Units, blend: Blend) -> Array:
    return gaussian_crps(units.scale, blend.val, blend.residual_sd, task.val.values)


def _scaled_sd(task: FoldTask, units: Units, blend: Blend, saw_train: bool) -> Array:
    """Return the residual sds times the factor that suits the unseen samples."""
    mean, values = _unseen(task, blend, saw_train)
    factor = best_factor(units.scale, mean, blend.residual_sd, values)
    log.info("noise: residual sds times %.3f, by CRPS", factor)
    return np.asarray(blend.residual_sd * factor)


def _fit_loadings(
    task: FoldTask, residuals: Array, val_residuals: Array, sd: Array, most: int
) -> Array:
    """Fit the shared factors of the residuals, averaged over each sample's slides."""
    if not most:
        return np.zeros((len(sd), 0))
    unit = np.where(sd > 0, 1 / np.where(sd > 0, sd, 1), 0)
    rows, rows_val = (
        per_sample(values * unit, part.sample_ids)
        for values, part in ((residuals, task.train), (val_residuals, task.val))
    )
    loadings, scores = fit_factors(rows, rows_val, most)
    count = loadings.shape[1]
    log.info(
        "noise: %d shared factors, val log-likelihood per gene %.3f (none: %.3f)",
        *(count, scores[count], scores[0]),
    )
    return loadings


def search_rows(tried: list[Tried]) -> list[Tried]:
    """Return rows of search.parquet, with settings as JSON."""
    return [row | {"settings": json.dumps(row["settings"], sort_keys=True)} for row in tried]
