"""Training record: digests of the slides and patients that a fold's model has seen.

Names may identify patients and must not leave the lab with a model. A digest is enough to recognise
a slide or a patient by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import polars as pl

from slide2rna.storage import parquet

FILE = "training_record.parquet"


def digest(kind: Literal["slide", "patient"], name: str) -> str:
    """Return a digest of a slide's or patient's name."""
    return hashlib.sha256(f"{kind} {name}".encode()).hexdigest()[:24]


def write(folder: Path, seen: Iterable[tuple[str, str, str]]) -> None:
    """Write the record into a model's folder.

    Parameters
    ----------
    seen
        Slide, patient and part of each slide: train, val, or the name of a partner cohort.
    """
    rows = sorted(
        (digest("slide", slide), digest("patient", patient), part) for slide, patient, part in seen
    )
    table = pl.DataFrame(rows, schema=["slide", "patient", "part"], orient="row")
    parquet.write(table, folder / FILE)


def read(folder: Path) -> pl.DataFrame | None:
    """Read slide, patient and part of a model's folder; None without a record."""
    path = folder / FILE
    return parquet.read(path) if path.is_file() else None
