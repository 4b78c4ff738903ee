"""Which device and which precision a stage computes with."""

from __future__ import annotations

import torch

from slide2rna.cli import log
from slide2rna.errors import DeviceError


def choose(name: str) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`; the choice is logged.

    Raises
    ------
    DeviceError
        cuda was asked for and torch sees no GPU.
    """
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise DeviceError(
            "device: cuda", "torch sees no GPU here", "use device: auto or cpu, or a CUDA torch"
        )
    device = torch.device("cuda" if present and name != "cpu" else "cpu")
    detail = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    log.info("device: %s (%s)", device.type, detail)
    return device


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype to autocast to, or None for plain float32 (section train, `precision`)."""
    if precision == "float32":
        return None
    if precision == "auto" and (device.type != "cuda" or not torch.cuda.is_bf16_supported()):
        return None
    return torch.bfloat16
