"""What vouches for the maps in a folder: maps.json, with the key and the names of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slide2rna import io

RECORD, TABLE, TILES, FEATURES = "maps.json", "maps.parquet", "maps.geojson", "features.h5"


def of(out: Path) -> dict[str, Any]:
    """The record of the folder; empty without one that can be read."""
    path = out / RECORD
    try:
        found = io.read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "key" in found else {}


def pictures(record: dict[str, Any]) -> list[str]:
    """Names of the pictures that a record lists, all of them in its own folder."""
    return [Path(row["picture"]).name for row in record.get("maps", [])]


def whole(out: Path, key: str) -> dict[str, Any] | None:
    """The folder's record, if it is of this key and all files that it lists are there."""
    record = of(out)
    if record.get("key") != key:
        return None
    files = [TABLE, TILES, *pictures(record)]
    return record if all((out / name).is_file() for name in files) else None


def clear(out: Path) -> None:
    """Remove the record and its pictures: those of other names would pass for the next run's.

    The record goes last, so that an interrupted clearing can be done again.
    """
    for name in [*pictures(of(out)), RECORD]:
        (out / name).unlink(missing_ok=True)
