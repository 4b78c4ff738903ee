"""Fit of the mixture head: starts from the ridge, squared error in z-scores, stopped by val.

The head stays with the model in any case, for maps. It becomes the mean in the genes' own scale
only if it is clearly better on val (`selection`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.log import log
from slide2rna.flow.gene_scale import GeneScale
from slide2rna.flow.mixture_head import MixtureHead
from slide2rna.training.early_stopping import train_by_val
from slide2rna.training.linear_fit import BagPart, Targets
from slide2rna.training.mean_fit import MeanFit
from slide2rna.training.selection import clearly_better

LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.05
# Genes of a step of the training, and of val while it stops the training; drawn at random.
GENES = 2048
CALIBRATIONS = 4


def fit_mixture(
    parts: tuple[BagPart, BagPart],
    targets: Targets,
    scale: GeneScale,
    fit: MeanFit,
    rank: int,
    seed: int,
) -> MeanFit:
    """Add a mixture head to a fit in z-scores; it becomes the mean if it is clearly better on val.

    A bag of one cluster, or rank 0, leaves the fit unchanged.

    Parameters
    ----------
    parts, targets : bags of train and val, and their z-scores.
    scale : from expression to these z-scores.
    fit : the ridge with its head.
    rank : maximum number of tissue states.
    """
    train, val = parts
    rank = min(rank, fit.basis.shape[1])
    if train.features.shape[1] == 1 or not rank:
        return fit
    torch.manual_seed(seed)
    head = start_from_ridge(fit, train, scale, rank)
    truth, truth_val = (torch.from_numpy(part).float() for part in (targets.train, targets.val))
    genes = len(scale.gene_sd)
    stopping = torch.randperm(genes)[:GENES]

    def standardised(of: MixtureHead, bags: tuple[Tensor, Tensor], some: Tensor) -> Tensor:
        """Return z-scores of bags, features and sizes, and of some genes."""
        sd = scale.gene_sd[some]
        gap = of(*bags, some) - scale.gene_mean[some]
        return torch.where(sd > 0, gap / torch.where(sd > 0, sd, 1), 0)

    def loss(rows: Tensor) -> Tensor:
        some = torch.randperm(genes)[:GENES] if genes > GENES else torch.arange(genes)
        return (standardised(head, train.draw(rows), some) - truth[rows][:, some]).square().mean()

    @torch.no_grad()
    def errors(average: MixtureHead) -> Tensor:
        gap = standardised(average, (val.features, val.sizes), stopping)
        return (gap - truth_val[:, stopping]).double().square().sum(dim=1)

    course = train_by_val(
        head, loss, errors, val.units, len(targets.train), (LEARNING_RATE, WEIGHT_DECAY)
    )
    with torch.no_grad():
        predicted, predicted_val = (
            scale.standardise(head(part.features, part.sizes)).double().numpy() for part in parts
        )
        in_sample = fit.mean(train.features, train.sizes).double().numpy()
    losses, before = (
        np.square(values - targets.val).mean(axis=1) for values in (predicted_val, fit.val)
    )
    is_mean = clearly_better(losses, before, val.units)
    log.info(
        "mixture head of rank %d: val error %.4f in epoch %d of %d; it is %sthe mean",
        *(rank, losses.mean(), course.best_epoch, course.epochs, "" if is_mean else "not "),
    )
    row = {
        "step": "mixture",
        "settings": {"target": "zscore", "rank": rank},
        "val_loss": float(losses.mean()),
        "seconds": course.seconds,
        "epochs": course.epochs,
        "best_epoch": course.best_epoch,
        "chosen": is_mean,
    }
    fit = dataclasses.replace(fit, mixture=head, tried=[*fit.tried, row])
    if not is_mean:
        return fit
    # As with a pooled head: the ridge has left the sample out, but the head has seen it.
    left_out = fit.left_out + predicted - in_sample
    return dataclasses.replace(
        fit, mixture_is_mean=True, saw_train=True, left_out=left_out, val=predicted_val
    )


@torch.no_grad()
def start_from_ridge(fit: MeanFit, train: BagPart, scale: GeneScale, rank: int) -> MixtureHead:
    """Return a head whose bulk follows the fit's ridge, and equals it on average over train.

    States are the ridge's first components. To first order in them the two are equal; for clusters
    far from each other the head bends, and the amounts are set so that no gene is off on average.
    """
    linear = fit.mean.linear
    weight = linear.weight.double().numpy()
    genes, features = weight.shape
    basis = fit.basis[:, :rank]
    # Responses of about 1, whatever the number of genes.
    unit = np.sqrt(genes)
    head = MixtureHead(features, genes, rank).eval()
    head.states.copy_(torch.from_numpy(basis.T @ weight / unit))
    head.response.weight.copy_(torch.from_numpy(basis * unit))
    head.response.bias.copy_(linear.bias)
    head.set_units(scale.gene_mean, scale.gene_sd)
    z = torch.from_numpy(train.mean @ weight.T) + linear.bias
    wanted = (scale.gene_mean + scale.gene_sd * z).mean(dim=0)
    for _ in range(CALIBRATIONS):
        gap = head(train.features, train.sizes).double().mean(dim=0) - wanted
        head.amount.mul_(torch.exp2(-gap))
    return head
