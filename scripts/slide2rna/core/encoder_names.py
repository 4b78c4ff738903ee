"""Encoder names of section features: one or several, their part of a path, and their own values.

The Snakefile uses this module while it is parsed, so no heavy imports.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from slide2rna.core.errors import ConfigError
from slide2rna.core.settings import EncoderSettings

# Files with weights: of one encoder, or by encoder.
WeightsFiles = str | Path | dict[str, str] | None
# Keys that may hold a value per encoder: `weights: {uni2: uni2.bin}`.
PER_ENCODER = ("weights", "revision", "embedding")


def names(features: Any) -> list[str]:
    """Return the encoders of section features, in the order of their columns."""
    encoder = features["encoder"]
    return [encoder] if isinstance(encoder, str) else list(encoder)


def slug(text: str) -> str:
    """Turn a word, or a file's name without .gmt or .json, into a part of a run's name."""
    name = Path(text).name.removesuffix(".gmt").removesuffix(".json")
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def label(features: Any) -> str:
    """Return the name of the features in paths: `uni2-virchow2` for two encoders.

    Examples
    --------
    >>> label({"encoder": ["uni2", "virchow2"]})
    'uni2-virchow2'
    """
    return "-".join(slug(name.replace("/", "-")) for name in names(features))


def title(features: Any) -> str:
    """Return the name of the features for people and records: of one encoder, unchanged."""
    encoder = features["encoder"]
    return encoder if isinstance(encoder, str) else label(features)


def weights_option(words: Sequence[str]) -> WeightsFiles:
    """Return the files that a command line names: FILE, or NAME=FILE for each of several encoders.

    Raises
    ------
    ConfigError
        There are several files without names.
    """
    if not words:
        return None
    pairs = [word.partition("=") for word in words]
    if all(file for _, _, file in pairs):
        return {name: file for name, _, file in pairs}
    if len(words) > 1:
        raise ConfigError("--weights", "several files", "write NAME=FILE for each encoder")
    return words[0]


def of_one(features: Any, name: str) -> EncoderSettings:
    """Return section features of one of its encoders, with the values that are its own.

    Raises
    ------
    ConfigError
        A file or a revision is given without saying which of several encoders it is of.
    """
    several, settings = len(names(features)) > 1, cast(Any, {**features, "encoder": name})
    for key in PER_ENCODER:
        value = settings[key] = features.get(key)  # a packaged model may lack a newer key
        if isinstance(value, dict):
            settings[key] = value.get(name)
        elif several and value is not None and key != "embedding":
            cause = f"one value for {len(names(features))} encoders"
            raise ConfigError(f"features.{key}", cause, f"write {{{name}: {value}}}")
    return settings


def check(features: Any, where: str) -> None:
    """Check that keys with a value per encoder name encoders of the section.

    Raises
    ------
    ConfigError
        A value is of an encoder that the section doesn't name.
    """
    for key in PER_ENCODER:
        value = features.get(key)
        if not isinstance(value, dict):
            continue
        for name in value:
            if name not in names(features):
                cause = f"{name} isn't an encoder of this section"
                raise ConfigError(f"{where}: features.{key}", cause, "name one of features.encoder")
    for name in names(features):
        of_one(features, name)
