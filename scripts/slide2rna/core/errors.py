"""Errors that a user can fix: one class per kind.

Every message names the file, row or key, the cause, and the remedy, in one line. Names from outside
may be in it, so characters that would change a terminal or a page are written as escapes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# Control, format and surrogate characters, and separators of lines and paragraphs.
CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def has_control(text: str) -> bool:
    """Return whether a text holds control, invisible or bidirectional characters.

    They would move a terminal's cursor, hide letters, or reverse a line of a log or a page.
    """
    return not text.isprintable() and any(unicodedata.category(one) in CONTROL for one in text)


def escape(text: str) -> str:
    """Return a text with such characters as escapes, except tabs and line ends."""
    if not has_control(text):
        return text
    return "".join(
        ascii(one)[1:-1] if one not in "\t\n" and has_control(one) else one for one in text
    )


def list_names(names: Sequence[str], most: int = 5) -> str:
    """Join the first `most` names for a message, with the number of further ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _one_line(text: str) -> str:
    return escape(text.replace("\n", " ").replace("\t", " "))


class UserError(Exception):
    """Base class of errors that a user can fix: printed as one line, exit status 2."""

    def __init__(self, where: object, cause: str, remedy: str) -> None:
        self.where, self.cause, self.remedy = str(where), cause, remedy
        super().__init__(_one_line(f"{where}: {self.reason}"))

    @property
    def reason(self) -> str:
        """Cause and remedy without `where`, for tables, which must not hold local paths."""
        return _one_line(f"{self.cause}; {self.remedy}")


class ConfigError(UserError):
    """A key of config.yaml is unknown, of the wrong type or out of range."""


class SheetError(UserError):
    """The sample sheet or the expression table is unusable."""


class SlideError(UserError):
    """One slide can't be opened, read or scaled; the stage continues with the others."""


class WeightsError(UserError):
    """An encoder's or a model's weights are missing or don't match."""


class DownloadError(UserError):
    """A file is missing, or differs from the manifest's entry."""


class DeviceError(UserError):
    """The requested device is missing."""


class PathwayError(UserError):
    """Gene sets can't be read, or none remains for this gene list."""


class LeakError(UserError):
    """A split unit, or the same slide, is in two parts of one fold."""


class StageError(UserError):
    """A stage's inputs don't match each other."""
