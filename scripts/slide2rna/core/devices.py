"""Device, precision and compiler of a stage's computations."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil

import torch
from torch import nn

from slide2rna import DRIVER
from slide2rna.core import gpu_lock
from slide2rna.core.errors import DeviceError
from slide2rna.core.log import log

# mallopt(3): parameter numbers from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`, and log the choice.

    On a machine with several GPUs, this process locks one, and waits until one is free. If
    Snakemake was started on a machine without a driver, its jobs requested no GPU from the
    scheduler, so `auto` uses none, even if the node has one.

    Raises
    ------
    DeviceError
        cuda was requested and torch sees no GPU.
    """
    unrequested = name == "auto" and os.environ.get(DRIVER) == ""
    if unrequested:
        name = "cpu"
    # Before any CUDA call: CUDA reads its environment variable only once.
    if name != "cpu" and torch.backends.cuda.is_built():
        gpu_lock.lock_gpu()
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise DeviceError(
            "device: cuda", "torch sees no GPU here", "use device: auto or cpu, or a CUDA torch"
        )
    device = torch.device("cuda" if present and name != "cpu" else "cpu")
    detail = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    if unrequested:
        detail += "; no driver where Snakemake was started, device: cuda asks for a GPU"
    log.info("device: %s (%s)", device.type, detail)
    return device


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype to autocast to, or None for plain float32 (section train, `precision`)."""
    if precision == "float32":
        return None
    if precision == "auto" and (device.type != "cuda" or not torch.cuda.is_bf16_supported()):
        return None
    return torch.bfloat16


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Return the context for a dtype of `autocast_dtype`; None leaves autocast off."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks instead of returning every large one to the system.

    By default the system maps each activation of some MB again, and the kernel clears its pages
    one fault at a time: a fifth of a training step. C libraries other than glibc have no mallopt,
    and nothing happens. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # glibc before 2.35 accepts 32 MB at most, and a refused value would leave 128 kB.
        if not mallopt(M_MMAP_THRESHOLD, 2**31 - 1):
            mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_TOP_PAD, 2**26)


def release_freed_memory() -> None:
    """Return to the system the blocks that `keep_freed_memory` held; without glibc, do nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def compile_model(model: nn.Module, mode: str, device: torch.device) -> None:
    """Replace a module's forward with torch.compile, in place; state and names stay.

    Parameters
    ----------
    mode
        `none`, `compile`, or `graphs`: CUDA graphs on top, which need a GPU and fixed shapes.

    Notes
    -----
    Random numbers stay those of eager mode. If the compiler is missing, the module stays
    unchanged, and the log says so.
    """
    if mode == "none":
        return
    if device.type == "cuda":
        missing = None if importlib.util.find_spec("triton") else "triton"
    else:
        compiler = shlex.split(os.environ.get("CXX", "g++"))[0]
        missing = None if shutil.which(compiler) else f"a C++ compiler ({compiler})"
    if missing:
        log.warning("compile: %s is missing, so the model runs uncompiled", missing)
        return
    graphs = mode == "graphs" and device.type == "cuda"
    if mode == "graphs" and not graphs:
        log.warning("compile: CUDA graphs need a GPU; compiled without them")
    from torch._inductor import config as inductor

    inductor.fallback_random = True
    model.compile(mode="reduce-overhead" if graphs else "default")
