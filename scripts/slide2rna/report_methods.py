"""How a run was made: versions of packages and steps, seeds, and the configuration as run."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import yaml

from slide2rna import STEP_VERSIONS, __version__

# What the numbers depend on; the rest is in the lock file.
PACKAGES = (
    *("torch", "torchvision", "timm", "onnxruntime", "faiss-cpu", "openslide-bin", "tifffile"),
    *("scikit-image", "scikit-learn", "numpy", "scipy", "polars", "zarr", "goatools", "snakemake"),
)
# Where a file lies says nothing about the method, and differs from machine to machine.
PLACES = ("path", "weights", "token_file", "source")


def packages() -> list[tuple[str, str]]:
    """Python, this software and what its numbers depend on, with versions."""
    found = [("slide2rna", __version__), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def steps() -> list[tuple[str, int]]:
    """Version of every stage: a stage's number goes up when its results would change."""
    return list(STEP_VERSIONS.items())


def seeds(models: Iterable[dict[str, Any]]) -> list[int]:
    """Seeds of the fold models."""
    return sorted({int(model["seed"]) for model in models if model.get("seed") is not None})


def configuration(settings: dict[str, Any] | None) -> str | None:
    """The cohort's settings as YAML, files by their name alone; None where they are not known.

    Examples
    --------
    >>> print(configuration({"features": {"encoder": "uni", "path": "/data/uni"}}), end="")
    features: {encoder: uni, path: uni}
    """
    if not settings:
        return None
    text = yaml.safe_dump(
        _nameless(settings), sort_keys=True, default_flow_style=None, width=100, allow_unicode=True
    )
    return str(text)


def _nameless(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _nameless(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_nameless(inner, key) for inner in value]
    if isinstance(value, str) and key in PLACES:
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return value
