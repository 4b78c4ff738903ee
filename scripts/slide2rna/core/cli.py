"""What all command lines share: one-line errors, JSON settings, progress on any kind of output."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from slide2rna.core import process
from slide2rna.core.errors import UserError
from slide2rna.core.log import T, log

# How libraries in Rust and C pass on an error of the system, and those of them that say that a
# folder can't be written, whatever type of exception the library makes of it.
OF_SYSTEM = re.compile(r"(?:os error|errno =) (\d+)")
NOT_WRITABLE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS}
COHORT = {
    "bags": "bags of the cohort",
    "expression": "samples x genes, log2(x+1)",
    "slides": "slides.parquet",
    "splits": "unit, fold, part",
    "cohort": "cohort.json",
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose help shows the description as it was written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_paths(to: argparse.ArgumentParser, **options: str) -> None:
    """Options that are required paths, each with its help."""
    for name, text in options.items():
        to.add_argument(f"--{name}", type=Path, required=True, help=text)


def add_machine(to: argparse.ArgumentParser, threads: int, device: bool = False) -> None:
    """Seed, threads (by default so many) and, for what may run on a GPU, the device."""
    to.add_argument("--seed", type=int, default=1)
    if device:
        to.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    to.add_argument("--threads", type=int, default=threads)


def from_options(kind: type[T], args: argparse.Namespace) -> T:
    """A dataclass from the options that have its fields' names."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(args, name) for name in names})


def scoring_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of the commands that score a run; the paths are fields of `scoring.Inputs`."""
    found = parser(description)
    for name, text in (
        ("draws", "the run's fold-*.zarr"),
        ("models", "its fold-* folders"),
        ("others", "fold-*.zarr of other runs on the same folds"),
    ):
        needed = name != "others"
        found.add_argument(
            f"--{name}", nargs="+", default=[], type=Path, required=needed, help=text
        )
    add_paths(found, **COHORT, pathways="gene sets", out="folder for the tables")
    found.add_argument("--settings", default="{}", help="section evaluate as JSON")
    add_machine(found, threads=2)
    return found


def run(
    main: Callable[[Sequence[str] | None], None],
    argv: Sequence[str] | None = None,
    stage: bool = True,
) -> None:
    """Run a command line; a `UserError` becomes one line on stderr and exit status 2.

    The first and the last line of a stage's log say that it started and that it finished; it ends
    with the Snakemake that started it, and leaves no temporary file of an earlier try. What people
    call by hand (`stage` false) says only what it has to say. An error of the file system
    is a line, too. Ctrl-C ends with status 130, and a pager that was closed ends it quietly, as any
    command of a shell.
    """
    name = Path(sys.argv[0]).stem
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    # faiss reports every instruction set that its loader tries, matplotlib that it looks for fonts.
    for talkative in ("faiss", "matplotlib"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    if stage:
        process.end_with_parent()
        log.info("%s: started", name)
    try:
        main(argv)
        sys.stdout.flush()
        if stage:
            # Not above: threads are set before anything is imported that has pools of its own.
            from slide2rna.core import files

            files.sweep()
            log.info("%s: finished", name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go, and would be a traceback at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (cause := _of_system(error)) is None:
            raise
        print(f"error: {cause}; mend that and run the same command again", file=sys.stderr)
        sys.exit(2)


def _of_system(error: Exception) -> str | None:
    """What the file system complains of, on one line; None if the error isn't its own."""
    if isinstance(error, OSError) and error.errno is not None:
        # Libraries in C have the file's name in the text alone.
        cause = _on_a_line(error.strerror or os.strerror(error.errno))
        return f"{error.filename}: {cause}" if error.filename else cause
    found = OF_SYSTEM.search(str(error))
    if found and (isinstance(error, OSError) or int(found[1]) in NOT_WRITABLE):
        return _on_a_line(str(error))
    return None


def _on_a_line(text: str) -> str:
    """A library's words up to an empty line; HDF5 breaks a line before it names the cause."""
    return " ".join(text.partition("\n\n")[0].split())


def set_threads(threads: int) -> None:
    """Fix the native thread pools; call it before numpy-heavy libraries start theirs.

    A stage's results may depend on the number of threads in the last bit, and idle OpenMP
    threads spin, so the number comes from the config and never from the machine.
    """
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "POLARS_MAX_THREADS",
    ):
        os.environ[name] = str(threads)
