"""The features file: h5 in the layout of TRIDENT, CLAM and STAMP; labs can bring their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from slide2rna.errors import SlideError
from slide2rna.io import atomic


@dataclass(frozen=True)
class Features:
    """Features (n, d) float32, coords (n, 2) int64 in level-0 px, color (n, 6) float32 or None."""

    features: np.ndarray
    coords: np.ndarray
    color: np.ndarray | None


def write(path: Path, found: Features, attributes: dict[str, Any]) -> None:
    """Write features as h5, all or nothing; the same content gives the same bytes."""
    with atomic(path) as partial, h5py.File(partial, "w", track_order=False) as file:
        file.create_dataset("features", data=found.features.astype(np.float32), track_times=False)
        file.create_dataset("coords", data=found.coords.astype(np.int64), track_times=False)
        if found.color is not None:
            file.create_dataset("color", data=found.color.astype(np.float32), track_times=False)
        for name, value in attributes.items():
            file.attrs[name] = value


def read(path: Path) -> Features:
    """Read features and check them.

    Keys as in TRIDENT and STAMP (`features` or `feats`, `coords`); arrays with a leading 1 are
    squeezed; `color` is optional.

    Raises
    ------
    SlideError
        Not an h5 file, something is missing, NaN, empty, or the counts don't match.
    """
    remedy = "write datasets features (n, d) and coords (n, 2), one row per tile"
    if not path.is_file():
        raise SlideError(path, "no such file", "features are named <slide_id>.h5")
    try:
        with h5py.File(path, "r") as file:
            name = next((key for key in ("features", "feats") if key in file), None)
            if name is None or "coords" not in file:
                raise SlideError(path, f"it has only {sorted(file)}", remedy)
            features, coords = (_squeeze(np.asarray(file[key])) for key in (name, "coords"))
            color = _squeeze(np.asarray(file["color"])) if "color" in file else None
    except (OSError, KeyError, RuntimeError) as error:
        raise SlideError(path, f"not a readable h5 file ({error})", remedy) from error
    shapes = f"features {features.shape}, coords {coords.shape}"
    if features.ndim != 2 or coords.ndim != 2 or coords.shape[1] < 2:
        raise SlideError(path, f"wrong shapes: {shapes}", remedy)
    if len(features) != len(coords) or not features.size:
        raise SlideError(path, f"counts don't match, or are zero: {shapes}", remedy)
    if color is not None and color.shape != (len(features), 6):
        raise SlideError(path, f"color has shape {color.shape}, not {(len(features), 6)}", remedy)
    for what, array in (("features", features), ("coords", coords), ("color", color)):
        if array is None:
            continue
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
            raise SlideError(path, f"{what} has values that aren't finite numbers", remedy)
    return Features(features.astype(np.float32), coords[:, :2].astype(np.int64), color)


def _squeeze(array: np.ndarray) -> np.ndarray:
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def attributes_of(path: Path) -> dict[str, Any]:
    """Attributes of a features file; empty if it isn't there or can't be read."""
    try:
        with h5py.File(path, "r") as file:
            return dict(file.attrs)
    except OSError:
        return {}
