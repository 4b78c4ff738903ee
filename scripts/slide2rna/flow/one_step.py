"""One-step students: their only valid sampling settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError

# The only step that a student learns. Its draws are exact for a Gaussian distribution.
ONE_STEP: Settings = {"solver": "exponential", "steps": 1, "guidance": 1.0}


def check(meta: dict[str, Any], settings: Mapping[str, object]) -> None:
    """Refuse sampling settings that a student was not trained for.

    Parameters
    ----------
    meta
        Content of model.json.
    settings
        Section `sample`.

    Raises
    ------
    ConfigError
        The model is a student, and solver, steps or guidance differ.
    """
    if not meta.get("one_step"):
        return
    for key, required in ONE_STEP.items():
        if settings[key] != required:
            raise ConfigError(
                f"sample.{key}",
                f"{settings[key]}, but the model is a one-step student and accepts only {required}",
                f"set {key} {required}, or sample its teacher",
            )
