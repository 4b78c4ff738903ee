"""Number formats of the HTML pages."""

from __future__ import annotations

import math
from typing import Any


def format_number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Format a number with a true minus sign; a dash if it is missing or not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    value = round(value, digits) + 0.0  # -0.0001 is 0.000, not -0.000
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")


def format_interval(row: dict[str, Any] | None, digits: int = 3) -> str:
    """Format a row's interval; empty if it is missing or has no width."""
    if row is None or row.get("low") is None or row.get("high") is None:
        return ""
    if row["low"] == row["high"]:
        return ""
    return f"{format_number(row['low'], digits)} to {format_number(row['high'], digits)}"


def format_count(value: float | None) -> str:
    """Format a whole number with separators."""
    return "–" if value is None else f"{value:,.0f}"


def format_probability(value: float | None) -> str:
    """Format a probability with two digits, however small."""
    return "–" if value is None else f"{value:.2g}"


def format_duration(value: float | None) -> str:
    """Format a duration in seconds as h, min or s."""
    if value is None:
        return "–"
    for unit, size in (("h", 3600), ("min", 60)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} s"
