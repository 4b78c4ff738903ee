"""Features file: h5 in the layout of TRIDENT, CLAM and STAMP."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from slide2rna.core import seal
from slide2rna.core.errors import SlideError
from slide2rna.core.files import atomic
from slide2rna.core.memory import free_bytes
from slide2rna.core.types import Mpp
from slide2rna.features.stated_facts import PX, encoder_name, tile_mpp, with_unit

# The largest array that is read; a file may claim any shape.
MAX_BYTES = 16 << 30
LEVELS = ("tile", "slide")
CHUNK_BYTES = 1 << 20
SEAL_REMEDY = "make it again; after an edit on purpose write the numbers into a new file"
REMEDY = "write datasets features (n, d) and coords (n, 2), one row per tile"


@dataclass(frozen=True)
class Features:
    """Contents of a features file.

    Attributes
    ----------
    features : (n, d) float32.
    coords : (n, 2) top left corners of the tiles: int64 level-0 px, or float64 µm (STAMP).
    color : (n, 6) float32 or None.
    unit : of coords, `px` or `um`; None if the file doesn't state it.
    encoder : its name in the config; None if the file doesn't state it.
    mpp : µm per px of the tiles that the encoder saw; None if the file doesn't state it.
    """

    features: np.ndarray
    coords: np.ndarray
    color: np.ndarray | None
    unit: str | None = PX
    encoder: str | None = None
    mpp: Mpp | None = None

    def level0(self, mpp: Mpp) -> np.ndarray:
        """Return corners (n, 2) int64 in level-0 px of a slide with `mpp` µm per px.

        Raises
        ------
        SlideError
            The file doesn't state the unit of its coordinates.
        """
        if self.unit is None:
            raise SlideError("coords", "their unit is unknown", "set the file's attribute unit")
        return self.coords if self.unit == PX else np.rint(self.coords / mpp).astype(np.int64)


def write(path: Path, features: Features, attributes: dict[str, Any]) -> None:
    """Write features as h5, atomically; the same content gives the same bytes.

    The file is built in memory: on a full disk HDF5 prints a traceback per object that it closes.
    """
    buffer = io.BytesIO()
    coords = features.coords.astype(np.int64) if features.unit == PX else features.coords
    arrays = {"features": features.features.astype(np.float32), "coords": coords}
    if features.color is not None:
        arrays["color"] = features.color.astype(np.float32)
    with h5py.File(buffer, "w", track_order=False) as file:
        file.attrs[seal.KEY] = np.bytes_(seal.BLANK)  # first, to lie near the start
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False, **_checked(array))
        if features.unit != PX:
            file["coords"].attrs["unit"] = features.unit or "unknown"
        for name, value in attributes.items():
            file.attrs[name] = value
    with atomic(path) as partial:
        partial.write_bytes(buffer.getbuffer())
        seal.close(partial)


def _checked(array: np.ndarray) -> dict[str, Any]:
    """Return storage options with a checksum per chunk of rows, which other programs know, too."""
    rows = CHUNK_BYTES // max(1, array[:1].nbytes)
    chunk = (min(len(array), max(1, rows)), *array.shape[1:])
    return {"chunks": chunk, "fletcher32": True} if array.size else {}


def read(path: Path, level: str = "tile") -> Features:
    """Read features and check them.

    With level `slide`, the file has one vector (d,) or (1, d) for the whole slide, as TITAN, PRISM,
    CHIEF and Feather write it: no `coords` are needed, and a value may be missing (NaN).

    Accepts the files of this program and of other tools:

    - TRIDENT: `features`, `coords` in level-0 px, both with attributes (encoder, magnification);
    - CLAM: `features`, `coords` in level-0 px, no attributes;
    - STAMP: `feats` in half precision, `coords` in µm, attributes of the file (extractor, unit,
      tile_size_um, tile_size_px, feat_type); its first version's tiles of 224 px are 256 µm wide.

    Arrays with a leading 1 are squeezed; `color` is optional.

    Raises
    ------
    SlideError
        Not an h5 file, a dataset is missing or empty or has NaN, the counts don't match, the file
        is of another level than `level`, or its unit is unknown.
    """
    if not path.is_file():
        raise SlideError(path, "no such file", "features are named <slide_id>.h5")
    if seal.is_intact(path) is False:
        raise SlideError(path, "damaged or edited: it differs from its seal", SEAL_REMEDY)
    try:
        with open_h5(path) as file:
            attributes = _decoded(file.attrs)
            kind = attributes.get("feat_type", level)
            if kind != level:
                cause = f"features of a whole {kind}" if kind != "tile" else "features of tiles"
                remedy = f"give features of each {level}"
                remedy += f", or set features.level: {kind}" if kind in LEVELS else ""
                raise SlideError(path, f"{cause}, not of each {level}", remedy)
            name = next((key for key in ("features", "feats") if key in file), None)
            if level == "slide":
                return _slide_features(path, name and _array(path, file, name), attributes)
            if name is None or "coords" not in file:
                raise SlideError(path, f"it has only {sorted(file)}", REMEDY)
            features, coords = (_squeeze(_array(path, file, key)) for key in (name, "coords"))
            color = _squeeze(_array(path, file, "color")) if "color" in file else None
            attributes = _decoded(file[name].attrs) | attributes
            coords_attributes = _decoded(file["coords"].attrs)
    except (OSError, KeyError, RuntimeError) as error:
        raise SlideError(path, f"not a readable h5 file ({error})", REMEDY) from error
    _check(path, features, coords, color)
    is_stamp = name == "feats"
    coords, unit = with_unit(path, coords[:, :2], is_stamp, attributes, coords_attributes)
    stated = attributes.get("made_by") or attributes.get("encoder") or attributes.get("extractor")
    mpp = tile_mpp(attributes | coords_attributes)
    return Features(features.astype(np.float32), coords, color, unit, encoder_name(stated), mpp)


def slide_vector(where: str | Path, values: np.ndarray) -> Features:
    """Return one vector (d,) of a whole slide as features; a value may be NaN.

    Raises
    ------
    SlideError
        Not one vector, not numbers, infinite, or all values are missing.
    """
    values = np.atleast_1d(np.squeeze(values))
    if values.ndim != 1 or not _is_real(values):
        cause = f"shape {values.shape}, not one vector of numbers for the slide"
        raise SlideError(where, cause, "give one vector a slide, or set features.level: tile")
    with np.errstate(over="ignore"):
        vector = values[None].astype(np.float32)
    if np.isinf(vector).any() or np.isnan(vector).all():
        cause = "infinite values" if np.isinf(vector).any() else "no value in them"
        raise SlideError(where, f"its features have {cause}", "compute them again")
    return Features(vector, np.zeros((1, 2), np.int64), None)


def _slide_features(path: Path, values: Any, attributes: dict[str, Any]) -> Features:
    if values is None:
        raise SlideError(path, "no dataset features", "write features (d,), one vector per slide")
    stated = attributes.get("made_by") or attributes.get("encoder") or attributes.get("extractor")
    return replace(slide_vector(path, values), encoder=encoder_name(stated, "slide"))


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
    for name, array in (("features", features), ("coords", coords), ("color", color)):
        if array is None:
            continue
        with np.errstate(over="ignore"):
            finite = _is_real(array) and np.isfinite(array.astype(np.float32)).all()
        if not finite:
            cause = f"{name} has values that aren't finite real numbers"
            raise SlideError(path, cause, REMEDY)


def _decoded(attributes: Any) -> dict[str, Any]:
    """Return attributes with bytes as text and arrays of one value as that; tools write any."""
    found = {}
    for key, stored in attributes.items():
        one = isinstance(stored, np.ndarray) and stored.size == 1
        value = stored.item() if one else stored
        found[key] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return found


def open_h5(path: Path) -> h5py.File:
    """Open an h5 file to read it, without a lock, which some network disks don't give."""
    return h5py.File(path, "r", locking=False)


def _array(path: Path, file: h5py.File, name: str) -> np.ndarray:
    """Read a dataset that lies in the file itself, of a size that fits into memory.

    Raises
    ------
    SlideError
        A link to another place, external or virtual storage, no dataset, or a huge shape.
    """
    dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        cause = f"{name} lies in another file or behind a link"
        raise SlideError(path, cause, "copy the numbers into the file")
    # The array as it is stored, and its copy in single precision.
    needed = (dataset.size or 0) * (dataset.dtype.itemsize + 4)
    limit = min(MAX_BYTES, free_bytes())
    if needed > limit:
        cause = f"{name} claims the shape {dataset.shape}, more than {limit / 2**30:.1f} GiB"
        raise SlideError(path, cause, "check the file")
    return np.asarray(dataset)


def _is_real(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array))


def _squeeze(array: np.ndarray) -> np.ndarray:
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a features file; empty if it is missing or damaged."""
    try:
        if seal.is_intact(path) is False:
            return {}
        with open_h5(path) as file:
            return _decoded(file.attrs)
    except (OSError, RuntimeError):
        return {}
