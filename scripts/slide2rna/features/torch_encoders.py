"""Torch encoders: timm's models, UNI and UNI2-h, and lite0 on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slide2rna.core.errors import ConfigError
from slide2rna.core.log import log
from slide2rna.core.settings import FeaturesSettings
from slide2rna.core.types import Px
from slide2rna.features import encoder_weights

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


@dataclass(frozen=True)
class EncoderSpec:
    """Published encoder: timm's model and arguments, and the weights' repository on the hub."""

    model: str
    hub: str
    gated: bool = False
    interpolation: str = "bilinear"
    arguments: dict[str, Any] = field(default_factory=dict)


# The arguments of UNI and UNI2-h are from their model cards:
# https://huggingface.co/MahmoodLab/UNI and https://huggingface.co/MahmoodLab/UNI2-h
ENCODER_SPECS = {
    "resnet50": EncoderSpec("resnet50", "timm/resnet50.tv_in1k"),
    "uni": EncoderSpec(
        "vit_large_patch16_224",
        "MahmoodLab/UNI",
        gated=True,
        arguments={"init_values": 1e-5, "dynamic_img_size": True},
    ),
    "uni2": EncoderSpec(
        "vit_giant_patch14_224",
        "MahmoodLab/UNI2-h",
        gated=True,
        arguments={
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
        },
    ),
}


def architecture(name: str) -> EncoderSpec:
    """Return the spec of the encoder with this name; any other name is a timm model's."""
    return ENCODER_SPECS.get(name, EncoderSpec(name, f"timm/{name}", interpolation="bicubic"))


def load_timm(settings: FeaturesSettings, device: str, identity: str) -> TorchEncoder:
    """Load any timm architecture with weights from a file or the hub; see `registry.load`."""
    import torch

    from slide2rna.features.torchvision_fix import ensure_torchvision

    ensure_torchvision()
    import timm

    name, path = settings["encoder"], settings["weights"]
    spec = architecture(name)
    if name not in ENCODER_SPECS and not timm.is_model(name):
        raise ConfigError(
            f"encoder {name}",
            "unknown",
            f"use lite0, color, files, {', '.join(ENCODER_SPECS)} or a timm model name",
        )
    arguments = dict(spec.arguments)
    if name == "uni2":
        arguments |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    hub = spec.hub
    if path is None:
        if name not in ENCODER_SPECS:
            hub = _timm_hub(name)
        state = encoder_weights.from_hub(name, hub, spec.gated)
    else:
        state = encoder_weights.read(Path(path))
    model: Any = timm.create_model(spec.model, pretrained=False, num_classes=0, **arguments)
    encoder_weights.fill(model, state, path or hub)
    pretrained: dict[str, Any] = {} if name in ENCODER_SPECS else dict(model.pretrained_cfg)
    return TorchEncoder(
        model.eval().to(device),
        name,
        model.num_features,
        identity,
        torch.device(device),
        settings["batch"],
        int(pretrained.get("input_size", (3, 224, 224))[1]),
        pretrained.get("interpolation", spec.interpolation),
        tuple(pretrained.get("mean", IMAGENET_MEAN)),
        tuple(pretrained.get("std", IMAGENET_SD)),
    )


def _timm_hub(name: str) -> str:
    """Return the hub's repository of a timm model; a name without a tag gets timm's default.

    Raises
    ------
    ConfigError
        timm has no weights of this architecture on the hub.
    """
    import timm

    found = timm.get_pretrained_cfg(name)
    if found is None or not found.hf_hub_id:
        cause = "timm has no weights of it on the hub"
        tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")[:5]
        remedy = f"use {', '.join(tags)}" if tags else "give features.weights, a file"
        raise ConfigError(f"encoder {name}", cause, remedy)
    return str(found.hf_hub_id)


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
