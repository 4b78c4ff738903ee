"""Golden pages: the full text of one report, one slide page and one model card.

Other tests assert numbers, labels and links, so prose may change without them. Here every change of
a sentence is seen. `SLIDE2RNA_GOLDEN=write` in front of pytest writes the pages of `tests/golden`
again.
"""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import packaged
import predictions_made as made
import pytest
from slide2rna.predict import slide_page
from slide2rna.studies.shift.decision import CAL
from written_reports import folder, full

__all__ = ["folder", "full"]  # the fixtures

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
BLOCKS = frozenset({"h1", "h2", "h3", "p", "li", "caption", "figcaption", "dt", "dd", "th", "div"})
# Rows of tables hold numbers and names; citations are tested with their data.
SKIPPED = frozenset({"script", "style", "tbody", "pre"})


class Prose(HTMLParser):
    """The page's text without table rows, a block per line."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self.skipping = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.skipping += tag in SKIPPED
        if tag in BLOCKS:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self.skipping -= tag in SKIPPED
        if tag in BLOCKS:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.lines[-1] += data


def check(name: str, text: str) -> None:
    """Compare with the golden file; numbers are masked, as they differ between machines."""
    masked = re.sub(r"\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "#", text)
    lines = (re.sub(r"\s+", " ", line).strip() for line in masked.splitlines())
    found = "\n".join(line for line in lines if line) + "\n"
    path = GOLDEN / name
    if os.environ.get("SLIDE2RNA_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text(), f"prose changed: see the docstring of {Path(__file__).name}"


def prose(page: str) -> str:
    return "\n".join(re.sub(r"\s+", " ", line) for line in Prose(page).lines)


def test_report(full: Path) -> None:
    page = (full / "report/index.html").read_text()
    check("report.txt", prose(page.replace(str(full), "")))


@pytest.mark.parametrize(("name", "shifted"), [("slide.txt", False), ("slide_shifted.txt", True)])
def test_slide_page(name: str, shifted: bool, tmp_path: Path) -> None:
    found = made.make(shifted, CAL) if not shifted else made.make(shifted)
    page = slide_page.write(found, None, made.ABOUT, tmp_path / "index.html").read_text()
    check(name, prose(page))


def test_model_card(packed: packaged.Packaged) -> None:
    check("model_card.txt", (packed.model / "README.md").read_text())
