"""Slide identity: one physical slide is one slide, whatever its files are called.

A DICOM slide is a folder of files, each of which opens the whole slide. OpenSlide's quickhash is
the same for all of them, and for a copy under another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import openslide

from slide2rna.core.errors import SlideError
from slide2rna.core.rows import CheckedSlideRow
from slide2rna.storage import parquet
from slide2rna.storage.stamps import slide_stamp

QUICKHASH = "openslide.quickhash-1"


class Identity(TypedDict):
    """Columns of the slide table that identify a file: OpenSlide's hash, and the file's stamp."""

    quickhash: str | None
    stamp: str | None


UNKNOWN: Identity = {"quickhash": None, "stamp": None}


def quickhash(path: str | Path) -> str | None:
    """Return OpenSlide's quickhash of a slide; None if OpenSlide has none or doesn't read it."""
    try:
        with openslide.OpenSlide(path) as slide:
            return slide.properties.get(QUICKHASH)
    except (openslide.OpenSlideError, OSError):
        return None


def slide_file(path: Path) -> Path:
    """Return a slide's file: the path itself, or one file of a folder that is one DICOM slide.

    Raises
    ------
    SlideError
        The folder has other files than DICOM's, or those of several slides.
    """
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    parts = [file for file in files if file.suffix.lower() in (".dcm", ".dicom", "")]
    if not parts or len(parts) != len(files):
        remedy = "give its files one by one, such as *.svs"
        raise SlideError(path, "is a folder, and not one DICOM slide", remedy)
    hashes = {file: found for file in parts if (found := quickhash(file))}
    if not hashes:
        raise SlideError(
            path, "OpenSlide reads none of the folder's files", "check its DICOM files"
        )
    if len(set(hashes.values())) > 1:
        cause = f"the folder has files of {len(set(hashes.values()))} slides"
        raise SlideError(path, cause, "give a folder per slide, or one file of each slide")
    return min(hashes)


def checked_slides(shard: str | Path, folder: Path) -> list[CheckedSlideRow]:
    """Return the rows of a shard's slide table in the order of their ids, with whole paths.

    Paths of the table are relative to `folder`, so that a copied project reads its own slides.
    """
    rows: Iterator[Any] = parquet.read(shard).sort("slide_id").iter_rows(named=True)
    return [UNKNOWN | row | {"path": row["path"] and str(folder / row["path"])} for row in rows]


def has_changed(row: CheckedSlideRow) -> bool:
    """Return whether a slide's file is missing, or another one than was checked."""
    if row["path"] is None:
        return False
    return not Path(row["path"]).is_file() or row["stamp"] not in (None, slide_stamp(row["path"]))


def check_unchanged(row: CheckedSlideRow) -> None:
    """Raise SlideError if a slide's file is another one than was checked."""
    if row["path"] is not None and Path(row["path"]).is_file() and has_changed(row):
        cause = "the file has changed since it was checked"
        raise SlideError(row["path"], cause, "run the same command again: it is checked first")
