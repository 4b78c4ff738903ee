"""Figures of a run: static figures as files, and interactive charts."""

from __future__ import annotations

from pathlib import Path

from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import comparisons, interactive, overview, style
from slide2rna.report.figures import shift as figures_shift
from slide2rna.report.figures.intervals import interval_figures
from slide2rna.report.figures.samplers import quality
from slide2rna.report.sections import ablations as sections_ablations
from slide2rna.report.sections import gene_browser, protocols, run_facts, verdict
from slide2rna.report.sections import intervals as sections_intervals
from slide2rna.report.sections import samplers as sections_samplers
from slide2rna.report.sections import shift as sections_shift
from slide2rna.report.sections.run_tables import RunTables


def draw(run: RunTables, folder: Path) -> dict[str, Path]:
    """Draw every figure that the run has data for and save it; return the PNG paths by name."""
    summary, tables = run.summary, run.tables
    headline_sets = labels.shown_sets(run.gene_sets)
    model_sets = [*dict.fromkeys([*headline_sets, *run.gene_sets[-1:]])]
    figures = {
        "examples": overview.examples(tables["examples"], tables["genes"]),
    }
    # Without a fold of four or more patients there is no correlation to show.
    if labels.ordered_models(summary, run.model):
        figures["models"] = comparisons.models(summary, run.model, model_sets)
        figures["pcc_histogram"] = overview.pcc_histogram(tables["genes"])
    if null := gene_browser.best_null(tables["genes"]):
        figures["gene_nulls"] = comparisons.gene_nulls(tables["genes"], run.model, null)
    if tables["pathways"]["r"].is_not_null().any():
        figures["pathways"] = comparisons.pathways(tables["pathways"])
    if rivals := best_rivals(run):
        figures["pathway_bars"] = comparisons.pathway_bars(tables["pathways"], run.model, rivals)
    if steps := protocols.steps(tables["summary"], run.model):
        figures["protocols"] = comparisons.steps(steps, model_sets)
    if tables["calibration"].filter(quantity="coverage").height:
        figures["reliability"] = overview.reliability(tables["calibration"], headline_sets)
        figures["pit"] = overview.pit(tables["calibration"], headline_sets)
    figures |= interval_figures(tables, interval_section(run))
    if ablations := sections_ablations.ablations(run.extra["ablations"]):
        figures["ablations"] = comparisons.ablations(ablations)
    if samplers := sections_samplers.samplers(run.extra["samplers"]):
        figures["samplers"] = quality(samplers)
    if (shift := run.extra["shift"]) is not None:
        figures["shift"] = figures_shift.shift(shift)
    if (abstention := run.extra["abstention"]) is not None:
        figures["abstention"] = figures_shift.abstention(abstention)
    if stain := sections_shift.stain(run.extra["stain"], run.extra["stain_genes"]):
        figures["stain"] = figures_shift.stain(stain)
    figures["flow"] = overview.flow(run_facts.flow(run))
    if run.logs:
        figures["training"] = overview.training(run.logs)
    pictures = dict(list(run_facts.thumbnails(run).items())[:12])
    if pictures:
        figures["slides"] = overview.gallery(pictures)
    return {name: style.save(figure, folder, name) for name, figure in figures.items()}


def best_rivals(run: RunTables) -> list[str]:
    """Return the best other network, the ridge and the best null by mean pathway correlation."""
    table = run.tables["pathways"]
    best: dict[str, tuple[float, str]] = {}
    for name in labels.ordered_models(run.summary, run.model):
        mean = table[f"r_{name}"].mean() if f"r_{name}" in table.columns else None
        if name != run.model and isinstance(mean, float):
            kind = labels.model_kind(name, run.model)
            best[kind] = max(best.get(kind, (mean, name)), (mean, name), key=lambda pair: pair[0])
    return [best[kind][1] for kind in ("network", "ridge", "null") if kind in best]


def charts(run: RunTables) -> dict[str, interactive.Spec]:
    """Return Vega-Lite specifications by the name of the figure that each replaces on a screen."""
    tables, specs = run.tables, {}
    if labels.ordered_models(run.summary, run.model):
        specs["models"] = interactive.models(run.summary, run.model, run.gene_sets)
    if null := gene_browser.best_null(tables["genes"]):
        specs["gene_nulls"] = interactive.genes(tables["genes"], run.model, null)
    if tables["calibration"].filter(quantity="coverage").height:
        specs["reliability"] = interactive.reliability(tables["calibration"], run.gene_sets)
    if ablations := sections_ablations.ablations(run.extra["ablations"]):
        specs["ablations"] = interactive.ablations(ablations)
    return specs


def interval_section(run: RunTables) -> sections_intervals.IntervalSection:
    """Return the context of the section on intervals."""
    return sections_intervals.context(
        run.tables,
        run.model,
        run.gene_sets,
        verdict.claims_coverage(run.summary, run.model),
        sections_intervals.across_sites(run.slides, run.splits),
    )
