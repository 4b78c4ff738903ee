"""Model folders and training states, in safetensors and JSON, read without unpickling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from slide2rna.core import files
from slide2rna.core.errors import WeightsError
from slide2rna.flow.velocity import RNAFM
from slide2rna.models.regressor import Regressor
from slide2rna.pathways.membership import Pathways
from slide2rna.storage import tensors

# Memory that reading a weights file may need in addition to the network.
PIECE_BYTES = 2**26
FORMAT = 4
# Sizes in the section model, and their largest: beyond it a file of a stranger takes all memory.
SIZES = ("hidden", "blocks", "heads", "cluster_layers", "mixture", "factors", "depth", "width")
MAX_SIZE = 1 << 14


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
    try:
        meta = files.read_json(folder / "model.json")
        shapes = _read_shapes(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(folder, f"no model there ({error})", "train it first") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise WeightsError(folder / "model.json", "not this version's format", "train it again")
    try:
        _check_meta(meta)
        model = _build_network(meta)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        cause = f"it describes no network ({type(error).__name__}: {str(error)[:100]})"
        raise WeightsError(folder / "model.json", cause, "copy or train the model again") from error
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
        _fill(value, folder / "model.safetensors", name)
    if wrong := [name for name, value in state.items() if not torch.isfinite(value).all()]:
        cause = f"{wrong[0]} has values that aren't finite"
        raise WeightsError(folder / "model.safetensors", cause, "copy or train the model again")
    if isinstance(model, RNAFM):
        model.uses_network = meta.get("uses_network", True)
    return model.to(device).eval(), meta


def _read_shapes(path: Path) -> dict[str, torch.Size]:
    with tensors.open_checked(path, "pt") as file:
        return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


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


def _check_meta(meta: dict[str, Any]) -> None:
    """Check sizes and gene sets before memory is taken: scipy doesn't check an index.

    Raises
    ------
    KeyError, TypeError, ValueError
        A key is missing, of another type, or out of range.
    """
    genes, settings = meta["genes"], meta["settings"]["model"]
    if not isinstance(genes, list) or len(set(genes)) != len(genes) or not genes:
        raise ValueError("genes is no list of different names")
    sizes = {name: meta[name] for name in ("features", "clusters")}
    sizes |= {name: settings[name] for name in SIZES if name in settings}
    for name, size in sizes.items():
        if not isinstance(size, int) or not 0 <= size <= MAX_SIZE:
            raise ValueError(f"{name} is {size!r:.40}")
    if meta["model"] != "flow":
        return
    sets = meta["pathways"]
    if len(sets["names"]) != len(sets["index"]):
        raise ValueError("not one name per gene set")
    for members in [*sets["index"], sets.get("outside") or []]:
        index = np.array(members, dtype=np.int64)
        inside = index.ndim == 1 and (index >= 0).all() and (index < len(genes)).all()
        if not inside or (np.diff(index) <= 0).any():
            raise ValueError("a gene set's indices aren't sorted positions of genes")


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
