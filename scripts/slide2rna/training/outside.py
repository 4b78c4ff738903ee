"""External data of a fold's fit: slides of partner cohorts, and another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slide2rna.features.bag_file import Bags
from slide2rna.storage import parquet
from slide2rna.training.linear_fit import PartnerRows
from slide2rna.training.mean_fit import Others
from slide2rna.training.partners import Partner, held_out_values, load_partner
from slide2rna.training.starting_model import StartingModel, load_starting_model
from slide2rna.training.targets import fit_gene_scale, targets
from slide2rna.training.task import TrainingInputs


@dataclass(frozen=True)
class Outside:
    """Partner cohorts, and the model that the fit starts from or None."""

    partners: Sequence[Partner] = ()
    start: StartingModel | None = None

    def in_units(self, genes: int, normal_scores: bool, seed: int) -> Others:
        """Return both in z-scores or normal scores of the fold's genes."""
        rows = []
        for partner in self.partners:
            measured = partner.values, partner.sample_ids
            scale = fit_gene_scale(*measured, normal_scores)
            values = np.full((len(partner.values), genes), np.nan)
            values[:, partner.columns] = targets(scale, *measured, seed).double().numpy()
            rows.append(PartnerRows(partner.mean, values, partner.units))
        weights = None if self.start is None else self.start.weights(normal_scores)
        return Others(rows, weights)


def read_outside(inputs: TrainingInputs, bagged: Bags, genes: Sequence[str]) -> Outside:
    """Read the partner cohorts and the model that a fold's inputs name.

    Parameters
    ----------
    bagged, genes : of the fold's own cohort.

    Raises
    ------
    StageError
        A partner or the model doesn't fit the cohort, or the model has seen one of its patients.
    """
    features = bagged.means.shape[2]
    held_out = held_out_values(inputs.slides, inputs.splits, inputs.fold)
    partners = [
        load_partner(folder, inputs.bags.name, genes, (features, bagged.encoder), held_out)
        for folder in inputs.partners
    ]
    start = None
    if inputs.start is not None:
        patients = sorted(set(parquet.read(inputs.slides, columns=["patient_id"]).to_series()))
        start = load_starting_model(inputs.start, genes, features, bagged.encoder, patients)
    return Outside(partners, start)
