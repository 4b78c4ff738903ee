"""A training and a test cohort on disk, and what the fold models of one say of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import synthetic_cohort
import zarr
from slide2rna.core import files
from slide2rna.storage import parquet
from slide2rna.studies.external import external

FOLDS, GENES, DRAWS = 3, 120, 8


@dataclass(frozen=True)
class Pair:
    """Two cohorts; `points` and `draws` are by slide of the test cohort, then fold model."""

    train: synthetic_cohort.Synthetic
    test: synthetic_cohort.Synthetic
    inputs: external.ExternalInputs
    points: dict[str, list[np.ndarray]]


def make(folder: Path, draws: int = DRAWS, color: bool = True, missing: int = 0) -> Pair:
    """Write both cohorts and the fold models' files for the slides of the test cohort.

    A fold model's point is the test cohort's true mean with noise of its own, and its draws lie
    around its point.

    Parameters
    ----------
    draws
        Per fold model and slide; 0 for models of points alone.
    missing
        Number of genes (the last ones, which are predicted best) that the test cohort lacks.
    """
    size = {"genes": GENES, "folds": FOLDS, "draws": 2}
    train = synthetic_cohort.make(folder / "A", patients=60, color=color, **size)
    test = synthetic_cohort.make(folder / "B", patients=40, color=color, seed=8, **size)
    rename(test.folder, "P", "Q")
    table = pl.read_parquet(test.inputs.expression)
    if missing:
        parquet.write(table.select(table.columns[:-missing]), test.inputs.expression)
    splits = folder / "B/external/A/splits.tsv"
    external.write_test_split(test.inputs.slides, FOLDS, splits)
    slides = pl.read_parquet(test.inputs.slides).sort("slide_id")
    patient = {name: row for row, name in enumerate(table["sample_id"])}
    mean = test.conditional_mean[[patient[name] for name in slides["sample_id"]]]
    genes = [f"GENE{i:04d}" for i in range(GENES)]
    points: dict[str, list[np.ndarray]] = {}
    paths = []
    for fold in range(FOLDS):
        rng = np.random.default_rng(fold)
        point = (mean + 0.3 * rng.normal(size=mean.shape)).astype(np.float32)
        order = rng.permutation(slides.height)  # no file may count on another's order
        path = folder / f"B/external/A/{synthetic_cohort.RUN}/fold-{fold}.zarr"
        names = [slides["slide_id"][int(i)] for i in order]
        sample = point[order][:, None] + test.noise_sd * rng.normal(size=(len(names), draws, GENES))
        arrays = {"point": point[order]}
        if draws:
            arrays |= {"draws": sample.astype(np.float16)}
            arrays |= {"point_spread": np.full(point.shape, 0.05, np.float32)}
        write(path, names, genes, fold, arrays)
        paths.append(path)
        for name, value in zip(slides["slide_id"], point, strict=True):
            points.setdefault(name, []).append(value)
    inputs = external.ExternalInputs(
        train=train.folder,
        test=test.folder,
        encoder=synthetic_cohort.ENCODER,
        draws=train.inputs.draws,
        external=paths,
        splits=splits,
        pathways=train.inputs.pathways,
    )
    return Pair(train, test, inputs, points)


def write(
    path: Path, slides: list[str], genes: list[str], fold: int, arrays: dict[str, np.ndarray]
) -> None:
    """A fold model's file as the stage sample leaves it."""
    store = zarr.open_group(path, mode="w")
    for name, values in arrays.items():
        chunks = (1, *values.shape[1:])
        array = store.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
        array[:] = values
    parts = ["test"] * len(slides)
    store.attrs.update({"slide_ids": slides, "parts": parts, "genes": genes, "fold": fold})
    store.attrs.update({"model": "flow", "guidance": 1.0})


def rename(folder: Path, old: str, new: str) -> None:
    """Give a cohort patients of its own; slides keep their names' ends."""
    slides = pl.read_parquet(folder / "slides.parquet")
    ids = pl.col("slide_id", "patient_id", "sample_id", "unit").str.replace(f"^{old}", new)
    parquet.write(slides.with_columns(ids), folder / "slides.parquet")
    table = pl.read_parquet(folder / "expression.parquet")
    own = table.with_columns(pl.col("sample_id").str.replace(f"^{old}", new))
    parquet.write(own, folder / "expression.parquet")
    from slide2rna.features import bag_file

    path = folder / f"bags/{synthetic_cohort.ENCODER}.safetensors"
    found = bag_file.load(path)
    ids = [new + slide.removeprefix(old) for slide in found.slide_ids]
    bag_file.save(replace(found, slide_ids=ids), path)
    info = files.read_json(folder / "cohort.json")
    files.write_json(info | {"name": f"synthetic-{new}"}, folder / "cohort.json")
