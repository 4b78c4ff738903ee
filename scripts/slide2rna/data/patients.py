"""Patients and samples of a cohort and its parts: measured expression, one row per sample.

A sample is a row of the expression table: a patient in ordinary cohorts, a region if the split
unit is smaller than a patient. Slides of one sample count as one: their point predictions are
averaged, and their draws are pooled as a mixture with equal shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slide2rna.core import files, seeds
from slide2rna.core.errors import StageError
from slide2rna.core.types import Array
from slide2rna.features import bag_file
from slide2rna.storage import parquet, split_file


@dataclass(frozen=True)
class Cohort:
    """Data of a cohort that all folds share.

    Attributes
    ----------
    genes : G gene names.
    truth : (N, G) float32 measured log2(x+1).
    row : row of each sample in `truth`.
    slides : slide_id, patient_id, sample_id, unit, site; only slides with a measured sample.
    splits : unit, fold, part.
    bags : bags of all slides.
    info : cohort.json.
    """

    genes: list[str]
    truth: NDArray[np.float32]
    row: dict[str, int]
    slides: pl.DataFrame
    splits: pl.DataFrame
    bags: bag_file.Bags
    info: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """The slides of one part of a fold and their samples.

    Attributes
    ----------
    slide_ids : S slides.
    units : (S,) split unit per slide.
    sites : (S,) site per slide, or None.
    bags : the cohort's bags.
    bag_rows : (S,) rows in the bags.
    samples : n sample names, sorted.
    patient_ids : (n,) patient of each sample.
    pool : (n, S) shares that average slides to samples; each row sums to 1.
    truth : (n, G) float32.
    """

    slide_ids: list[str]
    units: list[str]
    sites: list[str | None]
    bags: bag_file.Bags
    bag_rows: NDArray[np.int64]
    samples: list[str]
    patient_ids: list[str]
    pool: NDArray[np.float32]
    truth: NDArray[np.float32]

    @property
    def n_patients(self) -> int:
        """Number of patients, which is below the number of samples if a patient has several."""
        return len(set(self.patient_ids))

    def slide_truth(self) -> NDArray[np.float32]:
        """Return the measured expression of each slide's sample (S, G)."""
        return np.asarray(self.spread(self.truth))

    def average(self, values: Array) -> Array:
        """Average slide rows (S, ...) to sample rows (n, ...)."""
        return self.pool @ values

    def spread(self, values: Array) -> Array:
        """Repeat sample rows (n, ...) for their slides (S, ...)."""
        return values[self.pool.argmax(axis=0)] if self.slide_ids else values[:0]

    def first_slide(self) -> NDArray[np.int64]:
        """Return the column of each sample's first slide (n,)."""
        return self.pool.argmax(axis=1) if self.slide_ids else np.empty(0, dtype=np.int64)

    def sample_sites(self) -> list[str | None]:
        """Return the site of each sample (n,), that of its first slide."""
        return [self.sites[column] for column in self.first_slide()]


def one_row_per_patient(
    patient_ids: Sequence[str], seed: int, *stream: int | str
) -> NDArray[np.int64]:
    """Pick one row per owner, in the order of first rows; draw one if an owner has several.

    Patients are exchangeable, but rows of different patients are not; drawing one row per patient
    gives exchangeable scores (Dunn et al. 2023, doi:10.1080/01621459.2022.2060112).
    """
    rows: dict[str, list[int]] = {}
    for row, owner in enumerate(patient_ids):
        rows.setdefault(owner, []).append(row)
    chosen = [
        choices[int(seeds.rng_for(seed, *stream, owner).integers(len(choices)))]
        for owner, choices in rows.items()
    ]
    return np.array(chosen, dtype=np.int64)


def load_cohort(
    genes: Sequence[str],
    bag_path: Path,
    expression_path: Path,
    slides_path: Path,
    splits_path: Path,
    cohort_path: Path,
) -> Cohort:
    """Read the data that all folds share.

    Raises
    ------
    StageError
        The expression table lacks genes of the model, or no slide has a measured sample.
    """
    columns = set(parquet.read_names(expression_path))
    missing = [gene for gene in genes if gene not in columns]
    if missing:
        raise StageError(
            expression_path,
            f"{len(missing)} of the model's {len(genes)} genes are missing ({missing[0]} ...)",
            "evaluate with the expression table that the model was trained on",
        )
    table = parquet.read(expression_path, columns=["sample_id", *genes])
    truth = table.drop("sample_id").to_numpy().astype(np.float32)
    measured = np.isfinite(truth).all(axis=1)
    names = [name for name, ok in zip(table["sample_id"], measured, strict=True) if ok]
    slides = parquet.read(slides_path).filter(pl.col("sample_id").is_in(names))
    if slides.is_empty():
        raise StageError(
            slides_path, "no slide has measured expression", "check sample_id in both tables"
        )
    return Cohort(
        genes=list(genes),
        truth=truth[measured],
        row={name: index for index, name in enumerate(names)},
        slides=slides.sort("slide_id"),
        splits=split_file.read(splits_path),
        bags=bag_file.load(bag_path),
        info=files.read_json(cohort_path),
    )


def make_part(cohort: Cohort, slides: pl.DataFrame) -> Part:
    """Return the slides (rows of `Cohort.slides`) that have a bag, with their samples."""
    in_bags = {slide: row for row, slide in enumerate(cohort.bags.slide_ids)}
    slides = slides.filter(pl.col("slide_id").is_in(list(in_bags)))
    samples = sorted(set(slides["sample_id"]))
    owner = dict(slides.select("sample_id", "patient_id").iter_rows())
    position = {sample: index for index, sample in enumerate(samples)}
    pool = np.zeros((len(samples), slides.height), dtype=np.float32)
    for column, sample in enumerate(slides["sample_id"]):
        pool[position[sample], column] = 1.0
    pool /= np.maximum(pool.sum(axis=1, keepdims=True), 1.0)
    return Part(
        slide_ids=list(slides["slide_id"]),
        units=list(slides["unit"]),
        sites=list(slides["site"]),
        bags=cohort.bags,
        bag_rows=np.array([in_bags[slide] for slide in slides["slide_id"]], dtype=np.int64),
        samples=samples,
        patient_ids=[owner[sample] for sample in samples],
        pool=pool,
        truth=cohort.truth[np.array([cohort.row[sample] for sample in samples], dtype=np.int64)],
    )
