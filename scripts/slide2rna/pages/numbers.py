"""What turns numbers and pictures into HTML."""

from __future__ import annotations

import math
from typing import Any


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    value = round(value, digits) + 0.0  # -0.0001 is 0.000, not -0.000
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")


def span(row: dict[str, Any] | None, digits: int = 3) -> str:
    """The interval of a row."""
    if row is None or row.get("low") is None or row.get("high") is None:
        return ""
    if row["low"] == row["high"]:
        return ""
    return f"{number(row['low'], digits)} to {number(row['high'], digits)}"


def count(value: float | None) -> str:
    """A whole number with separators."""
    return "–" if value is None else f"{value:,.0f}"


def tiny(value: float | None) -> str:
    """A probability to two digits, however small."""
    return "–" if value is None else f"{value:.2g}"


def seconds(value: float | None) -> str:
    """A duration in the unit in which it reads best."""
    if value is None:
        return "–"
    for unit, size in (("h", 3600), ("min", 60)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} s"
