"""What can go wrong for a user, one class per kind of trouble.

Every message names the file, row or key, the cause, and the remedy, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence


def listing(names: Sequence[str], most: int = 5) -> str:
    """Names for a message: the first few, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class UserError(Exception):
    """Base of all errors that a user can mend; printed as one line, exit status 2."""

    def __init__(self, where: object, cause: str, remedy: str) -> None:
        self.where, self.cause, self.remedy = str(where), cause, remedy
        super().__init__(f"{where}: {self.reason}".replace("\n", " "))

    @property
    def reason(self) -> str:
        """Cause and remedy, for a table whose row names the slide: no path of this machine."""
        return f"{self.cause}; {self.remedy}".replace("\n", " ")


class ConfigError(UserError):
    """A key of config.yaml is unknown, of the wrong type or out of range."""


class SheetError(UserError):
    """The sample sheet or the expression table can't be used."""


class SlideError(UserError):
    """One slide can't be opened, read or scaled; the others go on without it."""


class WeightsError(UserError):
    """An encoder's or a model's weights are missing or don't fit."""


class DownloadError(UserError):
    """A file isn't there, or isn't the file that the manifest promised."""


class DeviceError(UserError):
    """The device that was asked for isn't there."""


class PathwayError(UserError):
    """Gene sets can't be read, or none is left for this gene list."""


class LeakError(UserError):
    """A split unit, or the same slide, sits in two parts of one fold."""


class StageError(UserError):
    """A stage's inputs don't fit together."""
