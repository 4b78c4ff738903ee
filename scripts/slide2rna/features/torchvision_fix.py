"""Torchvision fix: torchvision, and so timm, become importable with a CPU build of torch.

torchvision's wheel for Linux is a CUDA build. With a CPU torch its C++ operators don't load, and
the import fails because its Python code registers shapes for two of them. Once these two are
declared, everything works except the operators themselves (nms, roi_align, decode_jpeg).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import torch

_declared: list[torch.library.Library] = []  # the declarations live as long as this reference


def ensure_torchvision() -> None:
    """Declare the two operators if torchvision's import fails; otherwise do nothing."""
    if _declared or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
