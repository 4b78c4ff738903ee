"""Figures of a run: static figures as files, and charts for the page."""

from __future__ import annotations

from pathlib import Path

from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import (
    ablations_chart,
    comparisons,
    genes_chart,
    models_chart,
    overview,
    reliability_chart,
    style,
    vega,
)
from slide2rna.report.figures import shift as figures_shift
from slide2rna.report.figures.intervals import interval_figures
from slide2rna.report.figures.samplers import quality
from slide2rna.report.sections.page_sections import Sections
from slide2rna.report.sections.run_tables import RunTables

THUMBNAILS = 12


def draw(run: RunTables, sections: Sections, folder: Path) -> dict[str, Path]:
    """Draw every figure that the run has data for and save it; return the PNG paths by name."""
    summary, tables = run.summary, run.tables
    headline_sets = labels.shown_sets(sections.gene_sets)
    model_sets = [*dict.fromkeys([*headline_sets, *sections.gene_sets[-1:]])]
    specs: dict[str, vega.Spec] = {}
    figures = {
        "examples": overview.examples(tables["examples"], tables["genes"]),
    }
    # Without a fold of four or more patients there is no correlation to show.
    if sections.order:
        specs["models"] = models_chart.files(summary, run.model, model_sets)
        figures["pcc_histogram"] = overview.pcc_histogram(tables["genes"])
    if null := sections.best_null:
        figures["gene_nulls"] = comparisons.gene_nulls(tables["genes"], run.model, null)
    if tables["pathways"]["r"].is_not_null().any():
        figures["pathways"] = comparisons.pathways(tables["pathways"])
    if rivals := sections.rivals:
        figures["pathway_bars"] = comparisons.pathway_bars(tables["pathways"], run.model, rivals)
    if sections.steps:
        figures["protocols"] = comparisons.steps(sections.steps, model_sets)
    if tables["calibration"].filter(quantity="coverage").height:
        specs["reliability"] = reliability_chart.files(tables["calibration"], headline_sets)
        figures["pit"] = overview.pit(tables["calibration"], headline_sets)
    figures |= interval_figures(tables, sections.intervals)
    if sections.ablations:
        specs["ablations"] = ablations_chart.files(sections.ablations)
    if sections.samplers:
        figures["samplers"] = quality(sections.samplers)
    if (shift := run.extra["shift"]) is not None:
        figures["shift"] = figures_shift.shift(shift)
    if (abstention := run.extra["abstention"]) is not None:
        figures["abstention"] = figures_shift.abstention(abstention)
    if sections.stain:
        figures["stain"] = figures_shift.stain(sections.stain)
    figures["flow"] = overview.flow(sections.flow)
    if run.logs:
        figures["training"] = overview.training(run.logs)
    if sections.thumbnails:
        figures["slides"] = overview.gallery(dict(list(sections.thumbnails.items())[:THUMBNAILS]))
    paths = {name: style.save(figure, folder, name) for name, figure in figures.items()}
    return paths | {name: vega.save(spec, folder, name) for name, spec in specs.items()}


def charts(run: RunTables, sections: Sections) -> dict[str, vega.Spec]:
    """Return the page's charts by the name of the figure that each replaces on a screen."""
    tables, specs = run.tables, {}
    if sections.order:
        specs["models"] = models_chart.page(run.summary, run.model, sections.gene_sets)
    if null := sections.best_null:
        specs["gene_nulls"] = genes_chart.page(tables["genes"], run.model, null)
    if tables["calibration"].filter(quantity="coverage").height:
        specs["reliability"] = reliability_chart.page(tables["calibration"], sections.gene_sets)
    if sections.ablations:
        specs["ablations"] = ablations_chart.page(sections.ablations)
    return specs
