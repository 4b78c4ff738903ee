"""Out-of-distribution scores of a fold's val, cal and test slides.

Two distances to the train part, of the slide's bag and of its predicted profile, each with a
p-value from the cal patients. The train part and the cal distances are saved for new slides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import zarr
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from threadpoolctl import threadpool_limits

from slide2rna.core import files, seeds
from slide2rna.core.config import Settings
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.types import Array
from slide2rna.data import fold_rows, patients, statistics
from slide2rna.evaluation.scoring import folds
from slide2rna.features import bag_file
from slide2rna.studies.shift import reference
from slide2rna.studies.shift.reference import TrainingReference, p_value

JUDGED = ("val", "cal", "test")
# Fewer train samples than twice the components leave the covariance of their scores to chance.
SAMPLES_PER_COMPONENT = 2
NONE = np.empty(0)


@dataclass(frozen=True)
class ShiftInputs:
    """Files of a cohort, and a run's draws file of one fold."""

    draws: Path
    bags: Path
    expression: Path
    slides: Path
    splits: Path
    cohort: Path


@dataclass(frozen=True)
class TrainBags:
    """Standardised clusters of the train slides, those of a unit beside each other.

    Attributes
    ----------
    z : (N, d) float16
    sizes : (N,)
    slides, units : (N,) whose cluster it is.
    kept : (M,) rows that `Familiar` keeps.
    mean, scale : (d,)
    """

    z: NDArray[np.float16]
    sizes: Array
    slides: NDArray[np.str_]
    units: NDArray[np.str_]
    kept: NDArray[np.int64]
    mean: Array
    scale: Array

    def among(self, slides: Sequence[str]) -> Array:
        """Distance of each of these train slides to the clusters of the other units."""
        near, of = self.z[self.kept].astype(np.float32), self.units[self.kept]
        found = []
        for slide in slides:
            own = self.slides == slide
            out = of == self.units[own][0]
            if not out.all():
                found.append(reference.bag_distance(self.z[own], self.sizes[own], near, out))
        return np.array(found)


def measure_shift(
    inputs: ShiftInputs,
    name: str,
    out: str | Path,
    saved: str | Path,
    settings: Settings,
    seed: int,
    threads: int,
) -> pl.DataFrame:
    """Judge the slides of a fold; write their table, and what a new slide needs.

    Parameters
    ----------
    name : of the run.
    out, saved : Parquet table and safetensors file to write.
    settings : section `shift`.

    Raises
    ------
    StageError
        The inputs don't belong together, or the train part is too small.
    """
    genes, fold = folds.read_genes(inputs.draws), folds.fold_of(inputs.draws)
    store, rows = folds.open_store(inputs.draws, genes)
    bagged = bag_file.load(inputs.bags)
    of_fold = fold_rows.fold_rows(bagged.slide_ids, inputs.slides, inputs.splits, fold)
    unit = dict(pl.read_parquet(inputs.slides).select("slide_id", "unit").iter_rows())
    train, judged = of_fold.of("train"), of_fold.of(*JUDGED)
    lost = [slide for slide in judged.slide_ids if slide not in rows]
    if lost or not train.slide_ids:
        cause = f"slide {lost[0]} has a bag and no prediction" if lost else "no train slide"
        raise StageError(inputs.draws, cause, "train and sample this fold anew")
    with threadpool_limits(threads, "blas"):
        law, among = _law(inputs, bagged, train, unit, genes, settings, seed, fold)
        bag = [
            law.bag_distance(bagged.means[row], bagged.sizes[row])
            for row in progress(judged.bag, f"fold {fold}: shift")
        ]
    profiles, sds, kind = _profiles(store, [rows[slide] for slide in judged.slide_ids])
    law = replace(law, about=law.about | {"run": name, "profiles": kind})
    ids = np.array(judged.slide_ids)
    far = {"bag": np.array(bag), "expression": law.expression_distance(profiles)}
    cal = np.isin(ids, _one_each(judged.of("cal"), unit, seed))
    held = {key: values[cal & np.isfinite(values)] for key, values in far.items()}
    law = replace(
        law,
        cal_bag=np.sort(held["bag"]),
        cal_expression=np.sort(held["expression"]),
        train_bag=np.sort(among),
    )
    units = np.array([unit[slide] for slide in judged.slide_ids])
    p = {key: _p_values(values, units, cal) for key, values in far.items()}
    table = pl.DataFrame(
        {
            "fold": fold,
            "slide_id": judged.slide_ids,
            "sample_id": judged.sample_ids,
            "unit": units,
            "part": judged.parts,
            "bag_distance": far["bag"],
            "bag_p": p["bag"],
            "bag_p_train": [p_value(value, law.train_bag) for value in far["bag"]],
            "expression_distance": far["expression"],
            "expression_p": p["expression"],
            "spread": (sds[:, law.gene_sd > 0] / law.gene_sd[law.gene_sd > 0]).mean(axis=1),
            "profiles": kind,
            "alpha": float(settings["alpha"]),
            "n_cal": len(law.cal_bag),
            "n_train": len(law.train_bag),
        },
        schema_overrides=dict.fromkeys(("bag_p", "bag_p_train", "expression_p"), pl.Float64)
        | dict.fromkeys(("fold", "n_cal", "n_train"), pl.Int64),
    ).with_columns(pl.selectors.float().fill_nan(None))
    info = files.read_json(inputs.cohort)
    reference.save(law, saved)
    files.write_stamped(table, out, {"cohort": info["name"], "run": name}, info.get("caveat"))
    return table


def _one_each(rows: fold_rows.FoldRows, unit: dict[str, str], seed: int) -> list[str]:
    """One slide of each unit, drawn: two of one patient aren't two independent witnesses."""
    owners = [unit[slide] for slide in rows.slide_ids]
    return [rows.slide_ids[row] for row in patients.one_row_per_patient(owners, seed, "shift")]


def _law(
    inputs: ShiftInputs,
    bagged: bag_file.Bags,
    train: fold_rows.FoldRows,
    unit: dict[str, str],
    genes: list[str],
    settings: Settings,
    seed: int,
    fold: int,
) -> tuple[TrainingReference, Array]:
    """The train part, still without cal patients, and its own distances to each other."""
    found = _train_bags(bagged, train, unit, settings["clusters"], seed, fold)
    columns = fold_rows.gene_names(inputs.expression)
    place = {gene: index for index, gene in enumerate(columns)}
    lost = [gene for gene in genes if gene not in place]
    if lost:
        cause = f"the model's gene {lost[0]} is missing"
        raise StageError(inputs.expression, cause, "use the table that it was trained on")
    _, once = np.unique(train.sample_ids, return_index=True)
    samples = [train.sample_ids[row] for row in once]
    values = fold_rows.expression(inputs.expression, samples)[:, [place[gene] for gene in genes]]
    mean, sd = statistics.gene_statistics(values, samples)
    components, precision = principal(values, mean, sd, settings["components"])
    about = {"genes": genes, "encoder": bagged.encoder, "fold": fold}
    law = TrainingReference(
        found.mean,
        found.scale,
        found.z[found.kept],
        mean,
        sd,
        components.astype(np.float32),
        precision,
        NONE,
        NONE,
        NONE,
        about,
    )
    return law, found.among(_one_each(train, unit, seed))


def _train_bags(
    bagged: bag_file.Bags,
    train: fold_rows.FoldRows,
    unit: dict[str, str],
    most: int,
    seed: int,
    fold: int,
) -> TrainBags:
    mean, scale = statistics.feature_statistics(bagged.means, bagged.sizes, train.bag)
    sizes = bagged.sizes[train.bag]
    there = sizes > 0
    slides = np.repeat(train.slide_ids, there.sum(axis=1))
    kept = np.arange(len(slides))
    if len(kept) > most:
        kept = np.sort(seeds.rng_for(seed, "shift", fold).choice(kept, most, replace=False))
    z = np.empty((len(slides), bagged.means.shape[2]), np.float16)
    ends = there.sum(axis=1).cumsum()
    for row, known, stop in zip(train.bag, there, ends, strict=True):
        own = bagged.means[row][known]
        z[stop - len(own) : stop] = reference.standardise(own, mean, scale)
    units = np.array([unit[slide] for slide in slides])
    return TrainBags(z, sizes[there], slides, units, kept, mean, scale)


def principal(values: Array, mean: Array, sd: Array, count: int) -> tuple[Array, Array]:
    """Leading principal components of standardised profiles, and their scores' precision.

    Parameters
    ----------
    values : (n, G) log2(x+1), a row per train sample.
    mean, sd : (G,)
    count : at most so many components, and at most half as many as samples.

    Returns
    -------
    components : (K, G), orthonormal.
    precision : (K, K) inverse of the scores' covariance, shrunk to a multiple of the identity
        (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4): the smallest of few samples'
        variances are too small, and their inverse would drown the others.
    """
    active = sd > 0
    z = np.where(active, (values - mean) / np.where(active, sd, 1), 0)
    square, basis = np.linalg.eigh(z @ z.T)
    count = max(1, min(count, len(z) // SAMPLES_PER_COMPONENT))
    order = np.argsort(-square, kind="stable")[:count]
    order = order[square[order] > 1e-9 * square[order[0]]]
    components = (basis[:, order] / np.sqrt(square[order])).T @ z
    covariance, _ = ledoit_wolf(z @ components.T, assume_centered=True)
    return components, np.linalg.inv(covariance)


def _profiles(store: zarr.Group, rows: Sequence[int]) -> tuple[Array, Array, str]:
    """Predicted profiles (S, G) and the draws' sd, NaN where there is none, and what they are.

    The mean of draws where the file has it, points otherwise: val slides of a model with draws
    have none.
    """
    mean, sd = np.full((2, len(rows), *store["point"].shape[1:]), np.nan)  # type: ignore[union-attr]
    kind = "draws" if "mean" in store else "point"
    for place, row in enumerate(rows):
        if kind == "draws":
            mean[place], sd[place] = store["mean"][row], store["sd"][row]  # type: ignore[index]
        else:
            mean[place] = store["point"][row]  # type: ignore[index]
    return mean, sd, kind


def _p_values(values: Array, units: NDArray[np.str_], cal: NDArray[np.bool_]) -> list[float | None]:
    """A p-value per slide; a cal slide is compared with the other cal patients."""
    cal = cal & np.isfinite(values)
    found = []
    for value, own in zip(values, units, strict=True):
        found.append(p_value(float(value), values[cal & (units != own)]))
    return found
