"""Digests of a packaged model's files: damage and mix-ups show when the model is loaded.

They are no signature: whoever changes a file on purpose can change its digest, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slide2rna.core.errors import StageError
from slide2rna.core.files import sha256sum

WEIGHTS = "model.safetensors"
PATTERNS = ("*.parquet", "familiar/*.safetensors", "fold-*/model.json", f"fold-*/{WEIGHTS}")
REMEDY = "package the run again, or copy the whole folder"


def of_folder(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that predictions depend on, by its path in the folder."""
    paths = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): sha256sum(path) for path in paths}


def check(folder: Path, expected: Mapping[str, str], weights: bool = False) -> None:
    """Compare a model's files with their digests.

    Weights are compared when a fold is loaded; with `weights` they are compared here, too.

    Raises
    ------
    StageError
        A file is missing, changed, or isn't part of the model.
    """
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise StageError(path, "a file of the model is missing", "copy the whole folder")
        if (weights or path.name != WEIGHTS) and sha256sum(path) != digest:
            raise StageError(path, "it isn't the file that was packaged", REMEDY)
    found = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    if strange := sorted(found - {folder / name for name in expected}):
        raise StageError(strange[0], "it isn't a file of the packaged model", REMEDY)
