"""What a one-step student may be asked for."""

from __future__ import annotations

from typing import Any

from slide2rna.core.config import Settings
from slide2rna.core.errors import ConfigError

# All that a student has learned. Where the law is Gaussian, the draws of this step have it.
ONE_STEP: Settings = {"solver": "exponential", "steps": 1, "guidance": 1.0}


def check(meta: dict[str, Any], settings: Settings) -> None:
    """Refuse any other sampling of a student than the one it was trained for.

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
    for key, wanted in ONE_STEP.items():
        if settings[key] != wanted:
            raise ConfigError(
                f"sample.{key}",
                f"{settings[key]}, but the model is a one-step student and knows {wanted} alone",
                f"set {key} {wanted}, or sample its teacher",
            )
