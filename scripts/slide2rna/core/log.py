"""Log and progress: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from slide2rna.core.errors import escape

log = logging.getLogger("slide2rna")
T = TypeVar("T")


class PlainText(logging.Formatter):
    """A format whose lines hold no control characters: names of files and slides are in them."""

    def format(self, record: logging.LogRecord) -> str:
        return escape(super().format(record))


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on a terminal, or a plain line every ten seconds in a log."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total)
        return
    last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            log.info("%s: %d of %s", what, number, total if total is not None else "?")


class _LogLines:
    """A stream for tqdm that writes each line to the log."""

    def write(self, text: str) -> None:
        if line := text.strip():
            log.info("%s", line)

    def flush(self) -> None:
        pass


def _lines() -> dict[str, Any]:
    """Return a bar's options for a log file: a plain line every ten seconds."""
    line = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left"
    return {"file": _LogLines(), "bar_format": line, "mininterval": 10, "ncols": 100}


class LineBar(tqdm):
    """A tqdm bar for libraries that take a class: plain lines in a log file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **(options if sys.stderr.isatty() else options | _lines()))


@contextmanager
def byte_bar(total: int | None, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a thread-safe function that counts bytes; show amount, rate and time left.

    A bar on a terminal, or a plain line every ten seconds in a log. `total` is in bytes.
    """
    layout = {} if sys.stderr.isatty() else _lines()
    with tqdm(desc=what, total=total, unit="B", unit_scale=True, miniters=1, **layout) as bar:

        def advance(n: int) -> None:
            with bar.get_lock():
                bar.update(n)

        yield advance
