"""Files that are either whole or not there, and random streams that don't depend on order."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

TEMPORARY = re.compile(r"\.(?P<stem>.+)\.[a-z0-9_]{8}\.partial(?P<suffix>(\.[^.]*)?)")
written: set[Path] = set()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it when the block ends well.

    The temporary name keeps the suffix, since many writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=f".partial{path.suffix}"
    )
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # mkstemp gives 0600; a lab shares its results
        partial.replace(path)
        written.add(path.absolute())
    finally:
        partial.unlink(missing_ok=True)


def sweep() -> None:
    """Delete the temporary files that killed runs left of the files that this process has written.

    Only of these: another job may be writing its own in the same folder.
    """
    for folder in {path.parent for path in written if path.parent.is_dir()}:
        for entry in os.scandir(folder):
            found = TEMPORARY.fullmatch(entry.name)
            if found and folder / (found["stem"] + found["suffix"]) in written:
                Path(entry).unlink(missing_ok=True)
    written.clear()


def write_parquet(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table in one step; statistics are left in, so readers can skip row groups."""
    with atomic(path) as partial:
        table.write_parquet(partial)


def write_stamped(
    table: pl.DataFrame, path: str | Path, stamp: dict[str, Any], caveat: str | None
) -> None:
    """Write a table with what it is of in front, unless it says so itself, and its caveat last."""
    stamped = table.select(
        *(pl.lit(value).alias(key) for key, value in stamp.items() if key not in table.columns),
        pl.all(),
        pl.lit(caveat, dtype=pl.String).alias("caveat"),
    )
    write_parquet(stamped, path)


def write_text(text: str, path: str | Path) -> None:
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(value: Any, path: str | Path) -> None:
    """Write JSON with sorted keys: the same value gives the same bytes."""
    write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def md5sum(path: str | Path) -> str:
    """MD5 of a file in hex (GDC's checksum; nothing here relies on it for security)."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256sum(path: str | Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
