"""Checkpoint files of the published code, read without building any objects except tensors.

A checkpoint is a zip with a pickle in it, and unpickling can run code. Torch's restricted unpickler
reads tensors and plain containers. The published training also stores its command line (`args`: an
argparse.Namespace with numpy arrays). It becomes inert records, from which a few expected values
are taken. Any other object is an error.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from slide2rna.core.errors import WeightsError

MASK = "pathway_graph.attn_mask"
REMEDY = "give the checkpoint that the published training wrote (val_best.pt), or its state_dict"
ZIP_MAGIC = b"PK\x03\x04"


class _Record:
    """Inert stand-in for an object of `args`: the arguments and state to build it, not executed."""

    parts: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *parts: Any) -> _Record:
        record = super().__new__(cls)
        record.parts = parts
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


RECORDED = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
)


@dataclass(frozen=True)
class Checkpoint:
    """One state_dict of a published checkpoint, and the training's command line.

    Attributes
    ----------
    state
        Tensors on the CPU by name.
    args
        Arguments of the training, and values that it added to them; empty for a bare state_dict.
    """

    state: dict[str, Tensor]
    args: dict[str, Any]

    def indices(self, name: str) -> np.ndarray | None:
        """Return an entry of `args` that is a tensor of integers, as int64; None if missing."""
        return _index_vector(self.args.get(name))

    def index_lists(self, name: str) -> list[np.ndarray] | None:
        """Return an entry of `args` that is a list of such tensors."""
        value = self.args.get(name)
        items = [_index_vector(item) for item in value] if isinstance(value, list) else []
        vectors = [item for item in items if item is not None]
        return vectors if vectors and len(vectors) == len(items) else None

    def values(self, name: str) -> np.ndarray | None:
        """Return an entry of `args` that is a vector of floats, as float64."""
        value = self.args.get(name)
        if _is_plain_tensor(value) and value.ndim == 1:
            return value.detach().double().numpy()
        return _float_vector(value) if isinstance(value, _Record) else None

    def number(self, name: str) -> int | None:
        """Return an entry of `args` that is an integer."""
        value = self.args.get(name)
        return value if isinstance(value, int) else None


def read(path: str | Path, weights: str = "ema") -> Checkpoint:
    """Read a checkpoint {"model", "ema", ...}, or a file with a bare state_dict.

    Parameters
    ----------
    weights
        `ema` or `model`, the two sets of weights in a checkpoint.

    Raises
    ------
    WeightsError
        The file is missing, broken, holds objects that aren't read or lacks these weights, or a
        tensor in them isn't plain float32 (the mask: bool).
    """
    path = Path(path)
    content = _load(path)
    if not isinstance(content, dict) or not content:
        raise WeightsError(path, f"holds a {type(content).__name__} instead of weights", REMEDY)
    args: Any = content.get("args")
    if isinstance(args, _Record):
        args = args.state
    state: Any = content
    if not all(isinstance(value, Tensor) for value in content.values()):
        state = content.get(weights)
        if not isinstance(state, dict) or not state:
            entries = ", ".join(map(str, list(content)[:5]))
            raise WeightsError(path, f"has no entry '{weights}', but {entries}", REMEDY)
    for name, value in state.items():
        dtype = torch.bool if name == MASK else torch.float32
        if not _is_plain_tensor(value) or value.dtype != dtype:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            cause = f"tensor {name}: a plain {dtype} tensor is needed, found {kind}"
            raise WeightsError(path, cause, "save the model's state_dict in float32")
        if not bool(value.isfinite().all()):
            raise WeightsError(path, f"tensor {name} isn't finite", "retrain that model")
    state = {str(name): value.detach() for name, value in state.items()}
    return Checkpoint(state, args if isinstance(args, dict) else {})


def _load(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(path, "no such file", REMEDY)
    archive = zipfile.is_zipfile(path)
    try:
        if archive and zipfile.ZipFile(path).testzip() is not None:  # a mapped file isn't checked
            raise zipfile.BadZipFile
        with (
            torch.serialization.safe_globals([(_Record, name) for name in RECORDED]),
            warnings.catch_warnings(action="ignore"),  # torch guesses at length; this is one line
        ):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # a file of any bytes may raise anything
        raise WeightsError(path, _read_failure(path, error), REMEDY) from error


def _read_failure(path: Path, error: Exception) -> str:
    match = re.search(r"GLOBAL (\S+)", str(error))
    if match:
        return f"holds an object of kind {match[1]}; it isn't read, because that could run code"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    with open(path, "rb") as handle:
        start = handle.read(len(ZIP_MAGIC))
    if start == ZIP_MAGIC:
        return "a zip file, but not a complete checkpoint: truncated, damaged or another format"
    return "not a torch checkpoint"


def _is_plain_tensor(value: Any) -> TypeGuard[Tensor]:
    # The storage must have the full size: an expanded view could claim any.
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.is_cpu
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def _index_vector(value: Any) -> np.ndarray | None:
    if _is_plain_tensor(value) and value.ndim == 1 and value.dtype == torch.int64:
        return value.numpy()
    return None


def _float_vector(record: _Record) -> np.ndarray | None:
    """Read a float vector from the record of a pickled numpy array."""
    try:
        _version, shape, dtype, _fortran, raw = record.state
        kind, byte_order = dtype.parts[0], dtype.state[1]
        if kind in ("f4", "f8") and byte_order == "<" and len(shape) == 1:
            values = np.frombuffer(raw, dtype=f"<{kind}").astype(np.float64)
            return values if len(values) == shape[0] else None
    except (TypeError, ValueError, AttributeError, IndexError):
        pass
    return None
