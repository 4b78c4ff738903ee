"""Provided features of a shard's slides: h5 files of a lab, or a table of slide vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna import STEP_VERSIONS
from slide2rna.core.errors import ConfigError, SlideError, StageError
from slide2rna.core.log import log, progress
from slide2rna.core.settings import FeaturesSettings
from slide2rna.features import encoder_specs
from slide2rna.features.extract import failed_row, ok_row, write_manifest
from slide2rna.features.feature_file import Features, read, read_attributes, slide_vector, write
from slide2rna.features.stated_facts import encoder_name
from slide2rna.slides.failures import within_memory
from slide2rna.storage import parquet
from slide2rna.storage.stamps import Stamps, sample

KEYS = ("slide_id", "patient_id", "sample_id", "site", "encoder")

Reader = Callable[[str], tuple[Features, dict[str, Any]]]


def check_level(features: FeaturesSettings) -> None:
    """Refuse one vector per slide of an encoder, which gives one per tile."""
    if features["level"] == "slide" and features["encoder"] != "files":
        cause = f"encoder {features['encoder']} makes features of tiles, not of slides"
        raise ConfigError("features.level: slide", cause, "use encoder: files, or level: tile")


def check_provided_features(
    shard: Path,
    source: Path,
    out: Path,
    manifest: Path,
    level: str = "tile",
    planned: Path | None = None,
) -> pl.DataFrame:
    """Check the user's features of each slide and write them in this layout (encoder ``files``).

    Parameters
    ----------
    source
        A folder of <slide_id>.h5; or, with level `slide`, a table (Parquet, CSV or TSV) with a
        column slide_id and a numeric column per feature.
    level
        `tile` or `slide`: features of each tile, or one vector for each slide.
    planned
        Stamps of the files when the run was planned (`storage.stamps`); a file that has changed
        since fails.

    Raises
    ------
    StageError
        The files' features differ in length, or name different encoders; or the table is wrong.
    """
    read_slide = _table_reader(source) if level == "slide" and source.is_file() else None
    known = Stamps(planned, trusted=True) if planned else None
    read_slide = read_slide or _folder_reader(source, level, known)
    rows = []
    encoders: dict[str, str] = {}
    slides = parquet.read(shard).sort("slide_id")
    for row in progress(slides.iter_rows(named=True), "features", slides.height):
        slide_id = row["slide_id"]
        if row["status"] != "ok":
            rows.append(failed_row(slide_id, row["reason"]))
            continue
        try:
            with within_memory(slide_id):
                features, attributes = read_slide(slide_id)
        except SlideError as error:
            log.warning("%s failed: %s", slide_id, error)
            rows.append(failed_row(slide_id, error.reason))
            continue
        if features.encoder is not None:
            encoders[features.encoder] = slide_id
        attributes |= {"encoder": "files", "version": STEP_VERSIONS["features"]}
        if level == "slide":
            attributes["feat_type"] = level
        write(out / f"{slide_id}.h5", features, attributes)
        rows.append(ok_row(slide_id, len(features.coords), 0, features.features.shape[1]))
    lengths = {row["dim"]: row["slide_id"] for row in rows if row["status"] == "ok"}
    if len(lengths) > 1:
        raise StageError(
            source,
            "features of different length: "
            + ", ".join(f"{name} has {dim}" for dim, name in sorted(lengths.items())),
            "use one encoder for all slides",
        )
    if len(encoders) > 1:
        raise StageError(
            source,
            "features of different encoders: "
            + ", ".join(f"{slide} is of {name}" for name, slide in sorted(encoders.items())),
            "use one encoder for all slides",
        )
    for name in encoders:
        spec = encoder_specs.terms(name)
        for dim in lengths:
            if spec is not None and spec.dim not in (None, dim):
                log.warning(
                    "%s: features of %s have %d numbers, and %d by its publishers' rule; give new "
                    "slides the same",
                    *(source, name, dim, spec.dim),
                )
    return write_manifest(rows, manifest)


def _folder_reader(source: Path, level: str, known: Stamps | None) -> Reader:
    """Return a reader of <slide_id>.h5 and the attributes to copy."""

    def read_slide(slide_id: str) -> tuple[Features, dict[str, Any]]:
        path = source / f"{slide_id}.h5"
        planned = known and known.known_sample(path)
        if planned and path.is_file() and sample(path) != planned:
            cause = "the file has changed since the run was planned"
            raise SlideError(path, cause, "run the same command again")
        features, stated = read(path, level), read_attributes(path)
        copied = ("mpp", "tile_px")
        attributes: dict[str, Any] = {key: stated[key] for key in copied if key in stated}
        if features.mpp is not None:
            attributes["mpp"] = features.mpp
        if features.encoder is not None:
            attributes["made_by"] = features.encoder
        return features, attributes

    return read_slide


def _read_table(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return parquet.read_foreign(path)
    if path.suffix not in (".csv", ".tsv"):
        raise ValueError(f"its name ends with '{path.suffix}'")
    separator = "\t" if path.suffix == ".tsv" else ","
    return pl.read_csv(
        path,
        separator=separator,
        schema_overrides={"slide_id": pl.String},
        infer_schema_length=None,
        null_values=["NA", "NaN", "nan"],
    )


def _table_reader(source: Path) -> Reader:
    """Return a reader of the rows of a table with one vector per slide.

    Raises
    ------
    StageError
        The table can't be read, has no column slide_id, names a slide twice, or has a column that
        isn't a number.
    """
    columns = "a column slide_id and a column of numbers per feature"
    try:
        table = _read_table(source)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        cause = f"not a readable Parquet, CSV or TSV table ({error})"
        raise StageError(source, cause, f"give {columns}") from error
    if "slide_id" not in table.columns:
        raise StageError(source, f"no column slide_id among {table.columns[:5]} ...", columns)
    repeated = table.filter(pl.col("slide_id").is_duplicated())["slide_id"]
    if len(repeated):
        raise StageError(source, f"slide {repeated[0]} occurs twice", "keep one row per slide")
    numbers = table.drop(KEYS, strict=False)
    # A column without any value has no type; its train median is 0.
    empty = [name for name in numbers.columns if numbers[name].null_count() == table.height]
    numbers = numbers.with_columns(pl.col(empty).cast(pl.Float32))
    wrong = [name for name in numbers.columns if not numbers[name].dtype.is_numeric()]
    if wrong or not numbers.width:
        cause = f"column '{wrong[0]}' isn't numeric" if wrong else "no column of features"
        raise StageError(source, cause, f"give {columns}; an empty cell is a missing value")
    values = numbers.cast(pl.Float32).fill_null(np.nan).to_numpy()
    row_of = {str(name): row for row, name in enumerate(table["slide_id"])}
    encoder: list[str | None] = [None] * table.height
    if "encoder" in table.columns and table["encoder"].dtype == pl.String:
        encoder = [encoder_name(name, "slide") for name in table["encoder"]]
    log.info("%s: %d features of %d slides", source, numbers.width, table.height)

    def read_slide(slide_id: str) -> tuple[Features, dict[str, Any]]:
        if slide_id not in row_of:
            raise SlideError(f"{source}: {slide_id}", "no row in the table", "add its features")
        row = row_of[slide_id]
        vector = slide_vector(f"{source}: {slide_id}", values[row])
        made_by = {} if encoder[row] is None else {"made_by": encoder[row]}
        return replace(vector, encoder=encoder[row]), made_by

    return read_slide
