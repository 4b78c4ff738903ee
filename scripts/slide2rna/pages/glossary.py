"""Glossary of the HTML pages, for pathologists and statisticians: resources/glossary.yaml."""

from __future__ import annotations

from typing import NamedTuple

import yaml

from slide2rna.core.root import ROOT


class Term(NamedTuple):
    """A word as written on the page, and its meaning there."""

    word: str
    text: str


def _read() -> dict[str, Term]:
    text = (ROOT / "resources" / "glossary.yaml").read_text(encoding="utf-8")
    return {key: Term(**entry) for key, entry in yaml.safe_load(text).items()}


# In page order: from the slide to the numbers.
TERMS = _read()
