"""her2st cohort: spatial transcriptomics sections cut into regions with pseudo-bulk expression.

Andersson et al. 2021 (https://doi.org/10.1038/s41467-021-26271-2): H&E sections with an array of
spots 200 um apart, each with counts per gene. A section is cut into regions of about seven
neighbouring spots; a region is a slide area, and its spots' counts are summed. All sections come
from one tumour of one patient.
"""

from __future__ import annotations

import gzip
import io as stdio
import json
import warnings
import zlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from PIL import Image
from scipy.spatial import ConvexHull

from slide2rna.cohort.expression import to_log2
from slide2rna.core.errors import SheetError
from slide2rna.core.types import Row
from slide2rna.storage.delimited import read_table

CAVEAT = "within one patient, adjacent sections: no claim about patients"
SPOT_PITCH_UM = 200.0  # centre to centre on the array (Stahl et al. 2016)
SPOTS_PER_REGION = 7
# A gene detected in fewer regions is noise at this depth; images play no part in this filter.
MIN_REGION_SHARE = 0.1
SPOT_COLUMNS = ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y")


class Section(NamedTuple):
    """One section: spots with counts, and the position of the array in the image."""

    name: str
    image: Path
    array_xy: np.ndarray  # (n, 2) measured array coordinates, spots one apart
    pixel_xy: np.ndarray  # (n, 2) level-0 px
    counts: np.ndarray  # (n, genes) int64
    genes: list[str]
    slope: np.ndarray  # (2,) px per array step
    offset: np.ndarray  # (2,) px at array coordinate 0
    unmatched: int  # spots with a position or counts, not both

    @property
    def mpp(self) -> float:
        """Micrometres per pixel, from the spot pitch (the images don't contain it)."""
        return float(SPOT_PITCH_UM / np.sqrt(self.slope.prod()))


def read_section(folder: Path, name: str) -> Section:
    """Read SECTION.counts.tsv.gz, SECTION.spots.tsv and the size of SECTION.jpg.

    Spots and counts are joined on the array coordinates rounded to whole steps (row name "XxY").

    Raises
    ------
    SheetError
        A file or column is missing, a count is not a whole number, or no spots can be joined.
    """
    spots_path, counts_path = folder / f"{name}.spots.tsv", folder / f"{name}.counts.tsv.gz"
    spots = read_table(spots_path)
    absent = [column for column in SPOT_COLUMNS if column not in spots.columns]
    if absent:
        raise SheetError(spots_path, f"column '{absent[0]}' is missing", "give the her2st files")
    try:
        spots = spots.select(pl.col(SPOT_COLUMNS).cast(pl.Float64))
        raw = gzip.decompress(counts_path.read_bytes())
        table = pl.read_csv(stdio.BytesIO(raw), separator="\t", infer_schema_length=0)
        counts = table.select(pl.all().exclude(table.columns[0]).cast(pl.UInt32).cast(pl.Int64))
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        cause = str(error).splitlines()[0]
        raise SheetError(f"{folder}/{name}", cause, "give the her2st files unchanged") from error
    rows = {spot: row for row, spot in enumerate(table[:, 0])}
    names = [f"{round(x)}x{round(y)}" for x, y in spots.select("x", "y").iter_rows()]
    if len(set(names)) < len(names) or len(rows) < table.height or sum(counts.null_count().row(0)):
        cause = "a spot occurs twice, or has no count for a gene"
        raise SheetError(f"{folder}/{name}", cause, "give the her2st files unchanged")
    matched = [index for index, spot in enumerate(names) if spot in rows]
    if len(matched) < SPOTS_PER_REGION:
        raise SheetError(
            counts_path, "its spots differ from those of the spots table", "check both"
        )
    matched_spots = spots[matched]
    array_xy, pixel_xy = (
        matched_spots.select(*pair).to_numpy()
        for pair in (("new_x", "new_y"), ("pixel_x", "pixel_y"))
    )
    fits = [np.polyfit(array_xy[:, axis], pixel_xy[:, axis], 1) for axis in (0, 1)]
    return Section(
        name=name,
        image=folder / f"{name}.jpg",
        array_xy=array_xy,
        pixel_xy=pixel_xy,
        counts=counts.to_numpy()[[rows[names[index]] for index in matched]],
        genes=counts.columns,
        slope=np.array([fit[0] for fit in fits]),
        offset=np.array([fit[1] for fit in fits]),
        unmatched=len(names) + len(rows) - 2 * len(matched),
    )


class Region(NamedTuple):
    """Neighbouring spots and their convex polygon (level-0 px)."""

    spots: np.ndarray  # indices into the section
    polygon: list[list[int]]


def cut_regions(section: Section, size_px: tuple[int, int]) -> list[Region]:
    """Cut a section into regions of about seven spots whose polygons don't overlap.

    The array is halved repeatedly along its longer side, between two rows or columns, with the
    spots divided in proportion. A region's polygon is the convex hull of its spots' 200 um
    squares, clipped to the region's cell and to the image. No random number is used.
    """
    grid = np.round(section.array_xy).astype(int)
    bounds = np.array([grid.min(axis=0) - 0.5, grid.max(axis=0) + 0.5])
    count = max(1, round(len(grid) / SPOTS_PER_REGION))
    cells = _split_cells(grid, np.arange(len(grid)), count, bounds)
    return [Region(spots, _region_polygon(section, spots, cell, size_px)) for spots, cell in cells]


def _split_cells(
    grid: np.ndarray, spots: np.ndarray, count: int, cell: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split spots into `count` groups with their cells ((2, 2): low and high x, y)."""
    if count <= 1:
        return [(spots, cell)]
    coordinates = grid[spots]
    axes = np.argsort(-np.ptp(coordinates, axis=0), kind="stable")
    for axis in axes:
        levels = np.unique(coordinates[:, axis])
        if len(levels) < 2:
            continue
        cuts = np.array([(low + high) / 2 for low, high in pairwise(levels)])
        left = (coordinates[:, axis, None] < cuts).sum(axis=0)
        best = int(np.argmin(np.abs(left - len(spots) * (count // 2) / count)))
        share = min(max(1, round(count * int(left[best]) / len(spots))), count - 1)
        cut, low_cell, high_cell = cuts[best], cell.copy(), cell.copy()
        low_cell[1, axis] = high_cell[0, axis] = cut
        below = coordinates[:, axis] < cut
        return _split_cells(grid, spots[below], share, low_cell) + _split_cells(
            grid, spots[~below], count - share, high_cell
        )
    return [(spots, cell)]


def _region_polygon(
    section: Section, spots: np.ndarray, cell: np.ndarray, size_px: tuple[int, int]
) -> list[list[int]]:
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    points = (section.array_xy[spots][:, None] + corners).reshape(-1, 2)
    polygon = points[ConvexHull(points).vertices]
    for axis in (0, 1):
        polygon = _clip_polygon(polygon, axis, cell[0, axis], keep_above=True)
        polygon = _clip_polygon(polygon, axis, cell[1, axis], keep_above=False)
    pixels = np.round(polygon * section.slope + section.offset).astype(int)
    return np.clip(pixels, 0, np.array(size_px)).tolist()


def _clip_polygon(polygon: np.ndarray, axis: int, limit: float, keep_above: bool) -> np.ndarray:
    """Clip a convex polygon at a line parallel to an axis (Sutherland and Hodgman 1974)."""
    sign = 1.0 if keep_above else -1.0
    inside = sign * (polygon[:, axis] - limit)
    points = []
    for (start, end), (a, b) in zip(
        pairwise([*polygon, polygon[0]]), pairwise([*inside, inside[0]]), strict=True
    ):
        if a >= 0:
            points.append(start)
        if a * b < 0:
            points.append(start + (end - start) * (a / (a - b)))
    return np.array(points)


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            # Only the header is read here, and a section exceeds Pillow's size limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.size
    except (OSError, Image.DecompressionBombError) as error:
        cause = "no readable image of this section"
        raise SheetError(path, cause, "give the full-resolution JPG") from error


class Her2st(NamedTuple):
    """Cohort of regions: slide rows, expression, and dropped spots."""

    slides: pl.DataFrame
    expression: pl.DataFrame
    dropped: list[Row]


def read_her2st(folder: str | Path) -> Her2st:
    """Build the cohort of regions from a folder with SECTION.jpg, .counts.tsv.gz and .spots.tsv.

    Genes are those that every section has and that at least a tenth of the cohort's regions
    detect. Counts are summed over a region's spots and become log2(CPM+1), CPM over all genes of
    the section.

    Returns
    -------
    Her2st
        slides: slide_id (SECTION-rNN), patient_id, sample_id, section, site, path (in the folder),
        mpp, area;
        expression: sample_id, float32 per gene; dropped: slide_id, patient_id, reason.

    Raises
    ------
    SheetError
        The folder or one of a section's files is missing or unreadable.
    """
    folder = Path(folder).absolute()
    names = sorted(path.name.removesuffix(".spots.tsv") for path in folder.glob("*.spots.tsv"))
    if not names:
        raise SheetError(
            folder, "no SECTION.spots.tsv in this folder", "set path to the her2st folder"
        )
    rows, blocks, dropped = [], [], []
    for name in names:
        section = read_section(folder, name)
        patient = f"HER2ST-{name.rstrip('0123456789')}"
        size_px = _image_size(section.image)
        if section.unmatched:
            reason = f"{section.unmatched} spots lack a position or counts"
            dropped.append({"slide_id": name, "patient_id": patient, "reason": reason})
        regions = cut_regions(section, size_px)
        ids = [f"{name}-r{number:02d}" for number in range(1, len(regions) + 1)]
        rows += [
            {
                "slide_id": region_id,
                "patient_id": patient,
                "sample_id": region_id,
                "section": name,
                "path": section.image.name,
                "mpp": round(section.mpp, 4),
                "area": json.dumps(region.polygon),
            }
            for region_id, region in zip(ids, regions, strict=True)
        ]
        sums = np.stack([section.counts[region.spots].sum(axis=0) for region in regions])
        values = to_log2(section.image, ids, sums, "counts").astype(np.float32)
        columns = {gene: values[:, column] for column, gene in enumerate(section.genes)}
        blocks.append(pl.DataFrame({"sample_id": ids} | columns))
    shared = set.intersection(*(set(block.columns) for block in blocks)) - {"sample_id"}
    table = pl.concat([block.select("sample_id", *sorted(shared)) for block in blocks])
    shares = table.select((pl.col(sorted(shared)) > 0).mean()).row(0, named=True)
    genes = [gene for gene, share in shares.items() if share >= MIN_REGION_SHARE]
    return Her2st(pl.DataFrame(rows), table.select("sample_id", *genes).sort("sample_id"), dropped)
