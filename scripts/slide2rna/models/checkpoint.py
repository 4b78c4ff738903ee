"""Model folders and training states, in safetensors and JSON, read without unpickling."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from slide2rna.core import files
from slide2rna.core.errors import StageError, WeightsError
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import model_record
from slide2rna.models.regressor import Regressor
from slide2rna.pathways.membership import Pathways
from slide2rna.storage import tensors

# Memory that reading a weights file may need in addition to the network.
PIECE_BYTES = 2**26
FORMAT = 4
RECORD = "model.json"
AGAIN = "copy or train the model again"
DAMAGED: tuple[type[Exception], ...] = (
    *(AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError),
    *(MemoryError, ZeroDivisionError),
)
REAL = ("F64", "F32", "F16", "BF16")
# Arrays that divide: scales of features and genes, shares and spreads.
POSITIVE = ("feature_scale", "feature_unit")
NOT_NEGATIVE = ("gene_sd",)


def save_model(folder: str | Path, model: RNAFM | Regressor, meta: dict[str, Any]) -> None:
    """Write model.safetensors, then model.json, the two files of a model folder.

    `meta` needs the keys model (its name), genes, features, clusters, settings (with the section
    `model`) and interpolant. The gene sets of a flow are added here.
    """
    folder = Path(folder)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    tensors.write(save_file, weights, folder / "model.safetensors")
    content = meta | {"format": FORMAT}
    if isinstance(model, RNAFM):
        pathways = {
            "names": model.pathways.names,
            "index": [genes.tolist() for genes in model.pathways.index],
        }
        if model.pathways.outside is not None:
            pathways["outside"] = model.pathways.outside.tolist()
        content["pathways"] = meta.get("pathways", {}) | pathways
    files.write_json(content, folder / "model.json", indent=None)


def load_model(
    folder: str | Path, device: torch.device | str = "cpu"
) -> tuple[RNAFM | Regressor, dict[str, Any]]:
    """Read a model folder.

    Returns
    -------
    model
        In eval mode on `device`.
    meta
        The content of model.json.

    Raises
    ------
    WeightsError
        A file is missing or of another format, or the two don't match.
    """
    folder = Path(folder)
    meta = read_record(folder)
    try:
        shapes = _read_shapes(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(folder, f"no model there ({error})", "train it first") from error
    if model_record.least_values(meta) > sum(math.prod(shape) for shape in shapes.values()):
        cause = "it describes a larger network than the weights are of"
        raise WeightsError(folder / RECORD, cause, AGAIN)
    try:
        model = _build_network(meta)
    except DAMAGED as error:
        cause = f"it describes no network ({type(error).__name__}: {str(error)[:100]})"
        raise WeightsError(folder / RECORD, cause, AGAIN) from error
    state = model.state_dict()
    mismatched = state.keys() ^ shapes.keys()
    mismatched |= {
        name for name in state if name not in mismatched and shapes[name] != state[name].shape
    }
    if mismatched:
        name = min(mismatched)
        stored = list(shapes[name]) if name in shapes else "missing"
        expected = list(state[name].shape) if name in state else "unknown"
        cause = f"{name} is {stored} in the file and {expected} in the network"
        raise WeightsError(
            folder, f"the weights don't match model.json ({cause})", "train it again"
        )
    for name, value in state.items():
        _check_kind(value, folder / "model.safetensors", name)
        _fill(value, folder / "model.safetensors", name)
    _check_values(folder / "model.safetensors", state)
    if isinstance(model, RNAFM):
        model.uses_network = meta.get("uses_network", True)
    return model.to(device).eval(), meta


def read_record(folder: Path) -> dict[str, Any]:
    """Read a model folder's model.json and check it.

    Raises
    ------
    WeightsError
        It is missing, of another format, or describes no network.
    """
    path = folder / RECORD
    try:
        meta = files.read_json(path)
    except StageError as error:
        raise WeightsError(path, error.cause, AGAIN) from error
    except OSError as error:
        raise WeightsError(folder, f"no model there ({error})", "train it first") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise WeightsError(path, "not this version's format", "train it again")
    try:
        model_record.check_record(meta)
        model_record.least_values(meta)
    except DAMAGED as error:
        cause = f"it describes no network ({str(error)[:200]})"
        raise WeightsError(path, cause, AGAIN) from error
    return meta


def _check_values(path: Path, state: dict[str, Tensor]) -> None:
    """Refuse weights that aren't finite, and scales and spreads out of range."""
    for name, value in state.items():
        last = name.rpartition(".")[2]
        if not torch.isfinite(value).all():
            wrong = "aren't finite"
        elif last in POSITIVE and (value <= 0).any():
            wrong = "aren't positive"
        elif last in NOT_NEGATIVE and (value < 0).any():
            wrong = "are negative"
        else:
            continue
        raise WeightsError(path, f"{name} has values that {wrong}", AGAIN)


def _read_shapes(path: Path) -> dict[str, torch.Size]:
    with tensors.open_checked(path, "pt") as file:
        return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _check_kind(value: Tensor, path: Path, name: str) -> None:
    """Refuse an array of another kind: torch would round real numbers to integers and back."""
    with safe_open(path, framework="pt") as file:
        kind = file.get_slice(name).get_dtype()
    if (kind in REAL) != value.is_floating_point():
        raise WeightsError(path, f"{name} is stored as {kind}", AGAIN)


def _fill(value: Tensor, path: Path, name: str) -> None:
    """Read one array in place, so that the weights are in memory once.

    Data read from an open file stays mapped and counts as memory. So a large array is read in
    pieces, and the file is reopened for each.
    """
    rows = len(value) if value.ndim else 0
    step = max(1, PIECE_BYTES * rows // max(1, value.nbytes))
    if rows <= step:
        with safe_open(path, framework="pt") as file:
            value.copy_(file.get_tensor(name))
        return
    for start in range(0, rows, step):
        with safe_open(path, framework="pt") as file:
            value[start : start + step].copy_(file.get_slice(name)[start : start + step])


def _build_network(meta: dict[str, Any]) -> RNAFM | Regressor:
    genes, settings = len(meta["genes"]), meta["settings"]["model"]
    scale = meta.get("feature_scale")
    if meta["model"] != "flow":
        return Regressor(meta["model"], meta["features"], meta["clusters"], genes, settings, scale)
    sets = meta["pathways"]
    outside = sets.get("outside")
    pathways = Pathways(
        sets["names"],
        [np.array(members, dtype=np.int64) for members in sets["index"]],
        genes,
        None if outside is None else np.array(outside, dtype=np.int64),
    )
    return RNAFM(
        pathways,
        meta["features"],
        meta["clusters"],
        settings,
        meta["interpolant"],
        scale,
        meta.get("fitted_shape"),
    )


def save_state(path: str | Path, values: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a training state as one file, atomically."""
    plain = {name: value.detach().cpu().contiguous() for name, value in values.items()}
    tensors.write(save_file, plain, path, {"state": json.dumps(state)})


def load_state(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a training state; None if the file is missing."""
    if not Path(path).is_file():
        return None
    try:
        stored, metadata = tensors.read_all(path, "pt")
        return stored, json.loads(metadata["state"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise WeightsError(path, f"not a training state ({error})", "delete it") from error
