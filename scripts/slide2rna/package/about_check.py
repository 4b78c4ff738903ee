"""Check of predictor.json: a model's record may come from a stranger, or be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from slide2rna.core.errors import StageError

COUNT = {"type": "integer", "minimum": 1}
# Bounds are far above what anybody uses; beyond them memory would be taken for nothing.
SCHEMA = {
    "type": "object",
    "required": [
        *("cohort", "run", "model", "encoder", "features", "dim", "tiles", "bags", "sample"),
        *("seed", "folds", "digests", "pathway_score", "alpha", "levels"),
    ],
    "properties": {
        "dim": COUNT | {"maximum": 1 << 16},
        "seed": {"type": "integer"},
        "folds": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "uniqueItems": True,
            "minItems": 1,
        },
        "bags": {
            "type": "object",
            "required": ["k"],
            "properties": {"k": COUNT | {"maximum": 1 << 16}},
        },
        "sample": {
            "type": "object",
            "required": ["draws", "steps"],
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


def check_about(path: Path, about: Any) -> None:
    """Check the content of predictor.json.

    Raises
    ------
    StageError
        A key is missing, of another type or out of range; a digest's name leads out of the folder.
    """
    for error in Draft202012Validator(SCHEMA).iter_errors(about):
        key = ".".join(map(str, error.path)) or "the whole"
        cause = f"{key}: {error.message[:120]}"
        raise StageError(path, cause, "package the run again, or copy the whole folder")
    for name in about["digests"]:
        if name.startswith("/") or ".." in name.split("/"):
            raise StageError(path, f"digests: {name!a} leads out of the folder", "ask its maker")
