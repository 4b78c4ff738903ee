"""Atomic files (complete or absent), JSON and checksums; the Snakefile uses them, too."""

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

from slide2rna.core import seal
from slide2rna.core.errors import StageError, has_control

TEMPORARY = re.compile(r"\.(?P<stem>.+)\.[a-z0-9_]{8}\.partial(?P<suffix>(\.[^.]*)?)")
written: set[Path] = set()


def is_plain_name(name: str) -> bool:
    """Return whether a name from outside is that of a file in a folder, and leads nowhere else.

    No separators of folders, control or bidirectional characters, `.`, `..`, or over 240 bytes.
    """
    length = len(name.encode("utf-8", "surrogatepass"))
    plain = not has_control(name) and not {"/", "\\"} & set(name)
    return bool(name.strip()) and plain and name not in (".", "..") and length <= 240


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and rename it when the block succeeds.

    The temporary name keeps the suffix, because many writers choose the format by it.
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
        partial.chmod(0o666 & ~umask)  # mkstemp sets 0600, but a lab shares its results
        partial.replace(path)
        written.add(path.absolute())
    finally:
        partial.unlink(missing_ok=True)


def sweep() -> None:
    """Delete leftovers of killed runs for the files that this process has written.

    Other temporary files stay: another job may be writing to the same folder.
    """
    for folder in {path.parent for path in written if path.parent.is_dir()}:
        for entry in os.scandir(folder):
            match = TEMPORARY.fullmatch(entry.name)
            if match and folder / (match["stem"] + match["suffix"]) in written:
                Path(entry).unlink(missing_ok=True)
    written.clear()


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(value: Any, path: str | Path, indent: int | None = 2) -> None:
    """Write JSON with sorted keys, so that the same value gives the same bytes; seal an object."""
    sealed = value | {seal.KEY: seal.BLANK} if isinstance(value, dict) else value
    text = json.dumps(sealed, indent=indent, sort_keys=True, ensure_ascii=False) + "\n"
    with atomic(path) as partial:
        partial.write_bytes(seal.close_bytes(text.encode()))


def read_json(path: str | Path) -> Any:
    """Read a JSON file that `write_json` wrote.

    Raises
    ------
    StageError
        The file isn't JSON, was damaged, or was edited by hand; see `parse_json`.
    """
    content = Path(path).read_bytes()
    if seal.is_intact_bytes(content) is False:
        raise seal.damage(path)
    try:
        value = parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise StageError(path, f"not readable as JSON ({error})", seal.REMEDY) from error
    if isinstance(value, dict):
        value.pop(seal.KEY, None)
    return value


def read_record(path: Path) -> dict[str, Any]:
    """Read an object that says what a finished file was made of; empty if missing or damaged."""
    try:
        record = read_json(path)
    except (FileNotFoundError, StageError):
        return {}
    return record if isinstance(record, dict) else {}


def parse_json(text: str) -> Any:
    """Parse JSON that may be a stranger's.

    Raises
    ------
    ValueError
        Not JSON, nested too deeply, or an object repeats a key, of which Python keeps the last.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:60]!a} occurs twice")
    return content


def md5sum(path: str | Path) -> str:
    """Return a file's MD5 in hex (GDC's checksum; no security relies on it)."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256sum(path: str | Path) -> str:
    """Return a file's SHA-256 in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
