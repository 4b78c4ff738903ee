"""Run report: one self-contained HTML page, and its figures as PNG and SVG.

Modules in sections/ build its rows and sentences, modules in figures/ its figures and charts;
pages.html renders the template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.pages import html
from slide2rna.report.figures import draw_all, interactive
from slide2rna.report.sections import (
    ablations,
    attainable,
    gene_browser,
    leak_audit,
    plain_words,
    protocols,
    references,
    results,
    run_facts,
    samplers,
    shift,
    verdict,
)
from slide2rna.report.sections.run_tables import RunTables

# The page stays small enough for an email: further slides are counted, not shown.
GALLERY = 40
GALLERY_BYTES = 1_600_000
PATHWAYS = 20


def write(run: RunTables, out: str | Path) -> Path:
    """Draw the figures and write index.html; return its path."""
    out = Path(out)
    paths = draw_all.draw(run, out / "figures")
    pictures = {name: html.picture(path) for name, path in paths.items()}
    if run.leak_picture is not None:
        pictures["leak_audit"] = html.picture(run.leak_picture)
    specs = {
        name: interactive.as_json(spec)
        for name, spec in draw_all.charts(run).items()
        if name in pictures
    }
    figures = {
        "figure": pictures,
        "chart": specs,
        "library": interactive.library() if specs else "",
    }
    page = html.render("pages/report.html.j2", context(run) | figures)
    files.write_text(page, out / "index.html")
    return out / "index.html"


def context(run: RunTables) -> dict[str, Any]:
    """Return the template's context without the figures."""
    summary, tables, model, sets = run.summary, run.tables, run.model, run.gene_sets
    score = verdict.pick(summary, model=model, metric="pcc")
    numbers = protocols.load_numbers()
    order = labels.ordered_models(summary, model)
    counts = run_facts.counts(run)
    pictures = gallery(run)
    return {
        "version": __version__,
        "run": run.name,
        "model": model,
        "models": [
            (name, labels.model_description(name))
            for name in order
            if labels.model_description(name)
        ],
        "encoder": run.encoder,
        "pathway_set": run.pathway_set,
        "cohort": run.cohort,
        "caveat": run.cohort.get("caveat"),
        "cautions": [text for text in ((score or {}).get("note") or "").split("; ") if text],
        "short": plain_words.sentences(
            summary, tables["genes"], tables["calibration"], run.cohort, counts, model
        ),
        "short_rule": plain_words.RULE,
        "verdict": verdict.network_gain(run.models.values())
        + verdict.sentences(summary, tables["calibration"], model),
        "gene_sets": sets,
        "counts": counts,
        "flow": run_facts.flow(run),
        "folds": run_facts.folds(run),
        "reasons": run_facts.reasons(run.cohort.get("dropped") or []),
        "failures": run.failed,
        "results": results.results(summary, model, sets),
        "differences": results.differences(summary, model, sets),
        "matrix": results.matrix(summary, model),
        "genes_better": results.genes_better(summary, model),
        "scores": results.model_scores(summary, model, sets),
        "seeds": results.seeds(summary, sets),
        "search": results.search(run.extra["search"]),
        "protocols": protocols.side_by_side(tables["summary"], model),
        "steps": protocols.steps(tables["summary"], model),
        "numbers": protocols.numbers(numbers, run.cohort, tables["summary"], model),
        "coverage": results.coverage(tables["calibration"], sets),
        "intervals": draw_all.interval_section(run),
        "pathway_score": tables["pathways"]["score"][0] if tables["pathways"].height else "zscore",
        "uncertainty": results.uncertainty(tables["calibration"], sets)
        if tables["calibration"].height
        else [],
        "significant": results.significant(tables["genes"]),
        "catalogue": gene_browser.as_json(gene_browser.build(tables["genes"])),
        "best_null": gene_browser.best_null(tables["genes"]),
        "top_genes": gene_browser.first_rows(tables["genes"], PATHWAYS),
        "pathways": tables["pathways"].head(PATHWAYS).to_dicts(),
        "pathway_models": [
            name
            for name in order
            if name not in (model, "constant") and f"r_{name}" in tables["pathways"].columns
        ],
        "rivals": draw_all.best_rivals(run),
        "pathway_info": {
            {"P": "sets", "G": "genes"}.get(key, key): value
            for key, value in run.pathways.items()
            if isinstance(value, str | int | float)
        },
        "attainable": attainable.attainable(tables["genes"], run.extra["truth"], model),
        "ablations": ablations.ablations(run.extra["ablations"]),
        "aspects": ablations.aspects(run.extra["aspects"]),
        "samplers": samplers.samplers(run.extra["samplers"]),
        "leak": leak_audit.leak(run.extra["leak"]),
        "shift": shift.shift(run.extra["shift"], run.slides),
        "abstention": shift.abstention(run.extra["abstention"]),
        "stain": shift.stain(run.extra["stain"], run.extra["stain_genes"]),
        "gallery": pictures,
        "gallery_total": len(run_facts.thumbnails(run)),
        "references": references.references(run.cohort, order, run.encoder, run.pathway_set),
        "packages": run_facts.packages(),
        "step_versions": run_facts.steps(),
        "seeds_used": run_facts.seeds(run.models.values()),
        "configuration": run_facts.configuration(run.settings),
        "parameters": run_facts.parameters(run),
        "files": sorted(
            path.name for path in (run.folder / "evaluation" / run.name).glob("*.parquet")
        ),
    }


def gallery(run: RunTables) -> list[Row]:
    """Return thumbnails of the first slides with their facts, as many as fit the page."""
    entries: list[Row] = []
    size = 0
    for name, path in list(run_facts.thumbnails(run).items())[:GALLERY]:
        uri = html.thumbnail(path)
        size += len(uri)
        if entries and size > GALLERY_BYTES:
            break
        entries.append({"name": name, "image": uri} | run_facts.slide_facts(run, name))
    return entries
