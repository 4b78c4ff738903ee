"""Table rows that several rooms share, by column; a test compares them with the schemas."""

from __future__ import annotations

from typing import TypedDict

import polars as pl


class SlideRow(TypedDict):
    """A row of slides.parquet."""

    slide_id: str
    patient_id: str
    sample_id: str
    unit: str
    site: str | None
    path: str | None
    url: str | None
    md5: str | None
    size: int | None
    mpp: float | None
    area: str | None
    split: str | None


class CheckedSlideRow(SlideRow):
    """A row of a shard's slides/shard-<i>.parquet: the slide, and the check of its file."""

    status: str
    reason: str | None
    quickhash: str | None
    stamp: str | None


class TilesRow(TypedDict):
    """A row of a shard's tiles/shard-<i>.parquet; columns after `reason` are None if it failed."""

    slide_id: str
    status: str
    reason: str | None
    mpp: float | None
    mpp_source: str | None
    mpp_note: str | None
    power: float | None
    vendor: str | None
    width_px: int | None
    height_px: int | None
    n_candidates: int | None
    n_tissue: int | None
    n_tiles: int | None


class FeaturesRow(TypedDict):
    """A row of a shard's features/<encoder>/shard-<i>.parquet; counts are None if it failed."""

    slide_id: str
    status: str
    reason: str | None
    n_tiles: int | None
    n_rejected: int | None
    dim: int | None


class FailedSlide(TypedDict):
    """A slide that failed in a stage."""

    slide: str
    stage: str
    reason: str


class SummaryRow(TypedDict, total=False):
    """A row of evaluation/<run>/summary.parquet; missing keys are null in the table."""

    protocol: str
    model: str
    gene_set: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n_patients: int
    n_samples: int
    n_genes: int
    note: str | None


# Columns of a fold's search.parquet.
SEARCH_STEPS = {
    "step": pl.String,
    "configuration": pl.Int64,
    "settings": pl.String,
    "epochs": pl.Int64,
    "best_epoch": pl.Int64,
    "val_loss": pl.Float64,
    "seconds": pl.Float64,
    "chosen": pl.Boolean,
}
