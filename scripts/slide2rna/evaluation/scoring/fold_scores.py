"""Fold scores: one fold's predictions on a block of genes, for all resamples of its patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.metrics.bootstrap import Counts
from slide2rna.evaluation.metrics.within_site import Sites

Key = tuple[str, str, str]  # model, metric, owner of the gene sets

# The published ratio RMSE / mean becomes huge for genes with little expression.
LEAST_MEAN = 0.1


@dataclass
class FoldPredictions:
    """Predictions of all models in one fold, with the data for scoring them.

    Attributes
    ----------
    truth : (n, G)
    test : predictions (n, G) by name; the evaluated model's come first.
    variants : further point predictions by (name, metric), scored by correlation only.
    sets : (G, K) gene sets by name of the prediction that ranked them.
    eligible : (G,) genes that vary in train.
    train_mean : (G,)
    counts : (B + 1, n) bootstrap weights.
    sites : samples that can be compared within their site.
    patient_ids : (n,) patient of each sample; empty if every sample is a patient.
    residuals : train residuals (m, G) by name, of the models whose draws they make.
    varies, varies_within : (G,) genes that vary among the scored patients, and among those of
        `sites` within their site; computed here.
    """

    truth: Array
    test: dict[str, Array]
    variants: dict[tuple[str, str], Array]
    sets: dict[str, NDArray[np.bool_]]
    eligible: NDArray[np.bool_]
    train_mean: Array
    counts: Counts
    sites: Sites = field(default_factory=lambda: Sites.of([]))
    patient_ids: Sequence[str] = ()
    residuals: dict[str, Array] = field(default_factory=dict)
    varies: NDArray[np.bool_] = field(init=False)
    varies_within: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.varies = ~gene_metrics.is_flat(self.truth)
        self.varies_within = np.zeros_like(self.varies)
        if self.compares_sites:
            self.varies_within = self.varies & ~gene_metrics.is_flat(self.sites.centre(self.truth))

    @property
    def patients(self) -> int:
        """Number of scored patients."""
        return len(set(self.patient_ids)) if self.patient_ids else len(self.truth)

    @property
    def compares_sites(self) -> bool:
        """True if there are enough samples for a correlation within sites."""
        return self.sites.effective > 3


def set_weights(sets: NDArray[np.bool_], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return weights (G, K) that average the usable genes of each set."""
    members = sets & usable[:, None]
    return members.astype(np.float32) / np.maximum(members.sum(axis=0), 1).astype(np.float32)


class Averages:
    """Weights that average a block of genes over the gene sets.

    A set's mean runs over its genes in all blocks, so the divisor is that of the whole set.
    """

    def __init__(self, fold: FoldPredictions, model: str) -> None:
        self.fold, self.model = fold, model
        dense = fold.train_mean >= LEAST_MEAN
        self.usable = {
            "pcc": fold.varies,
            "pcc_within_site": fold.varies_within,
            "rmse": np.ones_like(dense),
            "nrmse": dense,
        }
        self.divisor = {
            (kind, owner): np.maximum((sets & used[:, None]).sum(axis=0), 1).astype(np.float32)
            for kind, used in self.usable.items()
            for owner, sets in fold.sets.items()
        }

    def owners(self, name: str) -> tuple[str, ...]:
        """Return the owners of the gene sets that score a prediction: itself, the evaluated model.

        The constant is scored on the sets of all models, to be compared with each.
        """
        if name == "constant":
            return tuple(self.fold.sets)
        return (name,) if name == self.model else (name, self.model)

    def __call__(self, kind: str, owner: str, block: slice) -> NDArray[np.float32]:
        """Return weights (genes of the block, K)."""
        members = self.fold.sets[owner][block] & self.usable[kind][block, None]
        weights = members.astype(np.float32) / self.divisor[kind, owner]
        if kind == "nrmse":
            weights /= np.maximum(self.fold.train_mean[block, None], LEAST_MEAN)
        return weights.astype(np.float32)


@dataclass
class BlockScores:
    """Scores of a block of genes.

    Attributes
    ----------
    sums : (B + 1, K) the block's part of each set mean.
    r, rmse : (genes,) by name, of the patients as they are.
    within : (genes,) the model's correlations within sites; NaN if undefined.
    resampled : (B + 1, genes) the model's correlations; NaN for genes that don't count.
    """

    sums: dict[Key, Array]
    r: dict[str, Array]
    rmse: dict[str, Array]
    within: Array
    resampled: Array


def score_block(fold: FoldPredictions, average: Averages, block: slice, model: str) -> BlockScores:
    """Score all predictions on a block of genes."""
    truth = fold.truth[:, block]
    usable = (fold.eligible & fold.varies)[block]
    out = BlockScores({}, {}, {}, np.full(truth.shape[1], np.nan), np.empty(0))

    def add(values: Array, kind: str, name: str, metric: str, owners: tuple[str, ...]) -> None:
        weights = np.hstack([average(kind, owner, block) for owner in owners])
        sums = values @ weights
        for owner, part in zip(owners, np.hsplit(sums, len(owners)), strict=True):
            out.sums[name, metric, owner] = part

    correlate = bootstrap.PccBootstrap(fold.counts, truth)
    for name, prediction in fold.test.items():
        owners = average.owners(name)
        r = correlate(prediction[:, block])
        add(r, "pcc", name, "pcc", owners)
        out.r[name] = np.where(usable, r[0], np.nan)
        if name == model:
            out.resampled = np.where(usable, r, np.float32(np.nan))
        error = bootstrap.bootstrap_rmse(fold.counts, prediction[:, block], truth)
        add(error, "rmse", name, "rmse", owners)
        add(error, "nrmse", name, "nrmse", owners)
        out.rmse[name] = error[0].copy()
    for (name, metric), prediction in fold.variants.items():
        add(correlate(prediction[:, block]), "pcc", name, metric, average.owners(name))
    if fold.compares_sites:
        sites = fold.sites
        # Samples outside these sites hold part of each resample's weight: rescale to m.
        counts = fold.counts[:, sites.rows]
        counts = counts * (len(sites.rows) / np.maximum(counts.sum(axis=1, keepdims=True), 1e-6))
        inside = bootstrap.PccBootstrap(counts, sites.centre(truth))
        for name, prediction in fold.test.items():
            r = inside(sites.centre(prediction[:, block]))
            add(r, "pcc_within_site", name, "pcc_within_site", (name,))
            if name == model:
                counted = usable & fold.varies_within[block]
                out.within = np.where(counted, r[0], np.nan)
    return out
