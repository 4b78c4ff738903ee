"""Seal of a file: its SHA-256 within itself, by which a reader notices damage.

A file has the text `slide2rna-sha256:` and 64 hex digits where its format keeps metadata. The
digest is of the file with zeros in place of the digits, so it covers names, shapes and headers,
which the checksums of h5 and Parquet leave out. A file without this text is from another program
and is read as it is.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

from slide2rna.core.errors import StageError

KEY = "seal"
MARK = "slide2rna-sha256:"
DIGITS = 64
BLANK = MARK + "0" * DIGITS
PATTERN = re.compile(MARK.encode() + b"([0-9a-f]{64})")
# Where the seal is searched: safetensors and h5 have it near their start, Parquet near its end.
HEAD, TAIL = 1 << 20, 1 << 26
BLOCK = 1 << 20
REMEDY = "delete it and rerun, or copy it again"


def find(content: bytes | mmap.mmap) -> int | None:
    """Return the position of the seal's digits; None without a seal."""
    if match := PATTERN.search(content[:HEAD]):
        return match.start(1)
    start = max(0, len(content) - TAIL)
    while (start := content.find(MARK.encode(), start)) >= 0:
        if match := PATTERN.match(content[start : start + len(BLANK)]):
            return start + match.start(1)
        start += 1
    return None


def digest_of(path: Path, position: int) -> str:
    """Return the SHA-256 of a file with zeros for the digits at `position`, in hex."""
    digest, end = hashlib.sha256(), position + DIGITS
    with open(path, "rb") as handle:
        while position > handle.tell():
            digest.update(handle.read(min(BLOCK, position - handle.tell())))
        digest.update(b"0" * DIGITS)
        handle.seek(end)
        while block := handle.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def close(path: Path) -> None:
    """Write the digest of a finished file over the zeros of its `BLANK` seal."""
    position, _ = _locate(path)
    if position is None:
        raise ValueError(f"{path} has no seal to fill")
    digest = digest_of(path, position)
    with open(path, "r+b") as handle:
        handle.seek(position)
        handle.write(digest.encode())


def is_intact(path: Path) -> bool | None:
    """Return whether a file matches its seal; None if it has none."""
    position, stored = _locate(path)
    return None if position is None else digest_of(path, position) == stored


def check(path: str | Path, remedy: str = REMEDY) -> bool:
    """Compare a file with its seal, and return whether it has one; a file without one passes.

    Raises
    ------
    StageError
        The file was damaged, or edited by hand.
    """
    intact = is_intact(Path(path))
    if intact is False:
        raise damage(path, remedy)
    return intact is not None


def damage(path: object, remedy: str = REMEDY) -> StageError:
    """Return the error of a file that differs from its digest."""
    return StageError(path, "damaged or edited: it differs from its own SHA-256", remedy)


def close_bytes(content: bytes) -> bytes:
    """Return the content of a small file with its `BLANK` seal filled."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(BLANK.encode(), (MARK + digest).encode(), 1)


def is_intact_bytes(content: bytes) -> bool | None:
    """Return whether the content of a small file matches its seal; None if it has none."""
    position = find(content)
    if position is None:
        return None
    end = position + DIGITS
    blank = content[:position] + b"0" * DIGITS + content[end:]
    return hashlib.sha256(blank).hexdigest().encode() == content[position:end]


def _locate(path: Path) -> tuple[int | None, str]:
    """Return the position of a file's seal, and its digits."""
    if not path.stat().st_size:
        return None, ""
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = find(data)
        digits = b"" if position is None else data[position : position + DIGITS]
    return position, digits.decode()
