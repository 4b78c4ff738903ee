"""Section of a spatial cohort: image, spots and counts, checked before anything is computed.

Positions that don't fit the image, counts that aren't counts, and spots that occur twice are the
usual faults of data that was collected from several places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from slide2rna.core.errors import SheetError, list_names
from slide2rna.core.types import Array, Mask, Mpp, Row, Um
from slide2rna.spatial import graph
from slide2rna.storage.delimited import duplicates

MIN_SPOTS = 20
MIN_ON_TISSUE = 0.5  # least share of the spots on tissue; below, positions are of another image
ENSEMBL = "ENSG"


@dataclass(frozen=True)
class Measured:
    """Spots and counts as a file has them, before an image is looked at.

    Attributes
    ----------
    genes : (G,) names.
    counts : (n, G) sparse.
    spot_ids : (n,) names.
    pixel_xy : (n, 2) centres in pixels.
    array_xy : (n, 2) coordinates on the array, or None.
    pitch_um : distance of neighbouring spots in µm, or None if the file doesn't say it.
    dropped : reasons and numbers of spots without a position or without counts.
    """

    genes: list[str]
    counts: sparse.csr_array
    spot_ids: list[str]
    pixel_xy: Array
    array_xy: Array | None = None
    pitch_um: Um | None = None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes
    ----------
    name, patient : ids.
    image : the file.
    genes : (G,) names.
    counts : (n, G) sparse, whole numbers.
    spot_ids : (n,) names of the spots.
    pixel_xy : (n, 2) centres in level-0 pixels of the image.
    array_xy : (n, 2) coordinates on the array, or None.
    pitch_um : distance of neighbouring spots in µm.
    mpp : µm per level-0 pixel of the image.
    dropped : spots that were left out, with the reason.
    """

    name: str
    patient: str
    image: Path
    genes: list[str]
    counts: sparse.csr_array
    spot_ids: list[str]
    pixel_xy: Array
    array_xy: Array | None
    pitch_um: Um
    mpp: Mpp
    dropped: list[Row] = field(default_factory=list)

    @property
    def totals(self) -> NDArray[np.int64]:
        """Counts (n,) of each spot over all genes."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.int64).ravel()

    @property
    def xy_um(self) -> Array:
        """Centres (n, 2) of the spots in µm."""
        return self.pixel_xy * self.mpp

    def keep(self, rows: Mask, reason: str) -> Section:
        """Return the section without some spots, and record why they were left out."""
        lost = [
            {"slide_id": self.name, "patient_id": self.patient, "kind": "spot", "spot": name}
            | {"reason": reason}
            for name, kept in zip(self.spot_ids, rows, strict=True)
            if not kept
        ]
        return replace(
            self,
            counts=self.counts[np.flatnonzero(rows)],
            spot_ids=[n for n, kept in zip(self.spot_ids, rows, strict=True) if kept],
            pixel_xy=self.pixel_xy[rows],
            array_xy=None if self.array_xy is None else self.array_xy[rows],
            dropped=self.dropped + lost,
        )


def mpp_of_pitch(pixel_xy: Array, pitch_um: Um) -> Mpp:
    """Return µm per pixel from the distance of neighbouring spots, where the file says nothing."""
    return pitch_um / graph.pitch(pixel_xy)


def checked(section: Section, size: tuple[int, int], tissue: Mask) -> Section:
    """Check a section against its image and drop the spots without counts or off the tissue.

    The rule looks at a spot's total and at the image, never at single genes, so that it is the
    same for a test section.

    Parameters
    ----------
    section
        As it was read.
    size
        Width and height of the image, level-0 px.
    tissue
        Tissue mask (h, w) of the image's overview.

    Raises
    ------
    SheetError
        Fewer than 20 spots; a spot or gene occurs twice; values that aren't counts; positions
        outside the image or off the tissue. One line with the remedy.
    """
    where = section.name
    for what, names in (("spot", section.spot_ids), ("gene", section.genes)):
        if twice := duplicates(names):
            cause = f"{what}s occur twice: {list_names(twice)}"
            raise SheetError(where, cause, f"give each {what} once; add up the counts of a gene")
    _check_counts(where, section.counts)
    if not np.isfinite(section.pixel_xy).all():
        raise SheetError(where, "a spot has no position", "give each spot x and y in pixels")
    _check_positions(where, section.pixel_xy, size, tissue)
    section = section.keep(section.totals > 0, "no counts")
    on_tissue = _on(section.pixel_xy, size, tissue)
    section = section.keep(on_tissue, "outside the tissue of the image")
    if len(section.spot_ids) < MIN_SPOTS:
        cause = f"{len(section.spot_ids)} spots are left, {MIN_SPOTS} are the least"
        raise SheetError(where, cause, "leave the section out")
    return section


def check_names(sections: Sequence[Section]) -> list[str]:
    """Return the genes that all sections have, in the order of the first.

    Raises
    ------
    SheetError
        Sections name genes differently: Ensembl ids in one, symbols in another.
    """
    kinds = {
        section.name: sum(gene.startswith(ENSEMBL) for gene in section.genes)
        > len(section.genes) / 2
        for section in sections
    }
    if len(set(kinds.values())) > 1:
        ensembl = [name for name, is_ensembl in kinds.items() if is_ensembl]
        symbols = [name for name, is_ensembl in kinds.items() if not is_ensembl]
        cause = f"genes are Ensembl ids in {ensembl[0]} and symbols in {symbols[0]}"
        raise SheetError("genes", cause, "name genes in one way in all sections")
    shared = set.intersection(*(set(section.genes) for section in sections))
    if not shared:
        first, second = sections[0], sections[1]
        cause = f"no gene is in all sections ({first.genes[0]} in {first.name}, {second.genes[0]}"
        raise SheetError("genes", f"{cause} in {second.name})", "name genes in one way")
    return [gene for gene in sections[0].genes if gene in shared]


def _check_counts(where: str, counts: sparse.csr_array) -> None:
    values = counts.data
    wrong = values[~np.isfinite(values) | (values < 0) | (values != np.round(values))]
    if len(wrong):
        cause = f"{wrong[0]:g} isn't a count ({len(wrong)} such values)"
        raise SheetError(where, cause, "give raw counts, such as layer counts or adata.raw")


def _check_positions(where: str, xy: Array, size: tuple[int, int], tissue: Mask) -> None:
    """Raise an error with the likely remedy if the positions are of another image."""
    inside = ((xy >= 0) & (xy < np.array(size))).all(axis=1)
    on_tissue = _on(xy, size, tissue)
    if inside.all() and on_tissue.mean() >= MIN_ON_TISSUE:
        return
    swapped = _on(xy[:, ::-1], size, tissue).mean()
    factor, share = _best_scale(xy, size, tissue)
    cause = (
        f"{on_tissue.mean():.0%} of the spots are on tissue, {(~inside).sum()} outside the image"
    )
    if swapped >= max(MIN_ON_TISSUE, share):
        remedy = f"swap x and y ({swapped:.0%} would be on tissue)"
    elif share >= MIN_ON_TISSUE and not 0.97 < factor < 1.03:
        remedy = f"scale the positions by about {factor:.3g} ({share:.0%} would be on tissue)"
    elif on_tissue.mean() >= MIN_ON_TISSUE:
        remedy = "leave out the spots outside the image"
    else:
        remedy = "check that image and positions are of the same section"
    raise SheetError(where, cause, remedy)


def _on(xy: Array, size: tuple[int, int], tissue: Mask) -> Mask:
    """Return which positions (n, 2) are on tissue; none outside the image is."""
    scale = np.array(tissue.shape[::-1]) / np.array(size)
    columns, rows = np.floor(xy * scale).astype(np.int64).T
    height, width = tissue.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    found = np.zeros(len(xy), dtype=bool)
    found[inside] = tissue[rows[inside], columns[inside]]
    return found


def _best_scale(xy: Array, size: tuple[int, int], tissue: Mask) -> tuple[float, float]:
    """Return the scale of the positions at which spots and tissue overlap best, and their share.

    Overlap is intersection over union of the tissue and of discs around the spots.
    """
    small = max(1, max(tissue.shape) // 300)
    mask = tissue[::small, ::small]
    to_mask = np.array(mask.shape[::-1]) / np.array(size)
    step = graph.pitch(xy)
    best = (0.0, 1.0, 0.0)
    for factor in np.geomspace(0.02, 50, 400):
        at = xy * factor * to_mask
        if (at >= np.array(mask.shape[::-1])).any() or step * factor * to_mask[0] < 1:
            continue
        free = np.ones(mask.shape, dtype=bool)
        free[tuple(np.floor(at).astype(np.int64).T[::-1])] = False
        covered = ndimage.distance_transform_edt(free) <= 0.6 * step * factor * to_mask[0]
        overlap = float((covered & mask).sum() / max((covered | mask).sum(), 1))
        best = max(best, (overlap, float(factor), float(_on(xy * factor, size, tissue).mean())))
    return best[1], best[2]
