"""Starting model: a finished model whose fitted mean is blended into that of a new cohort.

A linear fit on one cohort transfers to another in units of each cohort: features and expression
standardised by their own train slides, as with partners. A few slides of the new cohort then
choose its share, instead of learning everything from scratch. The model's folds are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slide2rna.core.errors import StageError
from slide2rna.core.log import log
from slide2rna.core.types import Array
from slide2rna.data import training_record
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.training.linear_fit import StartingWeights

CPU = torch.device("cpu")


@dataclass(frozen=True)
class StartingModel:
    """Linear weights (d, G) of a model's mean in both units; NaN for genes that it doesn't have."""

    name: str
    zscore: Array
    normal_scores: Array

    def weights(self, normal_scores: bool) -> StartingWeights:
        """Return the weights for targets in these units."""
        return StartingWeights(self.name, self.normal_scores if normal_scores else self.zscore)


def load_starting_model(
    folder: Path, genes: Sequence[str], features: int, encoder: str, patients: Sequence[str]
) -> StartingModel:
    """Read a model's folder, packaged or not.

    Parameters
    ----------
    folder : with a folder fold-<k> for each fold.
    genes, features, encoder : of the new cohort.
    patients : all patients of the new cohort, of whom the model must have seen none.

    Raises
    ------
    StageError
        It isn't a flow with a fitted mean, has other features or no gene in common, doesn't say
        which patients it was trained on, or was trained on one of the new cohort.
    """
    paths = sorted(folder.glob("fold-*"))
    if not paths:
        raise StageError(folder, "no folder fold-<k> there", "give a model's folder")
    remedy = "choose another model for start"
    sums = np.zeros((2, features, len(genes)))
    shared = np.zeros(len(genes), dtype=bool)
    for path in paths:
        model, meta = checkpoint.load_model(path, CPU)
        if not isinstance(model, RNAFM) or model.mean is None:
            raise StageError(path, "not a flow with a fitted mean (model.skip: ridge)", remedy)
        if meta["features"] != features or meta["encoder"] != encoder:
            theirs, ours = f"{meta['features']} of {meta['encoder']}", f"{features} of {encoder}"
            raise StageError(
                path, f"its features are {theirs}, those of this cohort are {ours}", remedy
            )
        _check_patients(path, patients)
        sums += _weights(model, meta, genes)
        position = set(meta["genes"])
        shared = np.array([gene in position for gene in genes])
    if not shared.any():
        raise StageError(folder, "it has no gene of this cohort", remedy)
    log.info("start: %s, %d folds, %d of %d genes", folder, len(paths), shared.sum(), len(genes))
    zscore, normal_scores = np.where(shared, sums / len(paths), np.nan)
    return StartingModel(folder.name, zscore, normal_scores)


def _check_patients(path: Path, patients: Sequence[str]) -> None:
    record = training_record.read(path)
    if record is None:
        cause = f"it has no {training_record.FILE}, so its training patients are unknown"
        raise StageError(path, cause, "retrain it with this version")
    known = set(record["patient"])
    seen = [name for name in patients if training_record.digest("patient", name) in known]
    if seen:
        cause = f"{len(seen)} patients of this cohort were in its training data ({seen[0]} ...)"
        raise StageError(path, cause, "remove them from the cohort, or choose another model")


def _weights(model: RNAFM, meta: dict[str, Any], genes: Sequence[str]) -> Array:
    """Return the weights (2, d, G) for z-scores and normal scores; 0 for absent genes."""
    assert model.mean is not None
    own = model.mean if model.own_mean is None else model.own_mean
    columns = {gene: column for column, gene in enumerate(meta["genes"])}
    at = np.array([place for place, gene in enumerate(genes) if gene in columns], dtype=np.int64)
    theirs = [columns[genes[place]] for place in at]
    out = np.zeros((2, model.mean.linear.in_features, len(genes)))
    for unit, mean in enumerate((own, model.mean)):
        out[unit][:, at] = mean.linear.weight.double().numpy().T[:, theirs]
    return out
