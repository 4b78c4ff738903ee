"""All figures of a run: static ones as files, and charts for readers with a pointer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slide2rna import (
    catalogue,
    charts,
    figures,
    figures_compare,
    figures_genes,
    figures_intervals,
    figures_samplers,
    figures_shift,
    lineup,
    report_cohort,
    report_extras,
    report_intervals,
    report_protocols,
    report_samplers,
    report_shift,
    verdict,
)

if TYPE_CHECKING:
    from slide2rna.report import Run


def draw(run: Run, folder: Path) -> dict[str, Path]:
    """Draw every figure that this run has data for and save it; its PNG by name."""
    summary, tables = run.summary, run.tables
    few = lineup.shown_sets(run.gene_sets)
    ends = [*dict.fromkeys([*few, *run.gene_sets[-1:]])]
    made = {
        "examples": figures.examples(tables["examples"], tables["genes"]),
    }
    # Where every fold has three patients or fewer there is no correlation to show.
    if lineup.order(summary, run.model):
        made["models"] = figures_compare.models(summary, run.model, ends)
        made["pcc_histogram"] = figures.pcc_histogram(tables["genes"])
    if null := catalogue.best_null(tables["genes"]):
        made["gene_nulls"] = figures_genes.gene_nulls(tables["genes"], run.model, null)
    if tables["pathways"]["r"].is_not_null().any():
        made["pathways"] = figures_compare.pathways(tables["pathways"])
    if rivals := rivals_of(run):
        made["pathway_bars"] = figures_compare.pathway_bars(tables["pathways"], run.model, rivals)
    if steps := report_protocols.steps(tables["summary"], run.model):
        made["protocols"] = figures_compare.steps(steps, ends)
    if tables["calibration"].filter(quantity="coverage").height:
        made["reliability"] = figures.reliability(tables["calibration"], few)
        made["pit"] = figures.pit(tables["calibration"], few)
    shown = intervals_of(run)
    made |= figures_intervals.all_of(tables, shown)
    if ablations := report_extras.ablations(run.extra["ablations"]):
        made["ablations"] = figures_compare.ablations(ablations)
    if samplers := report_samplers.samplers(run.extra["samplers"]):
        made["samplers"] = figures_samplers.quality(samplers)
    if (judged := run.extra["shift"]) is not None:
        made["shift"] = figures_shift.shift(judged)
    if (answered := run.extra["abstention"]) is not None:
        made["abstention"] = figures_shift.abstention(answered)
    if stain := report_shift.stain(run.extra["stain"], run.extra["stain_genes"]):
        made["stain"] = figures_shift.stain(stain)
    made["flow"] = figures.flow(report_cohort.flow(run))
    if run.logs:
        made["training"] = figures.training(run.logs)
    pictures = dict(list(report_cohort.thumbnails(run).items())[:12])
    if pictures:
        made["slides"] = figures.gallery(pictures)
    return {name: figures.save(figure, folder, name) for name, figure in made.items()}


def rivals_of(run: Run) -> list[str]:
    """By mean pathway correlation the best other network and the best null; between them ridge."""
    table = run.tables["pathways"]
    best: dict[str, tuple[float, str]] = {}
    for name in lineup.order(run.summary, run.model):
        mean = table[f"r_{name}"].mean() if f"r_{name}" in table.columns else None
        if name != run.model and isinstance(mean, float):
            kind = lineup.kind(name, run.model)
            best[kind] = max(best.get(kind, (mean, name)), (mean, name), key=lambda pair: pair[0])
    return [best[kind][1] for kind in ("network", "ridge", "null") if kind in best]


def interactive(run: Run) -> dict[str, dict[str, Any]]:
    """Vega-Lite specifications by the name of the figure that each replaces on a screen."""
    tables, made = run.tables, {}
    if lineup.order(run.summary, run.model):
        made["models"] = charts.models(run.summary, run.model, run.gene_sets)
    if null := catalogue.best_null(tables["genes"]):
        made["gene_nulls"] = charts.genes(tables["genes"], run.model, null)
    if tables["calibration"].filter(quantity="coverage").height:
        made["reliability"] = charts.reliability(tables["calibration"], run.gene_sets)
    if found := report_extras.ablations(run.extra["ablations"]):
        made["ablations"] = charts.ablations(found)
    return made


def intervals_of(run: Run) -> dict[str, Any]:
    """What the section on intervals shows, and whether coverage is claimed."""
    return report_intervals.context(
        run.tables,
        run.model,
        run.gene_sets,
        verdict.claimed(run.summary, run.model),
        report_intervals.across_sites(run.slides, run.splits),
    )
