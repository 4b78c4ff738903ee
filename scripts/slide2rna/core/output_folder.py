"""Output folder: created and tested before any work, and written by one command at a time.

The Snakefile uses this module too, so it needs only the standard library.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slide2rna.core.errors import ConfigError


def make_output_folder(path: str | Path, remedy: str) -> None:
    """Create a folder and check that it is writable.

    Raises
    ------
    ConfigError
        The path is a file, or isn't writable; the message ends with `remedy`.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        where = next(p for p in (path, *path.parents) if p.is_file() or p.is_symlink())
        raise ConfigError(where, "is a file, not a folder", remedy) from error
    except OSError as error:
        cause = f"nothing can be written there ({error.strerror})"
        raise ConfigError(path, cause, remedy) from error


@contextmanager
def alone(folder: Path, name: str = "") -> Iterator[None]:
    """Hold the lock of a folder, or of `name` in it; wait while another command holds it.

    The lock ends with its process, however that ends. The empty file `.<name>.lock` stays: a
    command that deleted it could let two others in.
    """
    from filelock import FileLock, Timeout

    from slide2rna.core.log import log

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another command writes here; waiting for it", folder / name)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        # Some network disks have no locks.
        log.warning("%s: can't be locked (%s); let one command write here", folder / name, error)
    try:
        yield
    finally:
        lock.release()
