"""Encoder weights from a local file or the hub, read without unpickling."""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slide2rna.core.errors import WeightsError
from slide2rna.core.files import sha256sum
from slide2rna.core.log import LineBar, log
from slide2rna.core.settings import EncoderSettings
from slide2rna.features.encoder_specs import HUB, EncoderSpec

if TYPE_CHECKING:
    import torch


WRAPPERS = ("state_dict", "model", "teacher")
HEADS = ("fc.", "head.", "classifier.", "head_dist.")
FILES = ("model.safetensors", "pytorch_model.bin")
SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})/")
CONFIG = "config.json"


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and where on the hub it is from.

    Attributes
    ----------
    path : the file.
    sha256 : of its content.
    repository, commit : on the hub; None for a local file.
    """

    path: Path
    sha256: str
    repository: str | None = None
    commit: str | None = None

    def identity(self, spec: EncoderSpec, embedding: str) -> str:
        """Return name and hash of an encoder: what its features depend on."""
        rule = "" if embedding == spec.embedding else f" {embedding}"
        return f"{spec.name}{rule} {self.sha256[:16]}"


def locate(spec: EncoderSpec, settings: EncoderSettings) -> WeightsFile:
    """Return an encoder's weights: `features.weights`, or those of the hub or its local cache.

    Raises
    ------
    WeightsError
        The file is missing, or the download failed.
    """
    if settings["weights"] is not None:
        path = Path(settings["weights"])
        return WeightsFile(path, full_digest(path))
    path = from_hub(spec, settings["revision"])
    commit = SNAPSHOT.search(path.as_posix())
    return WeightsFile(path, full_digest(path), spec.hub, commit[1] if commit else None)


def candidates(spec: EncoderSpec) -> list[str]:
    """Return the names that the file with an encoder's weights may have, the first one first."""
    if spec.file is not None and spec.file not in FILES:
        return [spec.file]
    return sorted(FILES, key=lambda name: name != (spec.file or FILES[0]))


def cached(spec: EncoderSpec, revision: str | None = None) -> Path | None:
    """Return the weights in the local cache of the hub (HF_HOME); None if they aren't there."""
    from huggingface_hub import try_to_load_from_cache

    for name in candidates(spec):
        if spec.hub is None:
            break
        path = try_to_load_from_cache(spec.hub, name, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def from_hub(spec: EncoderSpec, revision: str | None, name: str | None = None) -> Path:
    """Download a file of an encoder from the hub, unless it is in the cache, with the user's token.

    HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured.

    Parameters
    ----------
    revision : commit, branch or tag; None for the newest.
    name : of the file; None for the weights.

    Raises
    ------
    WeightsError
        The download failed; the message says how to get the weights by hand.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    options: dict[str, Any] = {"revision": revision}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = LineBar
    names = [name] if name else candidates(spec)
    errors: list[Exception] = []
    for file in names:
        try:
            return Path(hf_hub_download(str(spec.hub), file, **options))
        except EntryNotFoundError as error:  # also offline: the cache lacks the file
            errors.append(error)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            errors.append(error)
            break
    page = f"{HUB}/{spec.hub}"
    access = f"ask for access at {page} and set HF_TOKEN, or " if spec.gated else ""
    raise WeightsError(
        f"encoder {spec.name}",
        f"its weights can't be downloaded ({type(errors[-1]).__name__})",
        f"{access}copy {names[0]} of {page} here and set "
        "features.weights to its path (encoder lite0 needs no download)",
    ) from errors[-1]


def config_folder(spec: EncoderSpec, found: WeightsFile) -> Path:
    """Return the folder that may hold the network's config.json: next to the weights.

    Raises
    ------
    WeightsError
        It is needed and missing.
    """
    needed = spec.loader == "timm-hub"
    if found.repository is not None and (needed or spec.loader == "transformers"):
        return from_hub(spec, found.commit, CONFIG).parent
    if needed and not (found.path.parent / CONFIG).is_file():
        cause = f"no {CONFIG} next to it, which says what network they are for"
        raise WeightsError(found.path, cause, f"copy it from {HUB}/{spec.hub}")
    return found.path.parent


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from a torch file without unpickling objects."""
    import pickle

    import safetensors
    import torch
    from safetensors.torch import load_file

    remedy = "give the encoder's weights as .safetensors, .pth or .bin (a plain state dict)"
    if not path.is_file():
        raise WeightsError(path, "no such file", remedy)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise WeightsError(path, f"can't be read ({str(error)[:120]})", remedy) from error
    for key in WRAPPERS:
        state = (
            state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
        )
    if not isinstance(state, dict) or not all(hasattr(value, "shape") for value in state.values()):
        raise WeightsError(path, "not a state dict", remedy)
    return {key.removeprefix("module."): value for key, value in state.items()}


def fill(model: torch.nn.Module, state: dict[str, torch.Tensor], where: object) -> None:
    """Load weights strictly, ignoring a classifier that the encoder lacks."""
    expected = model.state_dict()
    state = {k: v for k, v in state.items() if k in expected or not k.startswith(HEADS)}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or extra or wrong:
        first = (missing or extra or sorted(wrong))[0]
        raise WeightsError(
            where,
            f"{len(missing)} tensors are missing, {len(extra)} unknown, {len(wrong)} of another "
            f"shape (first: {first})",
            "give the weights of this encoder",
        )
    model.load_state_dict(state)


def digest(path: Path) -> str:
    """Return the first 16 hex digits of a weights file's SHA-256."""
    return full_digest(path)[:16]


def full_digest(path: Path) -> str:
    """Return the SHA-256 of a weights file, read once per process.

    Raises
    ------
    WeightsError
        The file is missing.
    """
    if not path.is_file():
        raise WeightsError(path, "no such file", "correct features.weights")
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(64)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    if size > 1 << 30:
        log.info("%s: sha256 of %.1f GB", path.name, size / 1e9)
    return sha256sum(path)
