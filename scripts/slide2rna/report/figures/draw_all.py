"""All figures of a run: static ones as files, and charts for readers with a pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import comparisons, overview, style
from slide2rna.report.figures import interactive as interactive_charts
from slide2rna.report.figures import shift as figures_shift
from slide2rna.report.figures.intervals import all_of
from slide2rna.report.figures.samplers import quality
from slide2rna.report.sections import ablations as sections_ablations
from slide2rna.report.sections import gene_browser, protocols, run_facts, verdict
from slide2rna.report.sections import intervals as sections_intervals
from slide2rna.report.sections import samplers as sections_samplers
from slide2rna.report.sections import shift as sections_shift
from slide2rna.report.sections.run_tables import RunTables


def draw(run: RunTables, folder: Path) -> dict[str, Path]:
    """Draw every figure that this run has data for and save it; its PNG by name."""
    summary, tables = run.summary, run.tables
    few = labels.shown_sets(run.gene_sets)
    ends = [*dict.fromkeys([*few, *run.gene_sets[-1:]])]
    made = {
        "examples": overview.examples(tables["examples"], tables["genes"]),
    }
    # Where every fold has three patients or fewer there is no correlation to show.
    if labels.order(summary, run.model):
        made["models"] = comparisons.models(summary, run.model, ends)
        made["pcc_histogram"] = overview.pcc_histogram(tables["genes"])
    if null := gene_browser.best_null(tables["genes"]):
        made["gene_nulls"] = comparisons.gene_nulls(tables["genes"], run.model, null)
    if tables["pathways"]["r"].is_not_null().any():
        made["pathways"] = comparisons.pathways(tables["pathways"])
    if rivals := rivals_of(run):
        made["pathway_bars"] = comparisons.pathway_bars(tables["pathways"], run.model, rivals)
    if steps := protocols.steps(tables["summary"], run.model):
        made["protocols"] = comparisons.steps(steps, ends)
    if tables["calibration"].filter(quantity="coverage").height:
        made["reliability"] = overview.reliability(tables["calibration"], few)
        made["pit"] = overview.pit(tables["calibration"], few)
    shown = intervals_of(run)
    made |= all_of(tables, shown)
    if ablations := sections_ablations.ablations(run.extra["ablations"]):
        made["ablations"] = comparisons.ablations(ablations)
    if samplers := sections_samplers.samplers(run.extra["samplers"]):
        made["samplers"] = quality(samplers)
    if (judged := run.extra["shift"]) is not None:
        made["shift"] = figures_shift.shift(judged)
    if (answered := run.extra["abstention"]) is not None:
        made["abstention"] = figures_shift.abstention(answered)
    if stain := sections_shift.stain(run.extra["stain"], run.extra["stain_genes"]):
        made["stain"] = figures_shift.stain(stain)
    made["flow"] = overview.flow(run_facts.flow(run))
    if run.logs:
        made["training"] = overview.training(run.logs)
    pictures = dict(list(run_facts.thumbnails(run).items())[:12])
    if pictures:
        made["slides"] = overview.gallery(pictures)
    return {name: style.save(figure, folder, name) for name, figure in made.items()}


def rivals_of(run: RunTables) -> list[str]:
    """By mean pathway correlation the best other network and the best null; between them ridge."""
    table = run.tables["pathways"]
    best: dict[str, tuple[float, str]] = {}
    for name in labels.order(run.summary, run.model):
        mean = table[f"r_{name}"].mean() if f"r_{name}" in table.columns else None
        if name != run.model and isinstance(mean, float):
            kind = labels.kind(name, run.model)
            best[kind] = max(best.get(kind, (mean, name)), (mean, name), key=lambda pair: pair[0])
    return [best[kind][1] for kind in ("network", "ridge", "null") if kind in best]


def interactive(run: RunTables) -> dict[str, dict[str, Any]]:
    """Vega-Lite specifications by the name of the figure that each replaces on a screen."""
    tables, made = run.tables, {}
    if labels.order(run.summary, run.model):
        made["models"] = interactive_charts.models(run.summary, run.model, run.gene_sets)
    if null := gene_browser.best_null(tables["genes"]):
        made["gene_nulls"] = interactive_charts.genes(tables["genes"], run.model, null)
    if tables["calibration"].filter(quantity="coverage").height:
        made["reliability"] = interactive_charts.reliability(tables["calibration"], run.gene_sets)
    if found := sections_ablations.ablations(run.extra["ablations"]):
        made["ablations"] = interactive_charts.ablations(found)
    return made


def intervals_of(run: RunTables) -> dict[str, Any]:
    """What the section on intervals shows, and whether coverage is claimed."""
    return sections_intervals.context(
        run.tables,
        run.model,
        run.gene_sets,
        verdict.claimed(run.summary, run.model),
        sections_intervals.across_sites(run.slides, run.splits),
    )
