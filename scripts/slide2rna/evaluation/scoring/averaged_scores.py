"""Bootstrapped scores of every model, averaged over the folds."""

from __future__ import annotations

import numpy as np

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import (
    comparison,
    fold_scores,
)
from slide2rna.evaluation.scoring.evaluated import Evaluated

CORRELATIONS = ("pcc", "pcc_draw_mean", "pcc_one_draw", "pcc_within_site")


class AveragedScores:
    """Bootstrapped scores (B + 1, K), averaged over folds."""

    def __init__(self, found: Evaluated) -> None:
        self.found = found
        self.patients = [len(fold.truth) for fold in found.inputs]
        self.crps = _crps(found)

    def __call__(self, name: str, metric: str, owner: str) -> Array:
        """A model's scores on the gene sets of `owner`."""
        scores = self.found.comparison.scores
        if metric == "crps":
            return self.crps[name]
        if metric == "rmse_ratio":
            own, base = scores[name, "rmse", owner], scores["constant", "rmse", owner]
            return comparison.over_folds(own / np.maximum(base, 1e-12), self.patients, False)
        counted = self.patients
        if metric == "pcc_within_site":
            counted = [fold.sites.effective for fold in self.found.inputs]
        return comparison.over_folds(scores[name, metric, owner], counted, metric in CORRELATIONS)


def _crps(found: Evaluated) -> dict[str, Array]:
    """CRPS (B + 1, K) of all draws and of the train profiles, on the evaluated model's sets."""
    if not found.moments:
        return {}
    patients = [len(fold.truth) for fold in found.inputs]
    both: dict[str, list[Array]] = {"constant": [], **{name: [] for name in found.moments}}
    for index, (fold, given) in enumerate(zip(found.folds, found.inputs, strict=True)):
        weights = fold_scores.set_weights(given.sets[found.model], np.ones_like(given.eligible))
        values = {name: scored[index].crps for name, scored in found.moments.items()}
        values["constant"] = gene_metrics.climatology_crps(fold.train.truth, given.truth)
        for name, of_genes in values.items():
            both[name].append(bootstrap.bootstrap_mean(given.counts, of_genes @ weights))
    return {
        name: comparison.over_folds(np.array(values), patients, False)
        for name, values in both.items()
    }
