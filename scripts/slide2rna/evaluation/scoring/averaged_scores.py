"""Averaged scores: bootstrapped scores of every model, averaged over the folds."""

from __future__ import annotations

import numpy as np

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import comparison, fold_scores
from slide2rna.evaluation.scoring.evaluated import Evaluated

CORRELATIONS = ("pcc", "pcc_draw_mean", "pcc_one_draw", "pcc_within_site")


class AveragedScores:
    """Bootstrapped scores (B + 1, K), averaged over folds."""

    def __init__(self, evaluated: Evaluated) -> None:
        self.evaluated = evaluated
        self.samples = [len(fold.truth) for fold in evaluated.predictions]
        self.crps = _average_crps(evaluated)

    def __call__(self, name: str, metric: str, owner: str) -> Array:
        """Return a model's scores on the gene sets of `owner`."""
        scores = self.evaluated.comparison.scores
        if metric == "crps":
            return self.crps[name]
        if metric == "rmse_ratio":
            error, constant_error = scores[name, "rmse", owner], scores["constant", "rmse", owner]
            return comparison.over_folds(
                error / np.maximum(constant_error, 1e-12), self.samples, False
            )
        samples = self.samples
        if metric == "pcc_within_site":
            samples = [fold.sites.effective for fold in self.evaluated.predictions]
        return comparison.over_folds(scores[name, metric, owner], samples, metric in CORRELATIONS)


def _average_crps(evaluated: Evaluated) -> dict[str, Array]:
    """Return the CRPS (B + 1, K) of draws and of train profiles, on the evaluated model's sets.

    The draws of a closed form are its point plus the train residuals.
    """
    if not evaluated.draw_moments:
        return {}
    samples = [len(fold.truth) for fold in evaluated.predictions]
    by_model: dict[str, list[Array]] = {
        "constant": [],
        **{name: [] for name in [*evaluated.draw_moments, *evaluated.predictions[0].residuals]},
    }
    for index, (fold, predictions) in enumerate(
        zip(evaluated.folds, evaluated.predictions, strict=True)
    ):
        weights = fold_scores.set_weights(
            predictions.sets[evaluated.model], np.ones_like(predictions.eligible)
        )
        values = {name: scored[index].crps for name, scored in evaluated.draw_moments.items()}
        values["constant"] = gene_metrics.climatology_crps(fold.train.truth, predictions.truth)
        for name, residuals in predictions.residuals.items():
            error = predictions.truth - predictions.test[name]
            values[name] = gene_metrics.climatology_crps(residuals, error)
        for name, gene_crps in values.items():
            by_model[name].append(bootstrap.bootstrap_mean(predictions.counts, gene_crps @ weights))
    return {
        name: comparison.over_folds(np.array(values), samples, False)
        for name, values in by_model.items()
    }
