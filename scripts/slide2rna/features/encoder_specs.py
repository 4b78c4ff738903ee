"""Encoder specs: the rows of resources/encoders.yaml, and the names that other tools use."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from slide2rna.core.errors import ConfigError
from slide2rna.core.root import ROOT
from slide2rna.core.types import Mpp, Px

FILE = ROOT / "resources" / "encoders.yaml"
HUB = "https://huggingface.co"
HUB_PREFIX = "hf-hub:"
# Loaders whose networks this program builds; the others need a package, a repository or TRIDENT.
BUILT = ("builtin", "timm", "keep", "transformers")
INSTALL_TRANSFORMERS = "pip install 'slide2rna[transformers]'"
FROM_FILES = "make its features with its own code or TRIDENT, and use encoder: files"
COMMIT = re.compile(r"[0-9a-f]{40}")
TOLERANCE = 0.05  # of mpp and of a tile's edge


@dataclass(frozen=True)
class EncoderSpec:
    """A tile encoder: its network, its input, its vector, and its terms.

    Attributes
    ----------
    name : as in the configuration.
    loader : builtin, timm, keep, transformers, package, remote (code of its repository), files (no
        loader here), or timm-hub (timm's configuration in the repository).
    model : architecture of timm, class of transformers, or adapter.
    arguments : of the architecture.
    hub, file : repository on the hub, and the file with the weights; None for the usual names.
    keys : dinov2 if the weights have DINOv2's names, which timm changes.
    tile_px, mpp : of the tiles that it was trained on.
    input_px : edge to which tiles are resized; None leaves them unchanged.
    interpolation, mean, sd : of the resizing and of the pixels in 0..1.
    embedding : pooled (the network's own pooling), cls, cls+mean (of the patches), or own.
    dim : length of the vector; None if unknown.
    gated : whether the page asks for a request.
    licence, note, page, install : terms, remark, page that states them, command that installs.
    aliases : names in lower case that TRIDENT, STAMP and others give it.
    """

    name: str
    loader: str
    licence: str
    model: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    hub: str | None = None
    file: str | None = None
    keys: str | None = None
    tile_px: Px = 256
    mpp: Mpp = 0.5
    input_px: Px | None = 224
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    sd: tuple[float, ...] = (0.229, 0.224, 0.225)
    embedding: str = "cls"
    dim: int | None = None
    gated: bool = False
    note: str = ""
    page: str | None = None
    install: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def url(self) -> str | None:
        """Page that states the licence and takes requests for access."""
        return self.page or (f"{HUB}/{self.hub}" if self.hub else None)

    @property
    def install_line(self) -> str:
        """Command that installs what the encoder needs; empty if nothing is missing."""
        return self.install or (INSTALL_TRANSFORMERS if self.loader == "transformers" else "")


@dataclass(frozen=True)
class SlideEncoderSpec:
    """An encoder of whole slides: its tile encoder, the length of its vector, and its terms."""

    name: str
    tiles: str
    dim: int
    licence: str
    hub: str | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def url(self) -> str | None:
        """Page that states the licence."""
        return f"{HUB}/{self.hub}" if self.hub else None


@cache
def _content() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@cache
def encoders() -> dict[str, EncoderSpec]:
    """Return the rows of tile encoders by name."""
    content, specs = _content(), {}
    for name, row in content["encoders"].items():
        values = content["defaults"] | row
        norm = content["norms"][values.pop("norm")]
        values |= {key: tuple(norm[key]) for key in ("mean", "sd")}
        values["aliases"] = tuple(values.get("aliases", ()))
        specs[name] = EncoderSpec(name=name, **values)
    return specs


@cache
def slide_encoders() -> dict[str, SlideEncoderSpec]:
    """Return the rows of encoders of whole slides by name."""
    rows = _content()["slide_encoders"].items()
    return {
        name: SlideEncoderSpec(name=name, **(row | {"aliases": tuple(row.get("aliases", ()))}))
        for name, row in rows
    }


@cache
def aliases() -> dict[str, str]:
    """Return the name here of each name, in lower case, that another tool gives a tile encoder."""
    return {alias: spec.name for spec in encoders().values() for alias in spec.aliases}


@cache
def slide_aliases() -> dict[str, str]:
    """Return the same for encoders of whole slides."""
    return {alias: spec.name for spec in slide_encoders().values() for alias in spec.aliases}


def terms(name: str) -> EncoderSpec | SlideEncoderSpec | None:
    """Return the row of a tile or slide encoder; None without one."""
    return encoders().get(name) or slide_encoders().get(name)


def find(name: str) -> EncoderSpec:
    """Return the row of an encoder; any other name is a model of timm or, with hf-hub:, of the hub.

    Raises
    ------
    ConfigError
        The name is another tool's for a row here, or names a repository's revision.
    """
    if name in encoders():
        return encoders()[name]
    repository = name.removeprefix(HUB_PREFIX)
    if known := aliases().get(repository.lower()):
        raise ConfigError(f"encoder {name}", f"it is {known} here", f"use encoder: {known}")
    if name.startswith(HUB_PREFIX):
        if "@" in repository or repository.count("/") != 1:
            cause = "not the name of a repository"
            raise ConfigError(f"encoder {name}", cause, "write hf-hub:OWNER/NAME, and set revision")
        return EncoderSpec(name, "timm-hub", "unknown", hub=repository, embedding="pooled")
    hub = f"timm/{name}"
    return EncoderSpec(name, "timm", "unknown", name, hub=hub, embedding="pooled")


def similar(name: str) -> str:
    """Return names to use instead of an unknown one."""
    near = difflib.get_close_matches(name.lower(), encoders(), n=3)
    return f"did you mean {' or '.join(near)}? " if near else ""


def tile_warning(name: str, tile_px: Px, mpp: Mpp) -> str | None:
    """Return why tiles differ from those that an encoder was trained on; None if they don't."""
    spec = encoders().get(name)
    if spec is None or spec.loader == "builtin":
        return None
    ratios = mpp / spec.mpp, tile_px * mpp / (spec.tile_px * spec.mpp)
    if all(abs(ratio - 1) <= TOLERANCE for ratio in ratios):
        return None
    return (
        f"encoder {name}: tiles of {tile_px} px at {mpp:g} um/px, trained on {spec.tile_px} px at "
        f"{spec.mpp:g}; set tiles: {{tile_px: {spec.tile_px}, mpp: {spec.mpp:g}}}"
    )
