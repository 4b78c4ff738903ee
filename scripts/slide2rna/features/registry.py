"""Registry of tile encoders, behind one small interface.

An encoder takes RGB tiles as they were read (uint8, n x h x w x 3), has its own input size and
normalisation, and returns one float32 vector per tile. timm's encoders see the whole tile, resized
to their input size: ImageNet's centre crop would lose tissue that no other tile has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slide2rna.core import encoder_names
from slide2rna.core.errors import ConfigError
from slide2rna.core.settings import EncoderSettings, FeaturesSettings
from slide2rna.core.types import Px
from slide2rna.features import encoder_weights, lite0
from slide2rna.features.encoder_specs import find
from slide2rna.features.encoder_weights import WeightsFile
from slide2rna.features.torch_encoders import COLOR_DIM, TorchEncoder, load_torch, tune_for_gpu


class Encoder(Protocol):
    """Interface that feature extraction expects of an encoder.

    Attributes
    ----------
    name : str
    dim : int
        Length of a feature vector.
    identity : str
        Name and hash of the weights; changes whenever the features would.
    batch : int
        Tiles per call of `encode`.
    parallel : bool
        Several threads may call `encode` at once; otherwise one call uses all threads.
    """

    name: str
    dim: int
    identity: str
    batch: int
    parallel: bool

    def encode(self, tiles: np.ndarray, color: np.ndarray) -> np.ndarray:
        """Encode tiles, uint8 (n, h, w, 3), with their colour (n, 6), to float32 (n, dim)."""
        ...


@dataclass
class ColorEncoder:
    """Mean and sd of R, G and B in 0..1: six numbers, no network, no weights."""

    name: str = "color"
    dim: int = COLOR_DIM
    identity: str = "color"
    batch: int = 32
    parallel: bool = True

    def encode(self, tiles: np.ndarray, color: np.ndarray) -> np.ndarray:
        return color.astype(np.float32)


@dataclass
class OnnxLite0:
    """lite0 on CPU: 112 channels pooled to means and sds, and the colour: 230 numbers.

    One thread and one tile per call are fastest: more activations don't fit the cache, and several
    workers call it at once. It also makes the numbers independent of batch and threads.
    """

    session: Any
    identity: str
    name: str = "lite0"
    dim: int = 2 * lite0.CHANNELS + COLOR_DIM
    batch: int = 8
    parallel: bool = True

    def encode(self, tiles: np.ndarray, color: np.ndarray) -> np.ndarray:
        tiles = np.ascontiguousarray(tiles)
        features = [self.session.run(None, {"tiles": tile[None]})[0] for tile in tiles]
        return np.concatenate([np.concatenate(features), color], 1, dtype=np.float32)


def identity(settings: FeaturesSettings) -> str | None:
    """Return the later `Encoder.identity` without loading; None if that needs the hub's weights.

    Raises
    ------
    WeightsError
        The weights' file is missing.
    """
    parts = []
    for name in encoder_names.names(settings):
        own = encoder_names.of_one(settings, name)
        path = Path(own["weights"]) if own["weights"] else None
        if name == "lite0":
            path = path or Path(lite0.weights_path())
        if name == "color":
            parts.append(name)
        elif name == "files" or path is None:
            return None
        else:
            spec, found = find(name), WeightsFile(path, encoder_weights.full_digest(path))
            parts.append(found.identity(spec, own["embedding"] or spec.embedding))
    return " + ".join(parts)


class JointEncoder:
    """Several encoders of the same tiles: their vectors one after the other."""

    def __init__(self, parts: list[Encoder], name: str) -> None:
        self.parts, self.name = parts, name
        self.dim = sum(part.dim for part in parts)
        self.identity = " + ".join(part.identity for part in parts)
        self.batch = min(part.batch for part in parts)
        self.parallel = all(part.parallel for part in parts)
        self.device = next((part.device for part in parts if hasattr(part, "device")), None)

    def encode(self, tiles: np.ndarray, color: np.ndarray) -> np.ndarray:
        return np.concatenate([part.encode(tiles, color) for part in self.parts], 1)


def load(
    settings: FeaturesSettings, device: str = "cpu", threads: int = 1, tile_px: Px = 256
) -> Encoder:
    """Load the encoder, or several as one, that the features settings name.

    Parameters
    ----------
    tile_px : edge of the tiles, which sizes a GPU's batch.

    Raises
    ------
    WeightsError
        Its weights are not available, or don't fit.
    ConfigError
        No encoder has this name, or it needs a package that isn't installed.
    """
    names = encoder_names.names(settings)
    if names == ["color"]:
        return ColorEncoder(batch=settings["batch"])
    if names == ["files"]:
        raise ConfigError("encoder files", "it has no network", "extract.py only checks the files")
    import torch

    torch.set_num_threads(threads)
    parts = [_load_one(encoder_names.of_one(settings, name), device, tile_px) for name in names]
    return parts[0] if len(parts) == 1 else JointEncoder(parts, encoder_names.label(settings))


def _load_one(settings: EncoderSettings, device: str, tile_px: Px) -> Encoder:
    if settings["encoder"] == "color":
        return ColorEncoder(batch=settings["batch"])
    if settings["encoder"] == "lite0":
        return _load_lite0(settings, device, tile_px)
    encoder = load_torch(settings, device)
    return tune_for_gpu(encoder, tile_px) if device == "cuda" else encoder


def _load_lite0(settings: EncoderSettings, device: str, tile_px: Px) -> Encoder:
    path = Path(settings["weights"] or lite0.weights_path())
    encoder_identity = f"lite0 {encoder_weights.digest(path)}"
    convs = lite0.layers(path)
    if device == "cuda":
        import torch

        encoder = TorchEncoder(
            lite0.torch_model(convs).to(device),
            "lite0",
            2 * lite0.CHANNELS + COLOR_DIM,
            encoder_identity,
            torch.device(device),
            input_px=None,
            mean=None,
            with_color=True,
        )
        return tune_for_gpu(encoder, tile_px)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        lite0.onnx_model(convs).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return OnnxLite0(session, encoder_identity)
