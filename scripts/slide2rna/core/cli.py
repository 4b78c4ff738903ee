"""Command lines: shared options, one-line errors, exit statuses and thread pools."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from slide2rna.core import process
from slide2rna.core.errors import ConfigError, UserError
from slide2rna.core.log import PlainText, T, log

# System error numbers as libraries in Rust and C quote them, and the numbers that mean that a
# folder is not writable, whatever type of exception the library raises.
SYSTEM_ERROR = re.compile(r"(?:os error|errno =) (\d+)")
NOT_WRITABLE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS}
# The loader's words where a limit of memory keeps it from mapping a library.
UNLOADABLE = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
# Address space of torch and faiss is 1.7 GB before any work.
LEAST_SPACE = 2 << 30
COHORT = {
    "bags": "bags of the cohort",
    "expression": "samples x genes, log2(x+1)",
    "slides": "slides.parquet",
    "splits": "unit, fold, part",
    "cohort": "cohort.json",
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return an argument parser whose help keeps the description's line breaks."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_paths(to: argparse.ArgumentParser, **options: str) -> None:
    """Add required path options, each with its help."""
    for name, text in options.items():
        to.add_argument(f"--{name}", type=Path, required=True, help=text)


def add_machine(to: argparse.ArgumentParser, threads: int, device: bool = False) -> None:
    """Add --seed, --threads (default `threads`) and, for stages that can use a GPU, --device."""
    to.add_argument("--seed", type=int, default=1)
    if device:
        to.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    to.add_argument("--threads", type=int, default=threads)


def add_slides_folder(to: argparse.ArgumentParser) -> None:
    """Add the option for the folder that paths of slide tables are relative to."""
    about = "folder that slide paths are relative to: that of the sheet"
    to.add_argument("--slides-folder", type=Path, default=Path(), help=about)


def from_options(kind: type[T], args: argparse.Namespace) -> T:
    """Build a dataclass from the options that are named like its fields."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(args, name) for name in names})


def scoring_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of a command that scores a run."""
    command = parser(description)
    add_scoring(command)
    return command


def add_scoring(to: argparse.ArgumentParser) -> None:
    """Add the options of a command that scores a run; its paths fill `EvaluationInputs`."""
    for name, text in (
        ("draws", "the run's fold-*.zarr"),
        ("models", "its fold-* folders"),
        ("others", "fold-*.zarr of other runs on the same folds"),
    ):
        required = name != "others"
        to.add_argument(f"--{name}", nargs="+", default=[], type=Path, required=required, help=text)
    add_paths(to, **COHORT, pathways="gene sets", out="folder for the tables")
    to.add_argument("--settings", default="{}", help="section evaluate as JSON")
    add_machine(to, threads=2)


def run(
    main: Callable[[Sequence[str] | None], None],
    argv: Sequence[str] | None = None,
    stage: bool = True,
) -> None:
    """Run a command line; a `UserError` becomes one line on stderr and exit status 2.

    A stage logs its start and its finish, ends when the Snakemake that started it ends, and deletes
    the temporary files of earlier attempts. A command that people call by hand (`stage` false)
    does none of this. A file system error is also printed as one line. Ctrl-C ends with status
    130, and a closed pager ends the command quietly, as in any shell.
    """
    name = Path(sys.argv[0]).stem
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainText("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # faiss logs every instruction set that its loader tries, matplotlib its search for fonts.
    for library in ("faiss", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)
    if stage:
        process.end_with_parent()
        log.info("%s: started", name)
    try:
        main(argv)
        sys.stdout.flush()
        if stage:
            # Not imported at the top: threads are set before any library with its own pools loads.
            from slide2rna.core import files

            files.sweep()
            log.info("%s: finished", name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; rerun the same command to continue", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The rest of the buffer has no reader and would raise a traceback at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (cause := _file_system_error(error) or _lack_of_memory(error)) is None:
            raise
        print(f"error: {cause}; fix this, then rerun the same command", file=sys.stderr)
        sys.exit(2)


def _file_system_error(error: Exception) -> str | None:
    """Return a file system error's cause on one line; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        # Libraries in C name the file in the text only.
        cause = _one_line(error.strerror or os.strerror(error.errno))
        return f"{error.filename}: {cause}" if error.filename else cause
    match = SYSTEM_ERROR.search(str(error))
    if match and (isinstance(error, OSError) or int(match[1]) in NOT_WRITABLE):
        return _one_line(str(error))
    return None


def _lack_of_memory(error: Exception) -> str | None:
    """Return the cause if there is too little memory for the work or to load a library."""
    if isinstance(error, MemoryError) or (
        isinstance(error, ImportError) and any(text in str(error) for text in UNLOADABLE)
    ):
        detail = _one_line(str(error))[:200] or type(error).__name__
        return f"too little memory ({detail}); see ulimit -v, or give the job more"
    return None


def _one_line(text: str) -> str:
    """Join a message up to its first empty line; HDF5 breaks the line before the cause."""
    return " ".join(text.partition("\n\n")[0].split())


def set_threads(threads: int) -> None:
    """Fix the size of native thread pools; call this before numpy and torch start theirs.

    The number of threads may change the last bit of a stage's results, and idle OpenMP threads
    spin, so the number comes from the configuration and never from the machine.

    Raises
    ------
    ConfigError
        The process may use too little address space for the numerical libraries.
    """
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < LEAST_SPACE:
        cause = f"{space >> 20} MB are too little to load the libraries"
        raise ConfigError("ulimit -v", cause, f"raise it to {LEAST_SPACE >> 20} MB or more")
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "POLARS_MAX_THREADS",
    ):
        os.environ[name] = str(threads)
