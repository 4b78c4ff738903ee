"""A flow model on disk that was never trained, for what is made of a flow's draws."""

from __future__ import annotations

from pathlib import Path

import flow_cohort
import torch
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.pathways import membership
from slide2rna.training import task
from slide2rna.training.build import build as build_network
from slide2rna.training.outside import Outside


def build(cohort: flow_cohort.FlowCohort, folder: Path, scale: float) -> Path:
    """A flow that isn't trained; `scale` sets how far its F is from constant, and so from Gauss."""
    bagged = bag_file.load(cohort.inputs.bags)
    genes = fold_rows.gene_names(cohort.inputs.expression)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    parts = []
    for name in ("train", "val"):
        found = rows.of(name)
        values = fold_rows.read_expression_matrix(cohort.inputs.expression, found.sample_ids)
        parts.append(
            task.PartSlides(
                *(bagged.means[found.bag], bagged.sizes[found.bag], values),
                *(found.sample_ids, found.units),
            )
        )
    sets = membership.read_pathways(cohort.inputs.pathways, genes)
    settings = flow_cohort.settings()
    model, _ = build_network(task.FoldTask(*parts, genes, sets, 0, 1), settings, Outside())
    assert isinstance(model, RNAFM)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.final_layer.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
        assert model.theta is not None
        model.theta.copy_(torch.linspace(-1.0, 0.2, len(genes)))
    clusters, features = bagged.means.shape[1:]
    meta = {"model": "flow", "genes": genes, "features": features, "clusters": clusters}
    checkpoint.save_model(
        folder,
        model,
        meta | {"settings": {k: settings[k] for k in ("model", "train")}, "interpolant": "linear"},
    )
    return folder
