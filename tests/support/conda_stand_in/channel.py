"""A conda channel on disk, made of the Python packages that are installed here.

Each package of the channel is a real archive with real metadata: name, version, and what it
depends on with the bounds that its wheel states. In place of copies it holds links into the
installation that it stands for, so that hundreds of megabytes become kilobytes, and an environment
imports what was solved for and nothing else. Files: https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PLATFORM = "linux-64"
SITE = f"lib/python3.{sys.version_info.minor}/site-packages"
# Where conda-forge's name isn't PyPI's, as far as the environments name them.
NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "openslide-bin": "openslide"}
# What a wheel doesn't state, since PyPI leaves it to the user.
MORE = {"openslide-python": ["openslide"]}
CUDA_BUILDS = {"pytorch": "pytorch-gpu", "faiss-cpu": "faiss-gpu"}

# Each start of an environment's interpreter leaves its command line in the environment.
NOTE = """import json, os, sys
with open(os.path.join(sys.prefix, "started.jsonl"), "a") as notes:
    notes.write(json.dumps([sys.orig_argv, os.environ.get("PYTHONPATH")]) + chr(10))
"""


@dataclass
class Package:
    """What an archive holds: metadata, and links as {path in the environment: target}."""

    name: str
    version: str
    depends: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    build: str = "0"


def conda_name(distribution: str) -> str:
    """conda-forge's name of a distribution."""
    name = canonicalize_name(distribution)
    return NAMES.get(name, name)


def python() -> Package:
    """The interpreter behind this one, as that of an environment with packages of its own."""
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    links = {f"bin/{name}": str(base) for name in ("python", "python3", "python3.11")}
    # Python looks for packages beside this file, and nowhere else (PEP 405).
    about = f"home = {base.parent}\ninclude-system-site-packages = false\n"
    files = {
        "pyvenv.cfg": about.encode(),
        # Not as sitecustomize: Debian's Python has one of its own, which comes first.
        f"{SITE}/note_starts.py": NOTE.encode(),
        f"{SITE}/note_starts.pth": b"import note_starts\n",
    }
    return Package("python", ".".join(map(str, sys.version_info[:3])), [], links, files)


@cache
def distributions() -> dict[str, metadata.Distribution]:
    """What is installed here, by conda-forge's names."""
    return {conda_name(item.name): item for item in metadata.distributions()}


def depends(name: str) -> list[str]:
    """What a package needs, with the bounds that its wheel states."""
    found = distributions()[name]
    needs = ["python 3.11.*", *MORE.get(name, [])]
    for text in found.requires or []:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({**default_environment(), "extra": ""}):
            continue
        needs.append(f"{conda_name(wanted.name)} {_bounds(wanted)}".strip())
    return sorted(set(needs))


def installed(name: str) -> Package:
    """A distribution of this environment as a package of the channel."""
    found = distributions()[name]
    lines = (found.read_text("RECORD") or "").splitlines()
    top = {line.split(",")[0].split("/")[0] for line in lines} - {"..", "__pycache__", ""}
    site = Path(str(found.locate_file("")))
    links = {f"{SITE}/{part}": str(site / part) for part in sorted(top)}
    return Package(name, found.version.split("+")[0], depends(name), links)


def _bounds(wanted: Requirement) -> str:
    """A requirement's bounds as conda writes them; local versions have no like."""
    parts = [str(part) for part in wanted.specifier if "+" not in str(part)]
    return ",".join(re.sub(r"^==(.*\.\*)$", r"\1", part) for part in sorted(parts))


def closure(names: list[str]) -> list[Package]:
    """The named packages and all that they depend on, as far as it is installed."""
    found: dict[str, Package] = {}
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name not in found and name in distributions():
            found[name] = installed(name)
            open_names += [need.split()[0] for need in found[name].depends]
    return list(found.values())


def with_cuda(packages: list[Package]) -> list[Package]:
    """As conda-forge: torch and faiss in two builds each; that for CUDA needs a driver."""
    found = []
    for package in packages:
        gpu = CUDA_BUILDS.get(package.name)
        if gpu is None:
            found.append(package)
            continue
        content = package.name.removesuffix("-cpu")
        inner = content if content == package.name else f"lib{content}"
        for build, extra in (("cpu_0", []), ("cuda_0", ["__cuda >=12"])):
            depends = [*package.depends, *extra]
            found.append(
                Package(inner, package.version, depends, package.links, package.files, build)
            )
        exact = f"{inner} {package.version}"
        found.append(Package(gpu, package.version, [f"{exact} cuda_0"]))
        if inner != package.name:
            found.append(Package(package.name, package.version, [f"{exact} cpu_0"]))
    return found


def write(channel: Path, packages: list[Package]) -> None:
    """Write archives and index; a channel that is there is added to."""
    for subdir in (PLATFORM, "noarch"):
        index = channel / subdir / "repodata.json"
        index.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(index.read_text())["packages"] if index.is_file() else {}
        if subdir == PLATFORM:
            known |= dict(_archive(index.parent, package) for package in packages)
        content = {"info": {"subdir": subdir}, "packages": known, "packages.conda": {}}
        index.write_text(json.dumps(content | {"repodata_version": 1}))


def _archive(folder: Path, package: Package) -> tuple[str, dict[str, object]]:
    name = f"{package.name}-{package.version}-{package.build}.tar.bz2"
    about = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": int(package.build.split("_")[-1]),
        "depends": package.depends,
        "subdir": PLATFORM,
        "timestamp": 1_700_000_000_000,
    }
    paths = [
        {"_path": path, "path_type": "softlink", "sha256": _sha(b""), "size_in_bytes": 0}
        for path in package.links
    ] + [
        {"_path": path, "path_type": "hardlink", "sha256": _sha(data), "size_in_bytes": len(data)}
        for path, data in package.files.items()
    ]
    texts = {
        "info/index.json": json.dumps(about).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
        "info/files": "".join(f"{p}\n" for p in [*package.links, *package.files]).encode(),
    }
    with tarfile.open(folder / name, "w:bz2") as archive:
        for path, data in {**texts, **package.files}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
        for path, target in package.links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    raw = (folder / name).read_bytes()
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return name, about | {"md5": md5, "sha256": _sha(raw), "size": len(raw)}


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
