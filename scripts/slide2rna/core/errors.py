"""Errors that a user can fix: one class per kind.

Every message names the file, row or key, the cause, and the remedy, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence


def list_names(names: Sequence[str], most: int = 5) -> str:
    """Join the first `most` names for a message, with the number of further ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class UserError(Exception):
    """Base class of errors that a user can fix: printed as one line, exit status 2."""

    def __init__(self, where: object, cause: str, remedy: str) -> None:
        self.where, self.cause, self.remedy = str(where), cause, remedy
        super().__init__(f"{where}: {self.reason}".replace("\n", " "))

    @property
    def reason(self) -> str:
        """Cause and remedy without `where`, for tables, which must not hold local paths."""
        return f"{self.cause}; {self.remedy}".replace("\n", " ")


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
