"""Weights record: commit and sha256 of the weights behind a folder of features, in weights.json.

The first load writes it. Later loads, also of a packaged model, take the same commit, and stop if
the same revision has other weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slide2rna.core import encoder_names
from slide2rna.core.errors import WeightsError
from slide2rna.core.files import read_json, write_json
from slide2rna.core.log import log
from slide2rna.core.settings import FeaturesSettings, TilesSettings
from slide2rna.features import encoder_specs, registry
from slide2rna.features.encoder_weights import WeightsFile
from slide2rna.features.registry import Encoder

FILE = "weights.json"


def load(
    settings: FeaturesSettings,
    tile_settings: TilesSettings,
    folder: Path,
    device: str = "cpu",
    threads: int = 1,
) -> Encoder:
    """Load the encoder of a folder of features, with the weights of its first load.

    Warns of tiles that an encoder wasn't trained on.

    Raises
    ------
    WeightsError
        The weights of the same revision have changed; see also `registry.load`.
    """
    for name in encoder_names.names(settings):
        tiles = tile_settings["tile_px"], tile_settings["mpp"]
        if warning := encoder_specs.tile_warning(name, *tiles):
            log.warning("%s", warning)
    encoder = registry.load(pinned(settings, folder), device, threads, tile_settings["tile_px"])
    record(encoder, settings, folder)
    return encoder


def read(folder: Path) -> dict[str, Any]:
    """Return the record of a folder of features; {} without one."""
    path = folder / FILE
    return read_json(path) if path.is_file() else {}


def pinned(settings: FeaturesSettings, folder: Path) -> FeaturesSettings:
    """Return section features with the recorded commits where it names no revision."""
    encoders, revisions = read(folder).get("encoders", {}), {}
    for name in encoder_names.names(settings):
        own = encoder_names.of_one(settings, name)
        entry = encoders.get(name, {})
        same = own["weights"] is None and entry.get("requested") == own["revision"]
        revision = (entry.get("commit") if same else None) or own["revision"]
        if revision is not None:
            revisions[name] = revision
    return settings | {"revision": _simple(settings, revisions)}


def _simple(settings: FeaturesSettings, values: dict[str, str]) -> Any:
    """Return the value of a key as the configuration writes it: of one encoder, or by encoder."""
    if isinstance(settings["encoder"], str):
        return values.get(settings["encoder"])
    return values or None


def record(encoder: Encoder, settings: FeaturesSettings, folder: Path) -> None:
    """Write the record of an encoder, after a comparison with an earlier one.

    Raises
    ------
    WeightsError
        The same revision on the hub has other weights than at the first load.
    """
    earlier, entries = read(folder).get("encoders", {}), {}
    for part in getattr(encoder, "parts", [encoder]):
        requested = encoder_names.of_one(settings, part.name)["revision"]
        entries[part.name] = entry = _entry(getattr(part, "weights", None), requested)
        before = earlier.get(part.name, {})
        same = all(before.get(key) == entry[key] for key in ("repository", "requested"))
        if entry["repository"] and same and before["sha256"] != entry["sha256"]:
            cause = f"its weights differ from those of the first load (commit {before['commit']})"
            remedy = f"set features.revision: {before['commit']}, or delete {folder / FILE}"
            raise WeightsError(f"encoder {part.name}", cause, remedy)
    found = {"identity": encoder.identity, "encoders": entries}
    if read(folder) != found:
        write_json(found, folder / FILE)


def _entry(weights: WeightsFile | None, requested: str | None) -> dict[str, str | None]:
    if weights is None:
        return dict.fromkeys(("repository", "requested", "commit", "sha256"))
    return {
        "repository": weights.repository,
        "requested": requested,
        "commit": weights.commit,
        "sha256": weights.sha256,
    }
