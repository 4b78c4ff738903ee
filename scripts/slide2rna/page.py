"""What turns numbers and pictures into HTML."""

from __future__ import annotations

import base64
import io as bytes_io
import itertools
import math
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL_PX = 460


def render(template: str, context: dict[str, Any]) -> str:
    """The page; figures are numbered in the order in which they appear."""
    numbers = itertools.count(1)
    return environment().get_template(template).render(**context, counted=lambda: next(numbers))


def environment() -> jinja2.Environment:
    """Jinja with the report's filters; a name that is not there is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["num"] = number
    made.filters["span"] = span
    made.filters["count"] = count
    made.filters["tiny"] = tiny
    made.filters["seconds"] = seconds
    return made


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


def picture(path: Path) -> dict[str, Any]:
    """A PNG as a data URI, with its width in CSS pixels (150 dpi, shown at 100)."""
    with Image.open(path) as image:
        width = round(image.width / 1.5)
    data = base64.b64encode(path.read_bytes()).decode()
    return {"uri": f"data:image/png;base64,{data}", "width": width}


def thumbnail(path: Path) -> str:
    """A slide's overview, made small, as a data URI."""
    buffer = bytes_io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        image.convert("RGB").save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
