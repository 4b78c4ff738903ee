"""Stamps of input files: digests of what a run reads, so that a replaced file is noticed.

A table counts with the SHA-256 of its content. A slide or a features file is too large for that:
its stamp is the digest of its size, its first and last MiB, and blocks between them. `Stamps`
keeps digests in a small JSON file and computes one again only if the file's size, times or inode
have changed. The time of the last status change is one of them, since no tool can set it back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slide2rna.core.files import read_record, sha256sum, write_json

# Folders that belong to a slide, by its suffix.
COMPANIONS = {".mrxs": "{}", ".vsi": "_{}_"}
CACHE = ".slide2rna-stamps.json"
MISSING = "missing"
MIB = 1 << 20
BLOCKS, BLOCK = 16, 1 << 16  # number and bytes of the blocks between first and last MiB
READERS = 8  # files that are read at the same time: disks on a network answer slowly

Digest = Callable[[str], str]
Status = list[int]


def sample(path: str | Path) -> str:
    """Return the digest of a file's size, its first and last MiB, and 16 blocks between them.

    Files up to 4 MiB are read whole.

    Raises
    ------
    OSError
        The file can't be read.
    """
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        if size <= 4 * MIB:
            digest.update(handle.read())
        else:
            step = (size - 2 * MIB) // (BLOCKS + 1)
            starts = [MIB + number * step for number in range(1, BLOCKS + 1)]
            for start, length in [(0, MIB), *((s, BLOCK) for s in starts), (size - MIB, MIB)]:
                handle.seek(start)
                digest.update(handle.read(length))
    return digest.hexdigest()[:32]


def slide_files(path: str | Path) -> list[Path]:
    """Return the files of a slide: the file, all files of a folder, or both for MIRAX and VSI."""
    path = Path(path)
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if file.is_file()]
    companion = COMPANIONS.get(path.suffix.lower())
    if companion is None:
        return [path]
    folder = path.with_name(companion.format(path.stem))
    return [path, *(file for file in sorted(folder.rglob("*")) if file.is_file())]


def slide_stamp(path: str | Path) -> str:
    """Return the stamp of a slide with its companion files; `missing` if one can't be read."""
    try:
        return combine(sample(file) for file in slide_files(path))
    except OSError:
        return MISSING


def combine(digests: Iterable[str]) -> str:
    """Return one digest of several; of one alone, itself."""
    listed = list(digests)
    if len(listed) == 1:
        return listed[0]
    return hashlib.sha256(" ".join(listed).encode()).hexdigest()[:32]


class Stamps:
    """Digests of files, cached in a JSON file.

    Parameters
    ----------
    cache
        The file; `cache_of` gives its place.
    trusted
        True in a job on a cluster's node: a cached digest is taken without looking at the file.
    """

    def __init__(self, cache: Path, trusted: bool = False) -> None:
        self.cache, self.trusted = cache, trusted
        self._folder = f"{cache.parent.absolute()}{os.sep}"
        self._known = _read_cache(cache)
        self._changed = False

    def contents(self, paths: Sequence[str | Path]) -> list[str]:
        """Return the SHA-256 of files; `missing` for a file that can't be read."""
        return self._digests("sha256", sha256sum, [str(path) for path in paths])

    def samples(self, paths: Sequence[str | Path]) -> list[str]:
        """Return the stamps of slides or features files; `missing` for one that can't be read."""
        files = [[str(file) for file in slide_files(path)] for path in paths]
        flat = self._digests("sample", sample, [file for group in files for file in group])
        found = iter(flat)
        stamps = [[next(found) for _ in group] for group in files]
        return [MISSING if not s or MISSING in s else combine(s) for s in stamps]

    def known_sample(self, path: str | Path) -> str | None:
        """Return a file's cached stamp without looking at the file."""
        entry = self._known["sample"].get(self._key(str(path)))
        return entry[1] if entry else None

    def _digests(self, kind: str, digest: Digest, paths: list[str]) -> list[str]:
        """Return cached digests, compute the others side by side, and write the cache."""
        known, found = self._known[kind], dict[str, str]()
        stale: dict[str, Status] = {}
        for path in dict.fromkeys(paths):
            entry = known.get(self._key(path))
            if entry and self.trusted:
                found[path] = entry[1]
                continue
            status = _status(path)
            if status is None:
                found[path] = MISSING
            elif entry and entry[0] == status:
                found[path] = entry[1]
            else:
                stale[path] = status
        with ThreadPoolExecutor(READERS) as pool:
            computed = pool.map(lambda path: _attempt(digest, path), stale)
            for (path, status), value in zip(stale.items(), computed, strict=True):
                found[path] = value
                if value != MISSING and _status(path) == status:
                    known[self._key(path)] = (status, value)
                    self._changed = True
        self._write()
        return [found[path] for path in paths]

    def _write(self) -> None:
        if not self._changed or self.trusted:
            return
        kinds = {
            kind: {name: [*status, digest] for name, (status, digest) in entries.items()}
            for kind, entries in self._known.items()
        }
        try:
            write_json(kinds, self.cache)
        except OSError:  # a cache that can't be written costs time alone
            return
        self._changed = False

    def _key(self, path: str) -> str:
        """Return a path relative to the cache's folder, if it is below it."""
        return os.path.abspath(path).removeprefix(self._folder)


def cache_of(folder: Path, elsewhere: Path) -> Path:
    """Return the cache of a folder of inputs: in it, or `elsewhere` if it isn't writable."""
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder / CACHE
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return elsewhere / f"stamps-{name}.json"


def _status(path: str) -> Status | None:
    """Return size, times and inode of a file; None if it is missing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _attempt(digest: Digest, path: str) -> str:
    try:
        return digest(path)
    except OSError:
        return MISSING


def _read_cache(path: Path) -> dict[str, dict[str, tuple[Status, str]]]:
    """Return the cached digests by kind and name; an unreadable cache is an empty one."""
    try:
        kinds = read_record(path)
        return {
            kind: {
                str(name): ([int(number) for number in entry[:4]], str(entry[4]))
                for name, entry in kinds[kind].items()
            }
            for kind in ("sha256", "sample")
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return {"sha256": {}, "sample": {}}
