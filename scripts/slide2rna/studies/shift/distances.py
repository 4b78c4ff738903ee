"""Out-of-distribution scores of a fold's val, cal and test slides.

Each slide has two distances to the train part, of its bag and of its predicted profile, each with
a p-value from the cal patients. The train part and the cal distances are saved for new slides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from threadpoolctl import threadpool_limits

from slide2rna.core import files, seeds
from slide2rna.core.errors import StageError
from slide2rna.core.log import progress
from slide2rna.core.settings import ShiftSettings
from slide2rna.core.types import Array
from slide2rna.data import fold_rows, patients, statistics
from slide2rna.evaluation.scoring import folds
from slide2rna.features import bag_file
from slide2rna.flow.feature_scale import Scale
from slide2rna.sampling import draw_store
from slide2rna.storage import parquet
from slide2rna.studies.shift import reference
from slide2rna.studies.shift.reference import TrainingReference, p_value

HELD_OUT = ("val", "cal", "test")
# With fewer train samples per component, the covariance of their scores is unreliable.
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
    """Standardised clusters of the train slides, those of a slide in consecutive rows.

    Attributes
    ----------
    z, sizes : (N, d) float16 and (N,)
    slides, units : (N,) slide and unit of each cluster.
    reference_rows : (M,) rows that `TrainingReference` holds.
    mean, scale, scaling : (d,), (d,), and what precedes them (None for nothing).
    """

    z: NDArray[np.float16]
    sizes: Array
    slides: NDArray[np.str_]
    units: NDArray[np.str_]
    reference_rows: NDArray[np.int64]
    mean: Array
    scale: Array
    scaling: Scale | None

    def distances_to_others(self, slides: Sequence[str]) -> Array:
        """Return the distance of each of these train slides to the other units' clusters."""
        clusters = self.z[self.reference_rows].astype(np.float32)
        cluster_units = self.units[self.reference_rows]
        distances = []
        for slide in slides:
            slide_rows = self.slides == slide
            same_unit = cluster_units == self.units[slide_rows][0]
            if not same_unit.all():
                distances.append(
                    reference.bag_distance(
                        self.z[slide_rows], self.sizes[slide_rows], clusters, same_unit
                    )
                )
        return np.array(distances)


def measure_shift(
    inputs: ShiftInputs,
    name: str,
    out: str | Path,
    saved: str | Path,
    settings: ShiftSettings,
    seed: int,
    threads: int,
) -> pl.DataFrame:
    """Judge the held-out slides of a fold; write their table and the reference for new slides.

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
    _, store_rows = folds.open_store(inputs.draws, genes)
    bagged = bag_file.load(inputs.bags)
    fold_slides = fold_rows.read_fold_rows(bagged.slide_ids, inputs.slides, inputs.splits, fold)
    unit_by_slide = dict(parquet.read(inputs.slides).select("slide_id", "unit").iter_rows())
    train, held_out = fold_slides.of("train"), fold_slides.of(*HELD_OUT)
    missing = [slide for slide in held_out.slide_ids if slide not in store_rows]
    if missing or not train.slide_ids:
        cause = f"slide {missing[0]} has a bag but no prediction" if missing else "no train slide"
        raise StageError(inputs.draws, cause, "rerun training and sampling for this fold")
    with threadpool_limits(threads, "blas"):
        training, train_distances = _fit_reference(
            inputs, bagged, train, unit_by_slide, genes, settings, seed, fold
        )
        bag_distances = [
            training.bag_distance(bagged.means[row], bagged.sizes[row])
            for row in progress(held_out.bag, f"fold {fold}: shift")
        ]
    rows = [store_rows[slide] for slide in held_out.slide_ids]
    profiles, sds, kind = draw_store.read_profiles(inputs.draws, rows)
    training = replace(training, about=training.about | {"run": name, "profiles": kind})
    ids = np.array(held_out.slide_ids)
    distances = {
        "bag": np.array(bag_distances),
        "expression": training.expression_distance(profiles),
    }
    cal = np.isin(ids, _one_slide_per_unit(held_out.of("cal"), unit_by_slide, seed))
    cal_distances = {key: values[cal & np.isfinite(values)] for key, values in distances.items()}
    training = replace(
        training,
        cal_bag=np.sort(cal_distances["bag"]),
        cal_expression=np.sort(cal_distances["expression"]),
        train_bag=np.sort(train_distances),
    )
    units = np.array([unit_by_slide[slide] for slide in held_out.slide_ids])
    p = {key: _p_values(values, units, cal) for key, values in distances.items()}
    gene_sd = training.gene_sd
    table = pl.DataFrame(
        {
            "fold": fold,
            "slide_id": held_out.slide_ids,
            "sample_id": held_out.sample_ids,
            "unit": units,
            "part": held_out.parts,
            "bag_distance": distances["bag"],
            "bag_p": p["bag"],
            "bag_p_train": [p_value(value, training.train_bag) for value in distances["bag"]],
            "expression_distance": distances["expression"],
            "expression_p": p["expression"],
            "spread": (sds[:, gene_sd > 0] / gene_sd[gene_sd > 0]).mean(axis=1),
            "profiles": kind,
            "alpha": float(settings["alpha"]),
            "n_cal": len(training.cal_bag),
            "n_train": len(training.train_bag),
        },
        schema_overrides=dict.fromkeys(("bag_p", "bag_p_train", "expression_p"), pl.Float64)
        | dict.fromkeys(("fold", "n_cal", "n_train"), pl.Int64),
    ).with_columns(pl.selectors.float().fill_nan(None))
    info = files.read_json(inputs.cohort)
    reference.save(training, saved)
    parquet.write_stamped(table, out, {"cohort": info["name"], "run": name}, info.get("caveat"))
    return table


def _one_slide_per_unit(
    rows: fold_rows.FoldRows, unit_by_slide: dict[str, str], seed: int
) -> list[str]:
    """Draw one slide of each unit: slides of one patient aren't independent."""
    units = [unit_by_slide[slide] for slide in rows.slide_ids]
    return [rows.slide_ids[row] for row in patients.one_row_per_patient(units, seed, "shift")]


def _fit_reference(
    inputs: ShiftInputs,
    bagged: bag_file.Bags,
    train: fold_rows.FoldRows,
    unit_by_slide: dict[str, str],
    genes: list[str],
    settings: ShiftSettings,
    seed: int,
    fold: int,
) -> tuple[TrainingReference, Array]:
    """Fit the train part, still without cal patients; also return its patients' distances."""
    train_bags = _train_bags(bagged, train, unit_by_slide, settings["clusters"], seed, fold)
    table_genes = fold_rows.gene_names(inputs.expression)
    gene_index = {gene: index for index, gene in enumerate(table_genes)}
    missing = [gene for gene in genes if gene not in gene_index]
    if missing:
        cause = f"the model's gene {missing[0]} is missing"
        raise StageError(inputs.expression, cause, "use the expression table of its training")
    _, first_rows = np.unique(train.sample_ids, return_index=True)
    samples = [train.sample_ids[row] for row in first_rows]
    columns = [gene_index[gene] for gene in genes]
    values = fold_rows.read_expression_matrix(inputs.expression, samples)[:, columns]
    mean, sd = statistics.gene_statistics(values, samples)
    components, precision = principal(values, mean, sd, settings["components"])
    about = {"genes": genes, "encoder": bagged.encoder, "fold": fold}
    training = TrainingReference(
        train_bags.mean,
        train_bags.scale,
        train_bags.z[train_bags.reference_rows],
        mean,
        sd,
        components.astype(np.float32),
        precision,
        NONE,
        NONE,
        NONE,
        about,
        train_bags.scaling,
    )
    slides = _one_slide_per_unit(train, unit_by_slide, seed)
    return training, train_bags.distances_to_others(slides)


def _train_bags(
    bagged: bag_file.Bags,
    train: fold_rows.FoldRows,
    unit_by_slide: dict[str, str],
    max_clusters: int,
    seed: int,
    fold: int,
) -> TrainBags:
    scaling = statistics.fit_scale(bagged, train.bag)
    if scaling is not None:
        bagged = replace(bagged, means=scaling.prepare_array(bagged.means))
    mean, scale = statistics.feature_statistics(bagged.means, bagged.sizes, train.bag)
    sizes = bagged.sizes[train.bag]
    occupied = sizes > 0
    slides = np.repeat(train.slide_ids, occupied.sum(axis=1))
    reference_rows = np.arange(len(slides))
    if len(reference_rows) > max_clusters:
        rng = seeds.rng_for(seed, "shift", fold)
        reference_rows = np.sort(rng.choice(reference_rows, max_clusters, replace=False))
    z = np.empty((len(slides), bagged.means.shape[2]), np.float16)
    ends = occupied.sum(axis=1).cumsum()
    for row, slide_occupied, stop in zip(train.bag, occupied, ends, strict=True):
        slide_means = bagged.means[row][slide_occupied]
        z[stop - len(slide_means) : stop] = reference.standardise(slide_means, mean, scale)
    units = np.array([unit_by_slide[slide] for slide in slides])
    return TrainBags(z, sizes[occupied], slides, units, reference_rows, mean, scale, scaling)


def principal(values: Array, mean: Array, sd: Array, count: int) -> tuple[Array, Array]:
    """Return leading principal components of standardised profiles, and their scores' precision.

    Parameters
    ----------
    values : (n, G) log2(x+1), a row per train sample.
    mean, sd : (G,)
    count : maximum number of components; at most half the number of samples.

    Returns
    -------
    components : (K, G), orthonormal.
    precision : (K, K) inverse of the scores' covariance, shrunk to a multiple of the identity
        (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4): with few samples the smallest
        variances are underestimated, and their inverses would dominate the distance.
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


def _p_values(values: Array, units: NDArray[np.str_], cal: NDArray[np.bool_]) -> list[float | None]:
    """Return a p-value per slide; a cal slide is compared with the other cal patients."""
    cal = cal & np.isfinite(values)
    return [
        p_value(float(value), values[cal & (units != unit)])
        for value, unit in zip(values, units, strict=True)
    ]
