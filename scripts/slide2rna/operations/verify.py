"""Check of the files of a results folder or a packaged model against their checksums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from slide2rna.core import files, seal
from slide2rna.core.errors import StageError, UserError
from slide2rna.package import digests
from slide2rna.package.about_check import check_about
from slide2rna.package.predictor import ABOUT
from slide2rna.sampling import draw_store
from slide2rna.storage import parquet, split_file

# Names of temporary files and folders, which a later run completes or deletes.
UNFINISHED = ".partial"


@dataclass
class Verdict:
    """Result of a check: damaged files with their reason, and numbers of the others.

    Attributes
    ----------
    damaged : one line per file.
    intact : number of files that match their checksums.
    unchecked : number of files without any checksum, by their suffix.
    """

    damaged: list[str] = field(default_factory=list)
    intact: int = 0
    unchecked: Counter[str] = field(default_factory=Counter)


def verify(folder: Path) -> Verdict:
    """Check every file below a folder whose format has checksums.

    Raises
    ------
    StageError
        The folder is missing.
    """
    if not folder.is_dir():
        raise StageError(folder, "no such folder", "give results/<cohort> or a packaged model")
    verdict = Verdict()
    for path in _entries(folder):
        try:
            checked = check_entry(path)
        except (UserError, OSError) as error:
            verdict.damaged.append(str(error).splitlines()[0])
            continue
        if checked:
            verdict.intact += checked
        else:
            verdict.unchecked[path.suffix or path.name] += 1
    return verdict


def check_entry(path: Path) -> int:
    """Check a file or a draws file; return the number of files that were checked.

    Raises
    ------
    StageError
        It is damaged.
    """
    checks: dict[str, Callable[[Path], bool]] = {
        ".parquet": _check_table,
        ".json": _check_json,
        ".h5": seal.check,
        ".safetensors": _check_tensors,
        split_file.SUFFIX: _check_digest,
    }
    if path.suffix == ".zarr":
        return _check_draws(path)
    return int(checks[path.suffix](path)) if path.suffix in checks else 0


def _entries(folder: Path) -> Iterator[Path]:
    """Yield the finished files below a folder, and each draws file as one."""
    for path in sorted(folder.iterdir()):
        if UNFINISHED in path.name:
            continue
        if path.is_dir() and path.suffix != ".zarr":
            yield from _entries(path)
        elif not split_file.digest_path(path).is_file():  # checked with its digest
            yield path


def _check_table(path: Path) -> bool:
    """Compare a table with its seal, or read it for its page checksums."""
    if not seal.check(path):
        parquet.read(path)
    return True


def _check_tensors(path: Path) -> bool:
    sealed = seal.check(path)
    try:
        with safe_open(path, "numpy"):
            return sealed
    except SafetensorError as error:
        raise StageError(path, f"not readable as safetensors ({error})", seal.REMEDY) from error


def _check_json(path: Path) -> bool:
    about = files.read_json(path)
    if path.name == ABOUT:
        check_about(path, about)
        digests.check(path.parent, about["digests"], weights=True)
    return seal.is_intact(path) is not None


def _check_digest(path: Path) -> bool:
    table = path.with_suffix("")
    if not table.is_file():
        raise StageError(table, "missing, but its digest is there", seal.REMEDY)
    split_file.read(table)
    return True


def _check_draws(path: Path) -> int:
    """Read all chunks of a draws file, a slide at a time; return the number of its files."""
    group = draw_store.open_draws(path)
    draw_store.check_count(path, group)
    for name in draw_store.array_names(path):
        array: Any = group[name]
        for row in range(array.shape[0]):
            with draw_store.reading(path):
                np.asarray(array[row])
    return sum(file.is_file() for file in path.rglob("*"))
