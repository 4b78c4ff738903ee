"""The features file: h5 in the layout of TRIDENT, CLAM and STAMP; labs can bring their own."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from slide2rna.core.errors import SlideError
from slide2rna.core.files import atomic

PX, UM = "px", "um"
UNITS = {"px": PX, "pixel": PX, "pixels": PX, "um": UM, "µm": UM, "micron": UM, "microns": UM}
# Encoders that other tools call otherwise than the config does.
ALIASES = {"uni_v1": "uni", "uni_v2": "uni2", "uni2-h": "uni2", "uni2_h": "uni2"}
HISTORIC_PX, HISTORIC_UM = 224, 256
BASE_MPP = 10.0  # µm per px at a magnification of 1, as scanners name it
REMEDY = "write datasets features (n, d) and coords (n, 2), one row per tile"


@dataclass(frozen=True)
class Features:
    """What a features file holds.

    Attributes
    ----------
    features : (n, d) float32.
    coords : (n, 2) top left corners of the tiles: int64 level-0 px, or float64 µm (STAMP).
    color : (n, 6) float32 or None.
    unit : of coords, `px` or `um`; None where the file leaves it open.
    encoder : what made the features, in the words of the config; None where the file doesn't say.
    mpp : µm per px of the tiles that the encoder saw; None where the file doesn't say.
    """

    features: np.ndarray
    coords: np.ndarray
    color: np.ndarray | None
    unit: str | None = PX
    encoder: str | None = None
    mpp: float | None = None

    def level0(self, mpp: float) -> np.ndarray:
        """Corners (n, 2) int64 in level-0 px of a slide with `mpp` µm per px.

        Raises
        ------
        SlideError
            The file doesn't say in which unit they are.
        """
        if self.unit is None:
            raise SlideError("coords", "their unit is unknown", "set the file's attribute unit")
        return self.coords if self.unit == PX else np.rint(self.coords / mpp).astype(np.int64)


def write(path: Path, found: Features, attributes: dict[str, Any]) -> None:
    """Write features as h5, all or nothing; the same content gives the same bytes.

    It is made in memory: on a full disk HDF5 prints a traceback for every object that it closes.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        file.create_dataset("features", data=found.features.astype(np.float32), track_times=False)
        coords = found.coords.astype(np.int64) if found.unit == PX else found.coords
        made = file.create_dataset("coords", data=coords, track_times=False)
        if found.unit != PX:
            made.attrs["unit"] = found.unit or "unknown"
        if found.color is not None:
            file.create_dataset("color", data=found.color.astype(np.float32), track_times=False)
        for name, value in attributes.items():
            file.attrs[name] = value
    with atomic(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def read(path: Path) -> Features:
    """Read features and check them.

    Takes what this program writes and what others do:

    - TRIDENT: `features`, `coords` in level-0 px, both with attributes (encoder, magnification);
    - CLAM: `features`, `coords` in level-0 px, no attributes;
    - STAMP: `feats` in half precision, `coords` in µm, attributes of the file (extractor, unit,
      tile_size_um, tile_size_px, feat_type); its first version's tiles of 224 px are 256 µm wide.

    Arrays with a leading 1 are squeezed; `color` is optional.

    Raises
    ------
    SlideError
        Not an h5 file, something is missing, NaN, empty, the counts don't match, there is one
        vector for a whole slide or patient, or a unit that isn't known.
    """
    if not path.is_file():
        raise SlideError(path, "no such file", "features are named <slide_id>.h5")
    try:
        with h5py.File(path, "r") as file:
            about = _text(file.attrs)
            if about.get("feat_type", "tile") != "tile":
                cause = f"features of a whole {about['feat_type']}, not of its tiles"
                raise SlideError(path, cause, "give the tile features that they were made from")
            name = next((key for key in ("features", "feats") if key in file), None)
            if name is None or "coords" not in file:
                raise SlideError(path, f"it has only {sorted(file)}", REMEDY)
            about = _text(file[name].attrs) | about
            of_coords = _text(file["coords"].attrs)
            features, coords = (_squeeze(np.asarray(file[key])) for key in (name, "coords"))
            color = _squeeze(np.asarray(file["color"])) if "color" in file else None
    except (OSError, KeyError, RuntimeError) as error:
        raise SlideError(path, f"not a readable h5 file ({error})", REMEDY) from error
    _check(path, features, coords, color)
    coords, unit = _in_unit(path, coords[:, :2], name == "feats", about, of_coords)
    encoder = encoder_name(about.get("made_by") or about.get("encoder") or about.get("extractor"))
    return Features(
        features.astype(np.float32), coords, color, unit, encoder, _mpp(about | of_coords)
    )


def _check(path: Path, features: np.ndarray, coords: np.ndarray, color: np.ndarray | None) -> None:
    shapes = f"features {features.shape}, coords {coords.shape}"
    if features.ndim == 1 and features.size:
        raise SlideError(path, f"wrong shapes: {shapes}: one vector, not one per tile", REMEDY)
    if not len(features) and not len(coords):
        raise SlideError(path, "zero tiles: no tissue was found", "leave the slide out")
    if features.ndim != 2 or coords.ndim != 2 or coords.shape[1] < 2:
        raise SlideError(path, f"wrong shapes: {shapes}", REMEDY)
    if len(features) != len(coords) or not features.size:
        raise SlideError(path, f"counts don't match, or are zero: {shapes}", REMEDY)
    if color is not None and color.shape != (len(features), 6):
        raise SlideError(path, f"color has shape {color.shape}, not {(len(features), 6)}", REMEDY)
    for what, array in (("features", features), ("coords", coords), ("color", color)):
        if array is None:
            continue
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
            raise SlideError(path, f"{what} has values that aren't finite numbers", REMEDY)


def _in_unit(
    path: Path, coords: np.ndarray, stamp: bool, about: dict[str, Any], of_coords: dict[str, Any]
) -> tuple[np.ndarray, str | None]:
    """Coordinates and their unit, as far as the file tells; pixels are whole numbers."""
    said = str(of_coords.get("unit") or about.get("unit") or "").strip().lower()
    if said and said not in (*UNITS, "unknown"):
        remedy = "write level-0 px, or um with the attribute unit"
        raise SlideError(path, f"its coords are in '{said}'", remedy)
    unit = UNITS.get(said) if said else None if stamp else PX
    if stamp and not said:
        if "tile_size_um" in about:
            unit = UM
        elif _stride(coords) == HISTORIC_PX:
            return coords.astype(np.float64) * HISTORIC_UM / HISTORIC_PX, UM
    if unit == UM or (unit is None and not np.array_equal(coords, np.rint(coords))):
        return coords.astype(np.float64), unit
    return np.rint(coords).astype(np.int64), unit


def _stride(coords: np.ndarray) -> int | None:
    """The least step between columns or rows of tiles."""
    steps = [np.diff(np.unique(axis)) for axis in coords.T]
    return min((round(float(step.min())) for step in steps if len(step)), default=None)


def _mpp(about: dict[str, Any]) -> float | None:
    """Resolution of the tiles: stated, from their size, or from the magnification."""
    try:
        if "mpp" in about:
            return float(about["mpp"])
        edge = about.get("tile_size_um") or (about.get("unit") == UM and about.get("tile_size"))
        if edge and about.get("tile_size_px"):
            return float(edge) / float(about["tile_size_px"])
        if "target_magnification" in about:
            return BASE_MPP / float(about["target_magnification"])
    except (TypeError, ValueError, ZeroDivisionError):
        pass
    return None


def encoder_name(said: str | None) -> str | None:
    """An encoder's name in the words of the config, whatever tool wrote it; None if none did."""
    name = (said or "").strip().lower()
    if name in ("", "none", "files"):
        return None
    if re.fullmatch(r"mahmood-uni(-[0-9a-f]+)?", name):  # STAMP adds the weights' revision
        return "uni"
    return ALIASES.get(name, name)


def _text(attributes: Any) -> dict[str, Any]:
    """Attributes with bytes as text; other tools write either."""
    return {
        key: value.decode(errors="replace") if isinstance(value, bytes) else value
        for key, value in attributes.items()
    }


def _squeeze(array: np.ndarray) -> np.ndarray:
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def attributes_of(path: Path) -> dict[str, Any]:
    """Attributes of a features file; empty if it isn't there or can't be read."""
    try:
        with h5py.File(path, "r") as file:
            return dict(file.attrs)
    except OSError:
        return {}
