"""Run report: one self-contained HTML page, and its figures as PNG and SVG.

sections/page_sections.py computes the rows and sentences once, modules in figures/ draw them, and
pages.html renders the template.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.types import Row
from slide2rna.pages import html
from slide2rna.report.figures import draw_all, vega
from slide2rna.report.sections import page_sections, plain_words, run_facts
from slide2rna.report.sections.page_sections import Sections
from slide2rna.report.sections.run_tables import RunTables

# The page stays small enough for an email: further slides are counted, not shown.
GALLERY = 40
GALLERY_BYTES = 1_600_000


def write(run: RunTables, out: str | Path) -> Path:
    """Draw the figures and write index.html; return its path."""
    out = Path(out)
    sections = page_sections.build(run)
    paths = draw_all.draw(run, sections, out / "figures")
    pictures = {name: html.picture(path) for name, path in paths.items()}
    if run.leak_picture is not None:
        pictures["leak_audit"] = html.picture(run.leak_picture)
    specs = {
        name: vega.as_json(spec)
        for name, spec in draw_all.charts(run, sections).items()
        if name in pictures
    }
    figures = {
        "figure": pictures,
        "chart": specs,
        "library": vega.library() if specs else "",
    }
    page = html.render("pages/report.html.j2", context(run, sections) | figures)
    files.write_text(page, out / "index.html")
    return out / "index.html"


def context(run: RunTables, sections: Sections) -> dict[str, Any]:
    """Return the template's context without the figures."""
    return {field.name: getattr(sections, field.name) for field in fields(sections)} | {
        "version": __version__,
        "run": run.name,
        "model": run.model,
        "encoder": run.encoder,
        "pathway_set": run.pathway_set,
        "cohort": run.cohort,
        "caveat": run.cohort.get("caveat"),
        "short_rule": plain_words.RULE,
        "gallery": gallery(run, sections.thumbnails),
        "gallery_total": len(sections.thumbnails),
        "packages": run_facts.packages(),
        "step_versions": run_facts.steps(),
    }


def gallery(run: RunTables, thumbnails: dict[str, Path]) -> list[Row]:
    """Return thumbnails of the first slides with their facts, as many as fit the page."""
    entries: list[Row] = []
    size = 0
    for name, path in list(thumbnails.items())[:GALLERY]:
        uri = html.thumbnail(path)
        size += len(uri)
        if entries and size > GALLERY_BYTES:
            break
        entries.append({"name": name, "image": uri} | run_facts.slide_facts(run, name))
    return entries
