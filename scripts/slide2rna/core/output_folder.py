"""The folder that results go to: made and tried before any work.

The Snakefile uses it, too, so it needs nothing but Python itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from slide2rna.core.errors import ConfigError


def make_output_folder(path: str | Path, remedy: str) -> None:
    """Make a folder, and see that files can be written there.

    Raises
    ------
    ConfigError
        It is a file, or nothing can be written there; says `remedy`.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        where = next(one for one in (path, *path.parents) if one.is_file() or one.is_symlink())
        raise ConfigError(where, "is a file, not a folder", remedy) from error
    except OSError as error:
        cause = f"nothing can be written there ({error.strerror})"
        raise ConfigError(path, cause, remedy) from error
