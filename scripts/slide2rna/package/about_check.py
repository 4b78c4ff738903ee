"""Check of predictor.json: a model's record may come from a stranger, or be damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from jsonschema import Draft202012Validator

from slide2rna.core import config
from slide2rna.core.errors import ConfigError, StageError, has_control

T = TypeVar("T")
COUNT = {"type": "integer", "minimum": 1}
TEXT = {"type": ["string", "null"], "maxLength": 2000}
WORD = {"type": "string", "minLength": 1, "maxLength": 300}
# Bounds are far above what anybody uses; beyond them memory would be taken for nothing.
SCHEMA = {
    "type": "object",
    "required": [
        *("cohort", "run", "model", "encoder", "features", "dim", "tiles", "bags", "sample"),
        *("seed", "folds", "digests", "pathway_score", "alpha", "levels", "caveat", "version"),
    ],
    "properties": {
        **dict.fromkeys(("cohort", "run", "model", "version"), WORD),
        "encoder": {"type": ["string", "array"], "items": WORD, "minLength": 1, "minItems": 1},
        **dict.fromkeys(("caveat", "made_by", "encoder_identity"), TEXT),
        "data": {"type": "object"},
        "tile_mpp": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "pathway_score": {"enum": ["zscore", "ssgsea"]},
        "dim": COUNT | {"maximum": 1 << 16},
        "seed": {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1},
        "folds": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 9999},
            "uniqueItems": True,
            "minItems": 1,
        },
        "bags": {
            "type": "object",
            "required": ["k", "iterations"],
            "properties": {"k": COUNT | {"maximum": 1 << 16}},
        },
        "sample": {
            "type": "object",
            "required": ["draws", "steps", "solver", "guidance", "mean_pairs"],
            "properties": {
                "draws": COUNT | {"maximum": 100_000},
                "steps": COUNT | {"maximum": 100_000},
            },
        },
        "digests": {"type": "object", "additionalProperties": {"type": "string"}},
        "alpha": {"type": "number", "minimum": 0, "maximum": 1},
        "levels": {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        },
        "tiles": {"type": ["object", "null"]},
        "features": {"type": ["object", "null"]},
    },
}
REMEDY = "package the run again, or copy the whole folder"
# Sections of the configuration that a record has, and keys without which no slide can be read.
SECTIONS = {
    "tiles": ("tile_px", "mpp", "max_background", "min_contrast", "max_tiles", "mask_um_px"),
    "features": ("encoder",),
    "bags": (),
    "sample": (),
}


def check_about(path: Path, about: Any) -> None:
    """Check the content of predictor.json.

    Raises
    ------
    StageError
        A key is missing, of another type or out of range; a digest's name leads out of the folder.
    """
    for error in Draft202012Validator(SCHEMA).iter_errors(about):
        key = ".".join(map(str, error.path)) or "the whole"
        raise StageError(path, f"{key}: {error.message[:120]}", REMEDY)
    for section, required in SECTIONS.items():
        if about[section] is None:
            continue
        if absent := [key for key in required if key not in about[section]]:
            raise StageError(path, f"{section}: {absent[0]} is missing", REMEDY)
        try:
            config.check_section(section, about[section], section)
        except ConfigError as error:
            raise StageError(path, str(error)[:200], REMEDY) from error
    for key in ("alpha", "levels", "tile_mpp", *SECTIONS):
        if not all(map(math.isfinite, _leaves(about.get(key), float))):
            raise StageError(path, f"{key}: a number isn't finite", REMEDY)
    for key, value in about.items():
        if text := next((text for text in _leaves(value, str) if has_control(text)), None):
            cause = f"{key}: the text {text[:60]!a} holds a control character"
            raise StageError(path, cause, "ask its maker")
    for name in about["digests"]:
        if name.startswith("/") or ".." in name.split("/"):
            raise StageError(path, f"digests: {name!a} leads out of the folder", "ask its maker")


def _leaves(value: Any, kind: type[T]) -> Iterator[T]:
    """Yield every text or number of a kind in a JSON value, keys of objects included."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, kind):
            yield part
        elif isinstance(part, dict):
            pending += [*part, *part.values()]
        elif isinstance(part, list):
            pending += part
