"""Safetensors files with a seal, and sorted metadata, so that the same content has the same bytes.

Importing this loads no torch: the caller passes the writer, of arrays or of tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from slide2rna.core import seal
from slide2rna.core.files import atomic

Save = Callable[[dict[str, Any], Path, dict[str, str]], None]


def write(
    save: Save,
    tensors: Mapping[str, Any],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors atomically by `save_file` of safetensors.numpy or safetensors.torch."""
    with atomic(path) as partial:
        save(dict(tensors), partial, sealed_metadata(metadata or {}))
        _sort_header(partial)
        seal.close(partial)


def sealed_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return sorted metadata after an empty seal, which stands first to be near the start."""
    return {seal.KEY: seal.BLANK, **dict(sorted(metadata.items()))}


@contextmanager
def open_checked(path: str | Path, framework: str = "numpy") -> Iterator[safe_open]:
    """Open a file whose bytes match its seal; a file of another program has none.

    Raises
    ------
    StageError
        The file was damaged.
    OSError, SafetensorError
        It is missing, or of another format.
    """
    seal.check(path)
    with safe_open(path, framework) as file:
        yield file


def read_all(path: str | Path, framework: str = "numpy") -> tuple[dict[str, Any], dict[str, str]]:
    """Read all tensors and the metadata; errors as in `open_checked`."""
    with open_checked(path, framework) as file:
        metadata = dict(sorted((file.metadata() or {}).items()))
        metadata.pop(seal.KEY, None)
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, metadata


def _sort_header(path: Path) -> None:
    """Sort the metadata, which safetensors writes in random order."""
    with open(path, "r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        metadata = header["__metadata__"]
        rest = {name: text for name, text in metadata.items() if name != seal.KEY}
        header["__metadata__"] = sealed_metadata(rest)
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            handle.seek(8)
            handle.write(text.ljust(length))
