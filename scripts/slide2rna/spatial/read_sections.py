"""Sections of a spatial cohort from a table, a HEST-1k folder, or the her2st layout.

Each source gives the same: image, spots and counts of every section, checked against the image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core.errors import SheetError
from slide2rna.core.files import is_plain_name
from slide2rna.core.log import log
from slide2rna.core.types import Mpp, Um
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tissue import tissue_mask
from slide2rna.spatial import graph, read_spots
from slide2rna.spatial.section import Measured, Section, checked
from slide2rna.storage.delimited import raise_for_rows, read_table

COLUMNS = ("section", "patient", "image", "counts")
OPTIONAL = ("spots", "scale", "pitch_um")
OVERVIEW_UM = 8.0
# Layout of HEST-1k: https://huggingface.co/datasets/MahmoodLab/hest
HEST = ("st", "wsis", "metadata")


@dataclass(frozen=True)
class Source:
    """Files of one section.

    Attributes
    ----------
    section, patient : ids.
    image : the slide or image.
    counts : a delimited table, an .h5ad file, or Space Ranger's folder `outs`.
    spots : table of positions, for counts in a delimited table.
    scale : positions are multiplied by it, for an image of another size than they were made on.
    pitch_um : distance of neighbouring spots; None takes that of the file.
    """

    section: str
    patient: str
    image: Path
    counts: Path
    spots: Path | None = None
    scale: float = 1.0
    pitch_um: Um | None = None


def from_table(path: str | Path) -> list[Source]:
    """Return the sections of a table with columns section, patient, image, counts.

    Optional columns are spots, scale and pitch_um. Paths are relative to the table.

    Raises
    ------
    SheetError
        A column is missing, an id is empty, unsafe or repeated, or a number isn't one.
    """
    path = Path(path)
    table = read_table(path)
    if absent := [name for name in COLUMNS if name not in table.columns]:
        cause = f"column '{absent[0]}' is missing"
        raise SheetError(path, cause, f"the table needs {', '.join(COLUMNS)}")
    for name in COLUMNS:
        empty = table.filter(pl.col(name) == "")
        raise_for_rows(path, empty, f"{name} is empty", f"give every row a {name}")
    bad = [not is_plain_name(name) for name in table["section"]]
    raise_for_rows(path, table.filter(pl.Series(bad)), "section can't be a file name", "rename it")
    repeated = table.filter(pl.col("section").is_duplicated())
    raise_for_rows(path, repeated, "a section occurs twice", "give each section one row")
    table = table.with_columns(
        pl.lit("").alias(name) for name in OPTIONAL if name not in table.columns
    )
    numbers = {}
    for name in ("scale", "pitch_um"):
        numbers[name] = table[name].replace("", None).cast(pl.Float64, strict=False)
        wrong = table.filter((pl.col(name) != "") & ~(numbers[name] > 0).fill_null(False))
        raise_for_rows(
            path, wrong, f"{name} isn't a positive number", "give one, or leave it empty"
        )
    return [
        Source(
            *(row["section"], row["patient"]),
            image=path.parent / row["image"],
            counts=path.parent / row["counts"],
            spots=path.parent / row["spots"] if row["spots"] else None,
            scale=scale or 1.0,
            pitch_um=pitch,
        )
        for row, scale, pitch in zip(table.rows(named=True), *numbers.values(), strict=True)
    ]


def from_her2st(folder: str | Path) -> list[Source]:
    """Return the sections of Andersson et al. 2021 that have an image; its letter is the patient.

    Raises
    ------
    SheetError
        The folder has no section with counts, spots and image.
    """
    folder = Path(folder)
    found = []
    for spots in sorted(folder.glob("*.spots.tsv")):
        name = spots.name.removesuffix(".spots.tsv")
        image, counts = folder / f"{name}.jpg", folder / f"{name}.counts.tsv.gz"
        if image.is_file() and counts.is_file():
            patient = name.rstrip("0123456789")
            found.append(Source(name, patient, image, counts, spots, 1.0, read_spots.HER2ST_PITCH))
        else:
            log.info("%s: section %s has no image or no counts and is left out", folder, name)
    if not found:
        cause = "no SECTION.spots.tsv with .jpg and .counts.tsv.gz in this folder"
        raise SheetError(folder, cause, "set path to the her2st folder")
    return found


def from_hest(folder: str | Path) -> list[Source]:
    """Return the samples of a HEST-1k folder: st/<id>.h5ad, wsis/<id>.tif, metadata/<id>.json.

    Raises
    ------
    SheetError
        A sample lacks its image or its metadata, or these don't name the patient.
    """
    folder = Path(folder)
    found = []
    for counts in sorted((folder / HEST[0]).glob("*.h5ad")):
        image, about = folder / HEST[1] / f"{counts.stem}.tif", folder / HEST[2]
        metadata = about / f"{counts.stem}.json"
        for path in (image, metadata):
            if not path.is_file():
                raise SheetError(path, "is missing", "download it, or remove the sample")
        facts = json.loads(metadata.read_text(encoding="utf-8"))
        patient = facts.get("patient") or facts.get("subseries")
        if not patient:
            cause = "names no patient, so sections of one patient could be split"
            raise SheetError(
                metadata, cause, "add the key patient, or list the sections in a table"
            )
        pitch = facts.get("inter_spot_dist")
        found.append(
            Source(counts.stem, str(patient), image, counts, pitch_um=pitch and float(pitch))
        )
    if not found:
        raise SheetError(folder, "no st/*.h5ad in this folder", "give HEST-1k's folder")
    return found


def read(sources: list[Source]) -> Iterator[Section]:
    """Read each section, and check it against its image.

    Raises
    ------
    SheetError, SlideError
        One line that names the section or file, and the remedy.
    """
    for source in sources:
        measured = _read_measured(source)
        for reason in measured.dropped:
            log.info("%s: %s", source.section, reason)
        xy = measured.pixel_xy * source.scale
        pitch = source.pitch_um or measured.pitch_um
        if pitch is None:
            cause = "the distance of neighbouring spots is unknown"
            raise SheetError(
                source.section, cause, "give pitch_um, such as 200 (ST) or 100 (Visium)"
            )
        mpp = _mpp(measured, xy, pitch)
        with open_slide(source.image, mpp) as slide:
            rgb, downsample = slide.overview(OVERVIEW_UM)
            tissue, size = tissue_mask(rgb, mpp * downsample), slide.size
        section = Section(
            *(source.section, source.patient, source.image, measured.genes, measured.counts),
            *(measured.spot_ids, xy, measured.array_xy, pitch, mpp),
        )
        yield checked(section, size, tissue)


def _mpp(measured: Measured, xy: np.ndarray, pitch: Um) -> Mpp:
    """Return µm per pixel from the spots: of a square array by a fit to all spots."""
    array = measured.array_xy
    if array is None:
        return pitch / graph.pitch(xy)
    slopes = [np.polyfit(array[:, axis], xy[:, axis], 1)[0] for axis in (0, 1)]
    steps = abs(slopes[0] / slopes[1]) if slopes[1] else 0.0
    # On a hexagonal array a step is no pitch; there the nearest spots say it.
    return pitch / (float(np.sqrt(abs(np.prod(slopes)))) if 0.9 < steps < 1.1 else graph.pitch(xy))


def _read_measured(source: Source) -> Measured:
    # Readers of single formats import much; a cohort needs one of them.
    counts = source.counts
    if not counts.exists():
        raise SheetError(counts, "no such file or folder", "fix the path")
    if counts.is_dir():
        from slide2rna.spatial import read_space_ranger

        return read_space_ranger.read(counts)
    if counts.suffix == ".h5ad":
        from slide2rna.spatial import read_anndata

        return read_anndata.read(counts)
    if source.spots is None:
        raise SheetError(source.section, "counts in a table need a table of spots", "give spots")
    return read_spots.read(counts, source.spots)
