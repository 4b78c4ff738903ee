"""What turns numbers and pictures into HTML."""

from __future__ import annotations

import base64
import io as bytes_io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from slide2rna.pages import glossary
from slide2rna.pages.numbers import count, number, seconds, span, tiny

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL_PX = 560


def render(template: str, context: dict[str, Any]) -> str:
    """The page; figures are numbered, and terms linked, in the order in which they appear."""
    numbers = itertools.count(1)
    none = {"figure": {}, "chart": {}, "library": ""}
    given = none | {"counted": lambda: next(numbers), "term": linker(), "glossary": glossary.TERMS}
    return environment().get_template(template).render(**(given | context))


def linker() -> Callable[..., Markup]:
    """A function that links a term to the glossary where it first comes, and then no more."""
    seen: set[str] = set()

    def term(key: str, words: str | None = None) -> Markup:
        text = escape(words or glossary.TERMS[key].word)
        if key in seen:
            return text
        seen.add(key)
        return Markup('<a class="term" href="#term-{}">{}</a>').format(key, text)

    return term


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


def picture(path: Path) -> dict[str, Any]:
    """A figure as a data URI, with its size in CSS pixels (150 dpi, shown at 100).

    WebP without loss: the same pixels in a third of the PNG's bytes.
    """
    with Image.open(path) as image:
        size = (round(image.width / 1.5), round(image.height / 1.5))
        uri = _uri(image.convert("RGB"), "webp", lossless=True, method=4)
    return {"uri": uri, "width": size[0], "height": size[1]}


def thumbnail(path: Path, size_px: int = THUMBNAIL_PX) -> str:
    """A slide's overview, at most so many pixels a side, as a data URI.

    JPEG, which a printer's PDF takes as it is; anything else would be unpacked there.
    """
    with Image.open(path) as image:
        image.thumbnail((size_px, size_px))
        return _uri(image.convert("RGB"), "jpeg", quality=66, optimize=True)


def _uri(image: Image.Image, kind: str, **how: Any) -> str:
    buffer = bytes_io.BytesIO()
    image.save(buffer, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
