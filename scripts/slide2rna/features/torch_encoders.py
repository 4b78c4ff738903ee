"""Torch encoders: the rows of the registry, models of timm and of the hub, and lite0 on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slide2rna.core.errors import ConfigError
from slide2rna.core.log import log
from slide2rna.core.settings import EncoderSettings
from slide2rna.core.types import Px
from slide2rna.features import encoder_specs, encoder_weights
from slide2rna.features.encoder_specs import EncoderSpec
from slide2rna.features.encoder_weights import WeightsFile

if TYPE_CHECKING:
    import torch

COLOR_DIM = 6
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class TorchEncoder:
    """Torch network on CPU or GPU.

    Attributes
    ----------
    model : Module
        float32 (n, 3, h, w) to (n, dim) without the colour.
    device : torch.device
    input_px : int or None
        Edge to which tiles are resized; None leaves them unchanged.
    mean, sd : tuple of float or None
        Normalisation of pixels in 0..1; with None the network gets 0..255.
    with_color : bool
        Append the six colour statistics.
    autocast : torch.dtype or None
        Reduced precision of the network's inner layers.
    weights : WeightsFile or None
        File of the weights; None for a network that its package or its repository brings.
    """

    model: torch.nn.Module
    name: str
    dim: int
    identity: str
    device: torch.device
    batch: int = 32
    input_px: Px | None = 224
    interpolation: str = "bicubic"
    mean: tuple[float, ...] | None = IMAGENET_MEAN
    sd: tuple[float, ...] | None = IMAGENET_SD
    with_color: bool = False
    autocast: torch.dtype | None = None
    weights: WeightsFile | None = None
    parallel: bool = field(default=False, init=False)

    def encode(self, tiles: np.ndarray, color: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device)
            features = self.forward(x.permute(0, 3, 1, 2).float()).float().cpu().numpy()
        return np.concatenate([features, color], 1) if self.with_color else features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of tiles (n, 3, h, w) in 0 to 255."""
        import torch
        from torch.nn import functional

        if self.input_px is not None and x.shape[2:] != (self.input_px, self.input_px):
            x = functional.interpolate(
                x, (self.input_px, self.input_px), mode=self.interpolation, antialias=True
            ).clamp(0, 255)
        if self.mean is not None and self.sd is not None:
            mean = torch.tensor(self.mean, device=x.device)[:, None, None]
            x = (x / 255 - mean) / torch.tensor(self.sd, device=x.device)[:, None, None]
        with torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None):
            return self.model(x)


def load_torch(settings: EncoderSettings, device: str) -> TorchEncoder:
    """Load an encoder of the registry, of timm or of the hub; see `registry.load`."""
    import torch

    from slide2rna.features import networks

    spec = encoder_specs.find(settings["encoder"])
    embedding = settings["embedding"] or spec.embedding
    if "own" in (spec.embedding, embedding) and embedding != spec.embedding:
        cause = f"it has its own vector, not {embedding}"
        raise ConfigError(f"encoder {spec.name}", cause, "leave out features.embedding")
    spec = of_timm(spec, settings["weights"])
    if spec.loader in ("files", "remote"):
        model, found = networks.adapted(spec, None, settings["revision"]), None
        identity = f"{spec.name} {settings['revision']}"
    else:
        found = encoder_weights.locate(spec, settings)
        identity = found.identity(spec, embedding)
        if spec.loader == "package":
            model = networks.adapted(spec, found.path, found.commit)
        else:
            folder = encoder_weights.config_folder(spec, found)
            model = networks.build(spec, embedding, folder)
            model = networks.fill(model, spec, encoder_weights.read(found.path), found.path)
    pretrained: dict[str, Any] = {}
    if spec.name not in encoder_specs.encoders():
        pretrained = dict(model.network.pretrained_cfg)  # type: ignore[union-attr, arg-type]
    input_px = int(pretrained.get("input_size", (3, spec.input_px, spec.input_px))[1])
    encoder = TorchEncoder(
        model.eval().to(device),
        spec.name,
        spec.dim or 0,
        identity,
        torch.device(device),
        settings["batch"],
        input_px,
        pretrained.get("interpolation", spec.interpolation),
        tuple(pretrained.get("mean", spec.mean)),
        tuple(pretrained.get("std", spec.sd)),
    )
    encoder.weights = found
    blank = np.zeros((1, input_px, input_px, 3), np.uint8)
    encoder.dim = encoder.encode(blank, np.zeros((1, COLOR_DIM), np.float32)).shape[1]
    return encoder


def of_timm(spec: EncoderSpec, weights: str | None) -> EncoderSpec:
    """Return a spec with the hub's repository of a timm model; others stay as they are.

    A name without a tag gets timm's default.

    Raises
    ------
    ConfigError
        timm doesn't have this model, or no weights of it on the hub.
    """
    if spec.name in encoder_specs.encoders() or spec.loader != "timm":
        return spec
    from slide2rna.features.torchvision_fix import ensure_torchvision

    ensure_torchvision()
    import timm

    name = spec.name
    if not timm.is_model(name):
        remedy = (
            f"{encoder_specs.similar(name)}`slide2rna encoders` lists them; a timm model name, "
            "hf-hub:OWNER/NAME and files also work"
        )
        raise ConfigError(f"encoder {name}", "unknown", remedy)
    if weights is not None:
        return spec
    found = timm.get_pretrained_cfg(name)
    if found is None or not found.hf_hub_id:
        cause = "timm has no weights of it on the hub"
        tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")[:5]
        remedy = f"use {', '.join(tags)}" if tags else "give features.weights, a file"
        raise ConfigError(f"encoder {name}", cause, remedy)
    return replace(spec, hub=str(found.hf_hub_id))


def tune_for_gpu(encoder: TorchEncoder, tile_px: Px) -> TorchEncoder:
    """Choose precision and batch for a GPU: half of the free memory, by a measured tile."""
    import torch

    bfloat = torch.cuda.is_bf16_supported()
    encoder.autocast = torch.bfloat16 if bfloat else torch.float16
    probe = np.random.default_rng(0).integers(0, 256, (8, tile_px, tile_px, 3), dtype=np.uint8)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    if agreement(encoder, probe) < 0.999:
        encoder.autocast = None
    encoder.encode(probe, np.zeros((8, COLOR_DIM), np.float32))
    per_tile = max(1, (torch.cuda.max_memory_allocated() - before) // 8)
    free, _ = torch.cuda.mem_get_info()
    encoder.batch = int(np.clip(free // 2 // per_tile, 8, 1024)) // 8 * 8
    log.info(
        "%s: %s, %d tiles per batch", encoder.name, encoder.autocast or "float32", encoder.batch
    )
    return encoder


def agreement(encoder: TorchEncoder, tiles: np.ndarray) -> float:
    """Return the lowest cosine between features in the encoder's precision and in float32."""
    import torch

    with torch.inference_mode():
        x = torch.from_numpy(tiles).to(encoder.device).permute(0, 3, 1, 2).float()
        reduced, precision = encoder.forward(x).float(), encoder.autocast
        encoder.autocast = None
        full = encoder.forward(x).float()
        encoder.autocast = precision
    return float(torch.nn.functional.cosine_similarity(reduced, full).min())
