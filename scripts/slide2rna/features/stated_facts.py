"""Facts that a features file states: unit of its places, resolution of its tiles, encoder.

Each tool states them in its own words, or leaves them out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from slide2rna.core.errors import SlideError
from slide2rna.features import encoder_specs

PX, UM = "px", "um"
UNITS = {"px": PX, "pixel": PX, "pixels": PX, "um": UM, "µm": UM, "micron": UM, "microns": UM}
HISTORIC_PX, HISTORIC_UM = 224, 256
BASE_MPP = 10.0  # µm per px at a nominal magnification of 1


def with_unit(
    path: Path,
    coords: np.ndarray,
    is_stamp: bool,
    attributes: dict[str, Any],
    coords_attributes: dict[str, Any],
) -> tuple[np.ndarray, str | None]:
    """Return coordinates and their unit (None if unknown); pixels are integers."""
    stated = str(coords_attributes.get("unit") or attributes.get("unit") or "").strip().lower()
    if stated and stated not in (*UNITS, "unknown"):
        remedy = "write level-0 px, or um with the attribute unit"
        raise SlideError(path, f"its coords are in '{stated}'", remedy)
    unit = UNITS.get(stated) if stated else None if is_stamp else PX
    if is_stamp and not stated:
        if "tile_size_um" in attributes:
            unit = UM
        elif _stride(coords) == HISTORIC_PX:
            return coords.astype(np.float64) * HISTORIC_UM / HISTORIC_PX, UM
    if unit == UM or (unit is None and not np.array_equal(coords, np.rint(coords))):
        return coords.astype(np.float64), unit
    return np.rint(coords).astype(np.int64), unit


def _stride(coords: np.ndarray) -> int | None:
    """Return the smallest step between columns or rows of tiles."""
    steps = [np.diff(np.unique(axis)) for axis in coords.T]
    return min((round(float(step.min())) for step in steps if len(step)), default=None)


def tile_mpp(attributes: dict[str, Any]) -> float | None:
    """Return the resolution of the tiles: as stated, by their size, or by the magnification."""
    size_um, unit = attributes.get("tile_size_um"), attributes.get("unit")
    try:
        if "mpp" in attributes:
            return float(attributes["mpp"])
        edge = size_um or (unit == UM and attributes.get("tile_size"))
        if edge and attributes.get("tile_size_px"):
            return float(edge) / float(attributes["tile_size_px"])
        if "target_magnification" in attributes:
            return BASE_MPP / float(attributes["target_magnification"])
    except (TypeError, ValueError, ZeroDivisionError):
        pass
    return None


def encoder_name(stated: Any, level: str = "tile") -> str | None:
    """Return the config's name of an encoder that any tool stated; None if the name is missing."""
    aliases = encoder_specs.aliases() if level == "tile" else encoder_specs.slide_aliases()
    name = stated.strip().lower() if isinstance(stated, str) else ""
    if name in ("", "none", "files"):
        return None
    # STAMP appends the weights' revision and a hash of its code: mahmood-uni-77bdaedc-1c2d3e4f.
    name = re.sub(r"(-[0-9a-f]{6,64})+$", "", name)
    return aliases.get(name, name)
