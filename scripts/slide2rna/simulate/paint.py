"""Painter of H&E-like tissue at 0.5 um/px with prescribed area shares of seven tissues.

A smooth label map is cut from Gaussian fields at quantiles, so that the shares are exact; so is the
map of the tumour's grade. Eosin comes from one texture per tissue, nuclei from a library of stamps,
and colour from two optical densities (Beer-Lambert) with stain vectors that depend on the site and
jitter by slide. Tumour and lymphocytes, stroma and necrosis, fat and lumen are alike in mean colour
and differ in texture. It looks like H&E to an encoder that was trained on photographs; it isn't
meant to convince a pathologist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from slide2rna.core import seeds
from slide2rna.core.types import Px
from slide2rna.simulate.textures import GRADES, PAINTED, PATCH_PX, TUMOUR_PX, stamps, texture

CELL_PX = 4  # edge of a label map's cell
TUMOUR, STROMA, FAT, LUMEN, LYMPHOCYTES, NECROSIS, MUCIN = range(len(PAINTED))
GLASS = 255

# Optical density (R, G, B) of one unit of each stain, and the light that glass transmits.
STAINS = {
    "A": (((0.62, 0.72, 0.31), (0.09, 0.70, 0.34)), (244, 243, 245)),
    "B": (((0.58, 0.62, 0.22), (0.08, 0.62, 0.46)), (241, 237, 228)),
}
# Distance between field lumps, in px, for each class with a separate field.
LUMP_PX = {FAT: 560, NECROSIS: 420, TUMOUR: 380, LYMPHOCYTES: 170, LUMEN: 120, MUCIN: 200}
GRADE_PX = 450  # the same for the tumour's grade
# Kind of nucleus, distance between nuclei in px, share of the nuclei that is drawn. Tumour has the
# nuclei of its grade besides.
NUCLEI: dict[int, tuple[tuple[str, int, float], ...]] = {
    TUMOUR: (("lymphocyte", 110, 0.5),),
    STROMA: (("fibroblast", 46, 0.75), ("lymphocyte", 120, 0.5)),
    FAT: (),
    LUMEN: (("debris", 60, 0.15),),
    LYMPHOCYTES: (("lymphocyte", 16, 0.92),),
    NECROSIS: (("debris", 17, 0.55), ("ghost", 40, 0.4)),
    MUCIN: (("lymphocyte", 150, 0.4),),
}
TUMOUR_SHARE = 0.93  # of the tumour's nuclei that is drawn


@dataclass(frozen=True)
class Plan:
    """Plan of a slide. Shares add up to 1 over tissue; `cover` is tissue's share of the slide."""

    slide_id: str
    width_px: Px
    height_px: Px
    shares: tuple[float, ...]  # in the order of `PAINTED`; tissues at the end may be left out
    site: str
    cover: float = 0.78
    pen: bool = False
    states: tuple[float, ...] = (0.5,)  # u of equal parts of the tumour, from 0 to 1, rising


class Painted(NamedTuple):
    """Painted slide, and its tissue.

    Attributes
    ----------
    rgb : uint8 array (height_px, width_px, 3), at 0.5 um/px.
    shares : array (7,), area shares in the order of `PAINTED`.
    state, variance : mean and variance over the tumour's area of u, which is grade / 4; 1/2 and 0
        without tumour.
    tissue_px : area of the tissue, lumens included.
    """

    rgb: NDArray[np.uint8]
    shares: NDArray[np.float64]
    state: float
    variance: float
    tissue_px: int


def paint(plan: Plan, seed: int) -> Painted:
    """Paint one slide; it depends on `plan` and `seed` alone."""
    rng = seeds.rng_for(seed, "paint", plan.slide_id)
    cells = label_map(plan, rng)
    grades = grade_map(plan, cells, rng)
    # Both at once, so that they get the same rough borders.
    both = _upsample(cells + 256 * grades.astype(np.uint16), plan.height_px, plan.width_px, rng)
    labels, grades = (both & 255).astype(np.uint8), (both >> 8).astype(np.uint8)
    areas = np.bincount(labels.ravel(), minlength=256)[: len(PAINTED)]
    tumour = np.bincount(grades[labels == TUMOUR], minlength=GRADES) / max(areas[TUMOUR], 1)
    u = np.arange(GRADES) / (GRADES - 1)
    state = float(tumour @ u) if areas[TUMOUR] else 0.5
    eosin_plane, haematoxylin = _planes(labels, rng)
    for kind, distance, share, place in _nuclei(labels, grades):
        _stamp_nuclei(haematoxylin, place, kind, distance, share, rng)
    rgb = _colour(haematoxylin, eosin_plane, plan.site, rng)
    if plan.pen:
        _draw_pen(rgb, rng)
    variance = float(tumour @ np.square(u - state))
    return Painted(rgb, areas / areas.sum(), state, variance, int(areas.sum()))


def label_map(plan: Plan, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the class of each cell of `CELL_PX`, or `GLASS`; shares are exact up to rounding."""
    rows, columns = -(-plan.height_px // CELL_PX), -(-plan.width_px // CELL_PX)
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    outline = 0.16 * _field(rows, columns, 520, rng) - (np.abs(x) ** 3.2 + np.abs(y) ** 3.2)
    outline[np.broadcast_to(np.maximum(np.abs(x), np.abs(y)) > 0.96, outline.shape)] -= 9
    labels = np.full(rows * columns, GLASS, np.uint8)
    inside = _top(outline.ravel(), np.arange(rows * columns), round(plan.cover * rows * columns))
    labels[inside] = STROMA
    fields = {k: _field(rows, columns, lump, rng).ravel() for k, lump in LUMP_PX.items()}
    # necrosis lies in the middle of the tumour, lumens in the tumour, lymphocytes at its rim
    fields[NECROSIS] += 0.8 * fields[TUMOUR]
    fields[LYMPHOCYTES] -= 0.5 * np.abs(fields[TUMOUR] - 0.3)
    fields[TUMOUR] -= 0.35 * fields[FAT]
    fields[LUMEN] += 0.6 * np.clip(fields[TUMOUR], -1, 1)
    fields[MUCIN] += 0.3 * np.clip(fields[TUMOUR], -1, 1)
    edge = ndimage.distance_transform_edt((labels != GLASS).reshape(rows, columns)).ravel()
    fields[LUMEN] -= 3.0 * (edge * CELL_PX < 60)  # a hole in the rim would be glass
    counts = np.zeros(len(PAINTED), int)
    counts[: len(plan.shares)] = np.round(np.array(plan.shares) * len(inside))
    for k in LUMP_PX:
        free = np.flatnonzero(labels == STROMA)
        labels[_top(fields[k], free, counts[k])] = k
    return labels.reshape(rows, columns)


def grade_map(plan: Plan, labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the grade of each cell of tumour, 0 to `GRADES` - 1; 0 elsewhere.

    A smooth field orders the tumour's cells, and equal parts of them get the plan's states.
    """
    rows, columns = labels.shape
    field = _field(rows, columns, GRADE_PX, rng)[labels == TUMOUR]
    states = np.rint(np.sort(plan.states) * (GRADES - 1)).astype(np.uint8)
    grades = np.zeros(labels.shape, np.uint8)
    rank = np.argsort(np.argsort(field, kind="stable"), kind="stable")
    grades[labels == TUMOUR] = states[rank * len(states) // max(len(field), 1)]
    return grades


def _top(field: NDArray[np.float64], cells: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return the `n` of `cells` where `field` is highest."""
    n = min(n, len(cells))
    if n == 0:
        return cells[:0]
    return cells[np.argpartition(-field[cells], n - 1)[:n]]


def _field(rows: int, columns: int, lump_px: Px, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a smooth field of unit variance: cubic B-splines over white noise, in two octaves."""
    total = np.zeros((rows, columns))
    for octave, weight in ((1.0, 1.0), (0.45, 0.4)):
        step = max(2.0, lump_px * octave / 2.5 / CELL_PX)
        down, across = _spline(rows, step), _spline(columns, step)
        wide = down @ rng.standard_normal((down.shape[1], across.shape[1])) @ across.T
        total += weight * wide / wide.std()
    return (total - total.mean()) / total.std()


def _spline(n: int, step: float) -> NDArray[np.float64]:
    """Return weights (n, knots) of uniform cubic B-splines whose knots are `step` apart."""
    knots = int(n / step) + 4
    gap = np.abs(np.arange(n)[:, None] / step + 1 - np.arange(knots))
    near = 2 / 3 - gap**2 + gap**3 / 2
    return np.where(gap < 1, near, np.clip(2 - gap, 0, None) ** 3 / 6)


def _upsample(
    cells: NDArray[np.uint16], height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return labels at full resolution, with borders roughened so that no cell edge shows."""
    dy, dx = _roughness()
    y0, x0 = rng.integers(0, PATCH_PX, 2)
    rows, columns = (np.arange(height) + y0) % PATCH_PX, (np.arange(width) + x0) % PATCH_PX
    y = np.arange(height, dtype=np.int32)[:, None] + dy[rows][:, columns]
    x = np.arange(width, dtype=np.int32)[None, :] + dx[rows][:, columns]
    y = np.clip(y, 0, height - 1) // CELL_PX
    x = np.clip(x, 0, width - 1) // CELL_PX
    return cells.ravel()[y * cells.shape[1] + x]


@cache
def _roughness() -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    rng = seeds.rng_for(0, "paint", "roughness")
    displacements = []
    for _ in range(2):
        noise = ndimage.gaussian_filter(rng.standard_normal((PATCH_PX, PATCH_PX)), 4, mode="wrap")
        displacements.append(np.rint(np.clip(noise / noise.std() * 2, -6, 6)).astype(np.int8))
    return displacements[0], displacements[1]


def _planes(
    labels: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return amounts of eosin and haematoxylin without nuclei, 200 per unit of optical density."""
    height, width = labels.shape
    stains = np.zeros((height, width), np.uint16)
    for k in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[: len(PAINTED)]).tolist():
        y0, x0 = rng.integers(0, PATCH_PX, 2)
        patch = np.roll(texture(k), (y0, x0), (0, 1))
        patch = patch[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        repeats = (-(-height // PATCH_PX), -(-width // PATCH_PX))
        np.copyto(stains, np.tile(patch, repeats)[:height, :width], where=labels == k)
    uneven = _field(-(-height // CELL_PX), -(-width // CELL_PX), 700, rng)
    strength = np.clip(128 + 11 * uneven, 80, 170).astype(np.uint16)
    strength = strength.repeat(CELL_PX, 0).repeat(CELL_PX, 1)[:height, :width]
    pink = ((stains & 255) * strength) >> 7
    return np.minimum(pink, 255).astype(np.uint8), (stains >> 8).astype(np.uint8)


def _nuclei(
    labels: NDArray[np.uint8], grades: NDArray[np.uint8]
) -> Iterator[tuple[str, int, float, NDArray[np.bool_]]]:
    """Yield kinds of nuclei: name, distance in px, share drawn, and where they lie."""
    for k, kinds in NUCLEI.items():
        for kind in kinds:
            yield *kind, labels == k
    for grade, distance in enumerate(TUMOUR_PX):
        place = (labels == TUMOUR) & (grades == grade)
        yield f"tumour_{grade}", distance, TUMOUR_SHARE, place


def _stamp_nuclei(
    plane: NDArray[np.uint8],
    place: NDArray[np.bool_],
    kind: str,
    distance: int,
    share: float,
    rng: np.random.Generator,
) -> None:
    """Draw the nuclei of one kind whose centres lie in `place`."""
    height, width = plane.shape
    library = stamps(kind)
    size = library.shape[1]
    y, x = np.meshgrid(
        np.arange(0, height - size, distance * 0.87), np.arange(0, width - size, distance)
    )
    x = x + distance / 2 * (np.arange(x.shape[1]) % 2)  # shifted: a hexagonal grid
    centres = np.stack([y.ravel(), x.ravel()])
    centres += rng.normal(0, distance * 0.2, centres.shape)
    keep = rng.random(centres.shape[1]) < share
    chosen = rng.integers(0, len(library), size=centres.shape[1:])
    places: NDArray[np.int64] = np.asarray(np.rint(centres), np.int64)
    top, left = places
    inside = (top >= 0) & (left >= 0) & (top < height - size) & (left < width - size)
    keep &= inside
    keep[keep] = place[top[keep] + size // 2, left[keep] + size // 2]
    rows, columns, stamp = top[keep].tolist(), left[keep].tolist(), chosen[keep].tolist()
    for row, column, number in zip(rows, columns, stamp, strict=True):
        window = plane[row : row + size, column : column + size]
        np.maximum(window, library[number], out=window)


def _colour(
    haematoxylin: NDArray[np.uint8],
    eosin_plane: NDArray[np.uint8],
    site: str,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Return RGB by Beer-Lambert, through a table of all pairs of amounts."""
    vectors, light = STAINS[site]
    jittered = np.array(vectors) * rng.normal(1, 0.05, (2, 3)) * rng.normal(1, 0.10, (2, 1))
    amounts = np.arange(256) / 200
    density = amounts[:, None, None] * jittered[0] + amounts[None, :, None] * jittered[1]
    table = np.rint(np.array(light) * 10.0**-density).astype(np.uint8).reshape(-1, 3)
    pairs = haematoxylin.astype(np.uint16)
    pairs <<= 8
    pairs |= eosin_plane
    return np.take(table, pairs, axis=0)


def _draw_pen(rgb: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw felt-tip strokes over glass and the tissue's rim, in place."""
    height, width = rgb.shape[:2]
    for ink, (y0, y1, x0, x1) in (
        ((0.25, 0.72, 0.42), (0.06, 0.85, 0.05, 0.10)),
        ((0.22, 0.36, 0.80), (0.05, 0.11, 0.30, 0.90)),
    ):
        canvas = Image.new("L", (width // 8, height // 8))
        t = np.linspace(0, 1, 24)
        wobble = ndimage.gaussian_filter1d(rng.standard_normal((2, 24)), 3) * 0.05
        ys = (y0 + (y1 - y0) * t + wobble[0]) * canvas.height
        xs = (x0 + (x1 - x0) * t + wobble[1]) * canvas.width
        points = list(zip(xs.tolist(), ys.tolist(), strict=True))
        ImageDraw.Draw(canvas).line(points, fill=225, width=12, joint="curve")
        cover = np.asarray(canvas.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        for channel in range(3):
            through = 1 - cover / 255 * (1 - ink[channel])
            rgb[..., channel] = (rgb[..., channel] * through).astype(np.uint8)
