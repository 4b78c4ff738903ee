"""Output folder: created and tested before any work.

The Snakefile uses this module too, so it needs only the standard library.
"""

from __future__ import annotations

import tempfile
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
