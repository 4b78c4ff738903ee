"""What was measured of a slide's file, kept beside the manifests: no slide is read twice.

A file counts as unchanged while its path, its size and its time of modification are. That is what
make, rsync and Snakemake go by, too; `rm -r results/<cohort>/slides/measured` has all read again.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slide2rna.io import read_json, write_json


@dataclass(frozen=True)
class Records:
    """One small record per slide file in `folder`; None remembers nothing."""

    folder: Path | None = None

    def _record(self, path: str | Path) -> Path | None:
        name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
        return self.folder and self.folder / f"{name}.json"

    def md5(self, path: str | Path) -> str | None:
        """The md5 in hex of a file, if it was measured and is as it was then."""
        record = self._record(path)
        if record is None or not record.is_file():
            return None
        found = read_json(record)
        return str(found["md5"]) if found["file"] == stamp(path) else None

    def keep(self, was: list[Any], md5: str) -> None:
        """Remember a file's md5; `was` is its `stamp` from before it was read."""
        if record := self._record(was[0]):
            write_json({"file": was, "md5": md5}, record)


def stamp(path: str | Path) -> list[Any]:
    """Path, size in bytes and time of modification in ns of a file; [path] if it isn't there."""
    try:
        found = os.stat(path)
    except OSError:
        return [str(path)]
    return [str(path), found.st_size, found.st_mtime_ns]
