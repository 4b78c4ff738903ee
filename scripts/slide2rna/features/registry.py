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

from slide2rna.core.errors import ConfigError
from slide2rna.core.settings import FeaturesSettings
from slide2rna.core.types import Px
from slide2rna.features import encoder_weights, lite0
from slide2rna.features.torch_encoders import (
    COLOR_DIM,
    TorchEncoder,
    architecture,
    load_timm,
    tune_for_gpu,
)


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
    """Return the later `Encoder.identity`, without loading the network; None for encoder files.

    Raises
    ------
    WeightsError
        The weights file is missing.
    """
    name = settings["encoder"]
    path: str | Path | None = settings["weights"]
    if name == "files":
        return None
    if name == "color":
        return name
    if name == "lite0":
        path = path or lite0.weights_path()
    if path is not None:
        return f"{name} {encoder_weights.digest(Path(path))}"
    return f"{name} hub {architecture(name).hub}"


def load(
    settings: FeaturesSettings, device: str = "cpu", threads: int = 1, tile_px: Px = 256
) -> Encoder:
    """Load the encoder that the features settings name; `tile_px` sizes a GPU's batch.

    Raises
    ------
    WeightsError
        Its weights are not available, or don't fit.
    ConfigError
        No encoder has this name.
    """
    name = settings["encoder"]
    if name == "color":
        return ColorEncoder(batch=settings["batch"])
    if name == "files":
        raise ConfigError("encoder files", "it has no network", "extract.py only checks the files")
    import torch

    torch.set_num_threads(threads)
    if name == "lite0":
        return _load_lite0(settings, device, tile_px)
    encoder = load_timm(settings, device, str(identity(settings)))
    return tune_for_gpu(encoder, tile_px) if device == "cuda" else encoder


def _load_lite0(settings: FeaturesSettings, device: str, tile_px: Px) -> Encoder:
    path = Path(settings["weights"] or lite0.weights_path())
    encoder_identity = str(identity(settings))
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
