"""A small packaged model: fold models of random weights, beside tables that the stages made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluated
import flow_cohort
import numpy as np
import polars as pl
import shift_tables
import synthetic_cohort
import torch
from slide2rna.core import config, files
from slide2rna.data import fold_rows, statistics
from slide2rna.features import feature_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.models.regressor import Regressor
from slide2rna.package import digests, package, package_tables, predictor
from slide2rna.pathways.membership import Pathways

DIM, CLUSTERS, GENES, FOLDS = 12, 4, 60, 2
SETTINGS = {
    "tiles": config.defaults("tiles", min_tiles=4),
    "features": config.defaults("features", encoder="color"),
    "bags": config.defaults("bags", k=CLUSTERS),
    "sample": config.defaults("sample", draws=20, steps=3, mean_pairs=2),
    "evaluate": config.defaults("evaluate"),
    "shift": config.defaults("shift"),
}


@dataclass(frozen=True)
class Packaged:
    """The cohort's folder, its truth, and the model's folder."""

    made: synthetic_cohort.Synthetic
    source: package_tables.FinishedRun

    @property
    def model(self) -> Path:
        return self.source.model


def make(
    folder: Path, encoder: str = "files", dim: int = DIM, cal: int = 4, **sections: dict[str, Any]
) -> Packaged:
    """Write a cohort, evaluate it, give it fold models and package them.

    Parameters
    ----------
    encoder : of section features; files takes features of `dim` numbers.
    cal : calibration patients of a fold.
    sections : settings that differ from `SETTINGS`.
    """
    made = synthetic_cohort.make(
        folder, genes=GENES, folds=FOLDS, patients=60, draws=20, dim=dim, cal=cal, caveat="drawn"
    )
    run = synthetic_cohort.RUN
    evaluated.run(made, folder / "evaluation" / run, bootstrap=60, permutations=20, top=[20])
    shift_tables.add_shift(made)
    for fold, path in enumerate(made.inputs.models):
        write_fold(made, path, fold, dim)
    source = package_tables.FinishedRun(
        folder, run, synthetic_cohort.ENCODER, synthetic_cohort.SET, list(range(FOLDS))
    )
    features = {"features": config.defaults("features", encoder=encoder)}
    package.package_run(source, SETTINGS | features | sections, 1)
    return Packaged(made, source)


def write_fold(made: synthetic_cohort.Synthetic, path: Path, fold: int, dim: int) -> None:
    """A flow whose weights are all random, with the fold's own train statistics."""
    sets = pl.read_parquet(made.inputs.pathways)
    genes = fold_rows.gene_names(made.inputs.expression)
    index = [
        np.sort([genes.index(gene) for gene in own["gene"]])
        for _, own in sets.group_by("pathway", maintain_order=True)
    ]
    names = sets["pathway"].unique(maintain_order=True).to_list()
    settings = flow_cohort.settings()["model"] | {"factors": 3}
    torch.manual_seed(fold)
    model = RNAFM(Pathways(names, index, len(genes)), dim, CLUSTERS, settings)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim else 1
            parameter.add_(0.3 * torch.randn_like(parameter) / fan_in**0.5)
    _statistics(model, made, fold)
    meta = {"model": "flow", "genes": genes, "features": dim, "clusters": CLUSTERS}
    meta |= {"settings": {"model": settings}, "interpolant": "linear", "seed": 1}
    meta |= {"encoder": synthetic_cohort.ENCODER, "best_epoch": 12, "fold": fold}
    checkpoint.save_model(path, model, meta)


def sign(folder: Path) -> None:
    """Record the digests of a model's files as they are now."""
    about = files.read_json(folder / predictor.ABOUT)
    files.write_json(about | {"digests": digests.of_folder(folder)}, folder / predictor.ABOUT)


def write_regressors(packed: Packaged, dim: int = DIM) -> None:
    """Networks that give points alone in the place of the flows."""
    settings = config.defaults("baselines")["abmil"] | {"hidden": 8, "attention": 4}
    genes = fold_rows.gene_names(packed.made.inputs.expression)
    for fold, path in enumerate(packed.made.inputs.models):
        torch.manual_seed(fold)
        model = Regressor("abmil", dim, CLUSTERS, GENES, settings)
        _statistics(model, packed.made, fold)
        meta = {"model": "abmil", "genes": genes, "features": dim, "clusters": CLUSTERS}
        checkpoint.save_model(path, model, meta | {"settings": {"model": settings}})
    sign(packed.model)


def _statistics(model: RNAFM | Regressor, made: synthetic_cohort.Synthetic, fold: int) -> None:
    splits = pl.read_csv(made.inputs.splits, separator="\t").filter(fold=fold, part="train")
    samples = splits["unit"].to_list()
    mean, sd = statistics.gene_statistics(
        fold_rows.read_expression_matrix(made.inputs.expression, samples), samples
    )
    model.gene_mean.copy_(torch.from_numpy(mean))
    model.gene_sd.copy_(torch.from_numpy(sd))


def features_of(
    path: Path, seed: int = 0, tiles: int = 40, dim: int = DIM, away: float = 0.0
) -> Path:
    """Features of a slide that looks like the cohort's, or is moved away from them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=dim) + 0.3 * rng.normal(size=(tiles, dim)) + away
    coords = np.stack(np.divmod(np.arange(tiles), 8), axis=1)[:, ::-1] * 256
    feature_file.write(path, feature_file.Features(values, coords, None), {})
    return path
