"""Start of the flow: everything that is fitted before the flow trains, chosen by val.

First the conditional mean (`mean_fit`, `mixture_fit`), in z-scores and in normal scores. Then the
units of the targets, by the CRPS of val: z-scores, unless normal scores are clearly better. With
normal scores, the share of the mean that is fitted in the genes' own scale, by the same CRPS.
Last the noise: residual sds and shared factors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from slide2rna.core.log import log
from slide2rna.core.seeds import seed_for
from slide2rna.core.settings import ModelSettings
from slide2rna.core.types import Array
from slide2rna.data.statistics import gene_statistics
from slide2rna.flow import quantile_map
from slide2rna.flow.feature_scale import Scale
from slide2rna.flow.fitted_shape import FittedShape
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.velocity import RNAFM, SD_RANGE
from slide2rna.models.ridge import per_sample
from slide2rna.training.factors import fit_factors
from slide2rna.training.mean_fit import BagPart, MeanFit, PartnerRows, Tried, fit_mean
from slide2rna.training.mixture_fit import fit_mixture
from slide2rna.training.partners import Partner
from slide2rna.training.selection import clearly_better
from slide2rna.training.targets import targets
from slide2rna.training.task import FoldTask, PartSlides

OWN_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Levels at which the quantiles of a Gaussian stand for its draws.
LEVELS = (np.arange(39) + 0.5) / 39


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
    table_sd : (G,) with which `GeneScale.mean_table` was fitted.
    """

    weight: float
    left_out: Array
    val: Array
    residual_sd: Array
    table_sd: Array | None = None


@dataclass(frozen=True)
class Start:
    """Fitted start; see `install`.

    Attributes
    ----------
    units : of the flow's targets.
    own : fitted mean in z-scores, if the targets are normal scores.
    own_weight : its share in the mean.
    residual_sd : (G,) of the left-out residuals.
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
        """Return the numbers that the network's layers depend on."""
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


def fit_start(
    task: FoldTask, scale: Scale, settings: ModelSettings, partners: Sequence[Partner] = ()
) -> Start:
    """Fit the start of a fold's flow; `scale` is fitted to the train bags."""
    bags = BagPart.of(scale, task.train), BagPart.of(scale, task.val)
    others = [(partner, BagPart.of(partner.scale, partner.slides).mean) for partner in partners]
    own = _fit_units(task, bags, settings, others, normal_scores=False)
    residual_sd = _residual_sd(own.train - own.fit.left_out)
    chosen, blend = own, Blend(0.0, own.fit.left_out, own.fit.val, residual_sd)
    tried = list(own.fit.tried)
    if settings["target"] != "zscore":
        scores = _fit_units(task, bags, settings, others, normal_scores=True)
        tried += scores.fit.tried
        began = time.monotonic()
        plain = _val_crps(task, own, blend)
        best, crps = _best_blend(task, own, scores)
        seconds = (time.monotonic() - began) / 2
        scores_win = settings["target"] == "normal_scores" or clearly_better(crps, plain)
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
            assert best.table_sd is not None
            scores.scale.fit_mean_table(_tensor(best.table_sd))
    residuals, val_residuals = chosen.train - blend.left_out, chosen.val - blend.val
    loadings = _fit_loadings(task, residuals, val_residuals, blend.residual_sd, settings["factors"])
    mean = own.fit if chosen is not own else None
    return Start(chosen, mean, blend.weight, blend.residual_sd, loadings, tried)


def _fit_units(
    task: FoldTask,
    bags: tuple[BagPart, BagPart],
    settings: ModelSettings,
    partners: Sequence[tuple[Partner, Array]],
    normal_scores: bool,
) -> Units:
    scale = _fit_scale(task.train, normal_scores)
    z, z_val = (targets(scale, part, task.seed).double().numpy() for part in (task.train, task.val))
    name = "normal_scores" if normal_scores else "zscore"
    seed = seed_for(task.seed, "head", task.fold, name)
    others = []
    for partner, mean in partners:
        other = targets(_fit_scale(partner.slides, normal_scores), partner.slides, task.seed)
        values = np.full((len(other), z.shape[1]), np.nan)
        values[:, partner.columns] = other.double().numpy()
        others.append(PartnerRows(mean, values, partner.slides.sample_ids))
    active = scale.active.double().numpy()
    fit = fit_mean(bags, (z, z_val), active, settings, seed, name, others)
    if not normal_scores:
        fit = fit_mixture(bags, (z, z_val), scale, fit, settings["mixture"], seed)
    return Units(scale, z, z_val, fit)


def _fit_scale(slides: PartSlides, normal_scores: bool) -> GeneScale:
    """Fit the scale of each gene on a part's samples."""
    values = slides.values
    mean, sd = gene_statistics(values, slides.sample_ids)
    scale = GeneScale()
    knots = None
    if normal_scores:
        _, first = np.unique(np.array(slides.sample_ids), return_index=True)
        knots = quantile_map.quantile_knots(values[first])
    scale.register_genes(len(mean), 0 if knots is None else len(knots))
    scale.gene_mean.copy_(torch.from_numpy(mean))
    scale.gene_sd.copy_(torch.from_numpy(sd))
    if knots is not None:
        scale.gene_knots.copy_(torch.from_numpy(knots))
    return scale


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
    table_sd, parts = sd, {"left_out": scores.fit.left_out, "val": scores.fit.val}
    for _ in range(2 if weight else 1):
        table_sd = np.clip(sd, *SD_RANGE)
        scores.scale.fit_mean_table(_tensor(table_sd))
        if weight:
            parts = {part: _blend_part(own, scores, part, weight) for part in parts}
        sd = _residual_sd(scores.train - parts["left_out"])
    return Blend(weight, parts["left_out"], parts["val"], sd, table_sd)


def _blend_part(own: Units, scores: Units, part: str, weight: float) -> Array:
    mean = _tensor(getattr(scores.fit, part))
    expression = _own_expression(own, part)
    blended = scores.scale.blend_means(mean, expression, torch.tensor(weight))
    return blended.double().numpy()


def _best_blend(task: FoldTask, own: Units, scores: Units) -> tuple[Blend, Array]:
    """Return the blend of least CRPS on val, and each val slide's CRPS."""
    blends = [_blend(own, scores, weight) for weight in OWN_WEIGHTS]
    losses = [_val_crps(task, scores, blend) for blend in blends]
    best = int(np.argmin([values.mean() for values in losses]))
    return blends[best], losses[best]


def _val_crps(task: FoldTask, units: Units, blend: Blend) -> Array:
    """Return each val slide's CRPS (M,) in log2 units, averaged over genes.

    Residuals are Gaussian around mean targets. The CRPS is twice the mean pinball loss over
    quantiles (Gneiting and Ranjan 2011, doi:10.1198/jbes.2010.08110).
    """
    mean, sd = _tensor(blend.val), _tensor(np.clip(blend.residual_sd, *SD_RANGE))
    truth = torch.from_numpy(task.val.values)
    total = torch.zeros(len(truth), dtype=torch.float64)
    for level in LEVELS:
        gap = truth - units.scale.restore(mean + sd * float(norm.ppf(level)))
        total += torch.maximum(level * gap, (level - 1) * gap).double().mean(dim=1)
    return (2 * total / len(LEVELS)).numpy()


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
