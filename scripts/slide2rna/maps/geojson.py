"""GeoJSON export of tiles and their values, for QuPath 0.4 and later (as tile objects).

The layout is QuPath's: https://qupath.readthedocs.io (exporting annotations), class
QuPathTypeAdapters of its source, and RFC 7946. Coordinates are level-0 px with y downwards, as in
QuPath.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import openslide
import polars as pl

from slide2rna.core.files import atomic

# Any fixed namespace works: the same tile must get the same id.
NAMESPACE = uuid.UUID("6f1f2d0a-59b5-5a1c-9d0e-3f1f6b0c2a77")
DIGITS = 5


def write(
    table: pl.DataFrame,
    labels: dict[tuple[str, str], str],
    path: Path,
    slide: str,
    origin: tuple[int, int] = (0, 0),
) -> int:
    """Write a FeatureCollection with a Polygon per tile; return the number of tiles.

    Parameters
    ----------
    table
        x, y, size, n_windows, kind, name, mean, sd: a row per tile, kind and name. Tiles without
        a value are left out.
    labels
        Label in QuPath for each kind and name.
    slide
        The slide's name, which enters the ids of its tiles.
    origin
        QuPath's (0, 0), in level-0 px.
    """
    mapped = table.filter(pl.col("mean").is_not_null())
    tiles = mapped.group_by("x", "y", "size", "n_windows", maintain_order=True).agg(
        "kind", "name", "mean", "sd"
    )
    with atomic(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, row in enumerate(tiles.iter_rows(named=True)):
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(NAMESPACE, f"{slide}/{row['x']}/{row['y']}")),
                "geometry": {"type": "Polygon", "coordinates": [_ring(row, origin)]},
                "properties": {
                    "objectType": "tile",
                    "measurements": dict(_measurements(row, labels)),
                },
            }
            text = json.dumps(feature, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            file.write((",\n" if number else "\n") + text)
        file.write("\n]}\n")
    return tiles.height


def _ring(row: dict[str, int], origin: tuple[int, int]) -> list[list[int]]:
    """Return the square's corners, with the first one repeated at the end (RFC 7946, 3.1.6)."""
    left, top, size = row["x"] - origin[0], row["y"] - origin[1], row["size"]
    right, bottom = left + size, top + size
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def _measurements(
    row: dict[str, Sequence],  # type: ignore[type-arg]
    labels: dict[tuple[str, str], str],
) -> Iterator[tuple[str, float]]:
    columns = (row[name] for name in ("kind", "name", "mean", "sd"))
    for kind, name, mean, sd in zip(*columns, strict=True):
        label = labels[kind, name]
        yield f"{label}: mean", round(mean, DIGITS)
        if sd is not None and math.isfinite(sd):
            yield f"{label}: sd", round(sd, DIGITS)
    yield "windows", row["n_windows"]  # type: ignore[misc]


def qupath_origin(path: str | Path) -> tuple[int, int]:
    """Return QuPath's (0, 0), in level-0 px.

    QuPath crops a slide to OpenSlide's bounds (MIRAX has them), unless it is opened with --no-crop.
    A file without bounds, and a plain image, start at (0, 0).
    """
    if openslide.OpenSlide.detect_format(path) is None:
        return 0, 0
    names = [
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    ]
    with openslide.OpenSlide(path) as slide:
        values = [slide.properties.get(name, "") for name in names]
    if not all(value.isdecimal() for value in values):
        return 0, 0
    return int(values[0]), int(values[1])
