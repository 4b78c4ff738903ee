"""HTML rendering: templates, glossary links, and pictures as data URIs."""

from __future__ import annotations

import base64
import io as bytes_io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from slide2rna.core.types import Px
from slide2rna.pages import cautions, glossary
from slide2rna.pages.numbers import (
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_probability,
)

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL_PX = 560


class EmbeddedPicture(TypedDict):
    """A picture as a data URI, with its size in CSS pixels."""

    uri: str
    width: int
    height: int


def render(template: str, context: dict[str, Any]) -> str:
    """Render a template; number figures and link terms in order of appearance."""
    numbers = itertools.count(1)
    empty = {"figure": {}, "chart": {}, "library": ""}
    helpers = {"counted": lambda: next(numbers), "term": linker(), "glossary": glossary.TERMS}
    return environment().get_template(template).render(**(empty | helpers | context))


def linker() -> Callable[..., Markup]:
    """Return a function that links a term to the glossary at its first use only."""
    seen: set[str] = set()

    def term(key: str, words: str | None = None) -> Markup:
        text = escape(words or glossary.TERMS[key].word)
        if key in seen:
            return text
        seen.add(key)
        return Markup('<a class="term" href="#term-{}">{}</a>').format(key, text)

    return term


def environment() -> jinja2.Environment:
    """Return Jinja's environment with the report's filters; an undefined name is an error."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["num"] = format_number
    templates.filters["span"] = format_interval
    templates.filters["count"] = format_count
    templates.filters["tiny"] = format_probability
    templates.filters["seconds"] = format_duration
    templates.filters["caution"] = cautions.caution
    return templates


def picture(path: Path) -> EmbeddedPicture:
    """Return a figure as a data URI, with its size in CSS pixels (150 dpi, displayed at 100).

    Lossless WebP needs a third of the PNG's bytes for the same pixels.
    """
    with Image.open(path) as image:
        size = (round(image.width / 1.5), round(image.height / 1.5))
        uri = _uri(image.convert("RGB"), "webp", lossless=True, method=4)
    return {"uri": uri, "width": size[0], "height": size[1]}


def thumbnail(path: Path, size_px: Px = THUMBNAIL_PX) -> str:
    """Return a slide's overview, at most `size_px` pixels a side, as a data URI.

    A printed PDF embeds JPEG unchanged but decompresses other formats.
    """
    with Image.open(path) as image:
        image.thumbnail((size_px, size_px))
        return _uri(image.convert("RGB"), "jpeg", quality=66, optimize=True)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = bytes_io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
