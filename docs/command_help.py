"""Help texts of commands and of their sub-steps, as blocks of Markdown."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence

WIDTH = "92"


def block(text: str) -> str:
    """A text as it is, on a page."""
    return f"```text\n{text.rstrip()}\n```\n"


def steps(text: str) -> list[str]:
    """The sub-steps of a command, from its help."""
    found = re.search(r"^usage: .*\{([\w,]+)\} \.\.\.$", text, re.M)
    return found[1].split(",") if found else []


def of(program: str, main: Callable[[Sequence[str]], None], *words: str) -> str:
    """What a command, or a sub-step that `words` name, says to --help."""
    output, before, width = io.StringIO(), sys.argv[0], os.environ.get("COLUMNS")
    sys.argv[0], os.environ["COLUMNS"] = program, WIDTH
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        sys.argv[0] = before
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return output.getvalue()
