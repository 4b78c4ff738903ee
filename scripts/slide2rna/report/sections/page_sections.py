"""Sections of the report: every row and sentence, each computed once from the run's tables.

The static figures, the interactive charts and the page are made from them, so all three agree. The
page's template reads them by these names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slide2rna.core.rows import FailedSlide
from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
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
from slide2rna.report.sections import intervals as intervals_section
from slide2rna.report.sections.ablations import AblationSection
from slide2rna.report.sections.attainable import AttainableSection
from slide2rna.report.sections.intervals import IntervalSection
from slide2rna.report.sections.protocols import ProtocolStep
from slide2rna.report.sections.references import Reference
from slide2rna.report.sections.run_facts import RunCounts
from slide2rna.report.sections.run_tables import RunTables
from slide2rna.report.sections.samplers import SamplerSection
from slide2rna.report.sections.shift import StainSection
from slide2rna.report.sections.verdict import Sentence

PATHWAYS = 20


@dataclass(frozen=True)
class Sections:
    """Content of the report, without its pictures.

    Attributes
    ----------
    order : models in the order of tables and figures.
    rivals : the best other network, ridge and null by pathway scores.
    best_null : null with the highest correlation per gene; None without one.
    thumbnails : overview image of each slide.

    Others are the contexts of the template's sections: rows for tables, sentences for text.
    """

    order: list[str]
    rivals: list[str]
    best_null: str | None
    thumbnails: dict[str, Path]
    short: list[str]
    verdict: list[Sentence]
    gene_sets: list[str]
    counts: RunCounts
    flow: list[Row]
    folds: list[dict[str, int]]
    reasons: list[tuple[str, int]]
    failures: list[FailedSlide]
    cautions: list[str]
    models: list[tuple[str, str]]
    results: list[Row]
    differences: dict[str, list[Row]]
    matrix: dict[str, Any] | None
    genes_better: dict[str, Any] | None
    scores: list[Row]
    seeds: list[Row]
    search: list[Row]
    protocols: dict[str, Any] | None
    steps: list[ProtocolStep]
    numbers: dict[str, Any] | None
    coverage: list[Row]
    intervals: IntervalSection
    pathway_score: str
    uncertainty: list[Row]
    significant: int | None
    catalogue: str
    top_genes: list[Row]
    pathways: list[Row]
    pathway_models: list[str]
    pathway_info: dict[str, str | int | float]
    attainable: AttainableSection | None
    ablations: AblationSection | None
    aspects: list[Row]
    samplers: SamplerSection | None
    leak: dict[str, Any] | None
    shift: Row | None
    abstention: Row | None
    stain: StainSection | None
    references: list[Reference]
    seeds_used: list[int]
    configuration: str | None
    parameters: list[tuple[str, str]]
    files: list[str]


def build(run: RunTables) -> Sections:
    """Compute every section of a run."""
    summary, tables, model, sets = run.summary, run.tables, run.model, run.gene_sets
    calibration, pathways = tables["calibration"], tables["pathways"]
    score = labels.pick(summary, model=model, metric="pcc")
    order = labels.ordered_models(summary, model)
    described = [(name, labels.model_description(name)) for name in order]
    counts = run_facts.counts(run)
    return Sections(
        order=order,
        rivals=best_rivals(run, order),
        best_null=gene_browser.best_null(tables["genes"]),
        thumbnails=run_facts.thumbnails(run),
        short=plain_words.sentences(
            summary, tables["genes"], calibration, run.cohort, counts, model
        ),
        verdict=verdict.network_gain(run.models.values())
        + verdict.sentences(summary, calibration, model),
        gene_sets=sets,
        counts=counts,
        flow=run_facts.flow(run),
        folds=run_facts.folds(run),
        reasons=run_facts.reasons(run.cohort.get("dropped") or []),
        failures=list(run.failed),
        cautions=[text for text in ((score or {}).get("note") or "").split("; ") if text],
        models=[(name, words) for name, words in described if words],
        results=results.results(summary, model, sets),
        differences=results.differences(summary, model, sets),
        matrix=results.matrix(summary, model),
        genes_better=results.genes_better(summary, model),
        scores=results.model_scores(summary, model, sets),
        seeds=results.seeds(summary, sets),
        search=results.search(run.extra["search"]),
        protocols=protocols.side_by_side(tables["summary"], model),
        steps=protocols.steps(tables["summary"], model),
        numbers=protocols.numbers(protocols.load_numbers(), run.cohort, tables["summary"], model),
        coverage=results.coverage(calibration, sets),
        intervals=intervals_section.context(
            tables,
            model,
            sets,
            verdict.claims_coverage(summary, model),
            intervals_section.across_sites(run.slides, run.splits),
        ),
        pathway_score=pathways["score"][0] if pathways.height else "zscore",
        uncertainty=results.uncertainty(calibration, sets) if calibration.height else [],
        significant=results.significant(tables["genes"]),
        catalogue=gene_browser.as_json(gene_browser.build(tables["genes"])),
        top_genes=gene_browser.first_rows(tables["genes"], PATHWAYS),
        pathways=pathways.head(PATHWAYS).to_dicts(),
        pathway_models=[
            name
            for name in order
            if name not in (model, "constant") and f"r_{name}" in pathways.columns
        ],
        pathway_info={
            {"P": "sets", "G": "genes"}.get(key, key): value
            for key, value in run.pathways.items()
            if isinstance(value, str | int | float)
        },
        attainable=attainable.attainable(tables["genes"], run.extra["truth"], model),
        ablations=ablations.ablations(run.extra["ablations"]),
        aspects=ablations.aspects(run.extra["aspects"]),
        samplers=samplers.samplers(run.extra["samplers"]),
        leak=leak_audit.leak(run.extra["leak"]),
        shift=shift.shift(run.extra["shift"], run.slides),
        abstention=shift.abstention(run.extra["abstention"]),
        stain=shift.stain(run.extra["stain"], run.extra["stain_genes"]),
        references=references.references(run.cohort, order, run.encoder, run.pathway_set),
        seeds_used=run_facts.seeds(run.models.values()),
        configuration=run_facts.configuration(run.settings),
        parameters=run_facts.parameters(run),
        files=sorted(
            path.name for path in (run.folder / "evaluation" / run.name).glob("*.parquet")
        ),
    )


def best_rivals(run: RunTables, order: list[str]) -> list[str]:
    """Return the best other network, the ridge and the best null by mean pathway correlation."""
    table = run.tables["pathways"]
    best: dict[str, tuple[float, str]] = {}
    for name in order:
        mean = table[f"r_{name}"].mean() if f"r_{name}" in table.columns else None
        if name != run.model and isinstance(mean, float):
            kind = labels.model_kind(name, run.model)
            best[kind] = max(best.get(kind, (mean, name)), (mean, name), key=lambda pair: pair[0])
    return [best[kind][1] for kind in ("network", "ridge", "null") if kind in best]
