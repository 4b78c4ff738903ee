"""One self-contained HTML page about a run, and its figures as PNG and SVG.

The modules report_* make its rows, figures and figures_compare its pictures, page its HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna import (
    __version__,
    bagfile,
    catalogue,
    figures,
    figures_compare,
    figures_intervals,
    figures_samplers,
    figures_shift,
    io,
    lineup,
    page,
    report_cohort,
    report_extras,
    report_intervals,
    report_protocols,
    report_samplers,
    report_shift,
    report_tables,
    verdict,
)

# The page stays small enough for a mail: more slides are counted, not shown.
GALLERY = 48
PATHWAYS = 20
NEEDED = (
    *("summary", "genes", "calibration", "pathways", "samples", "examples"),
    *("conformal", "coexpression", "pathway_intervals"),
)


@dataclass(frozen=True)
class Run:
    """The tables that a report is made from.

    Attributes
    ----------
    tables : the evaluation's, by name.
    extra : those that only some runs have (search, ablations, shift ...); None where missing.
    leak_picture : the leak audit's figure, if there is one.
    """

    folder: Path
    name: str
    encoder: str
    pathway_set: str
    cohort: dict[str, Any]
    slides: pl.DataFrame
    splits: pl.DataFrame
    tables: dict[str, pl.DataFrame]
    extra: dict[str, pl.DataFrame | None]
    leak_picture: Path | None
    models: dict[int, dict[str, Any]]
    logs: dict[int, pl.DataFrame]
    pathways: dict[str, Any]
    bags: bagfile.Bags

    @property
    def summary(self) -> pl.DataFrame:
        """Rows of the clean protocol."""
        return lineup.clean(self.tables["summary"])

    @property
    def model(self) -> str:
        return str(self.summary["model"][0])

    @property
    def gene_sets(self) -> list[str]:
        return lineup.gene_sets(self.summary)


def load(
    folder: str | Path,
    run: str,
    encoder: str,
    pathway_set: str,
    extras: Sequence[str] = (),
    folds: int | None = None,
) -> Run:
    """Read a finished run.

    What an earlier configuration left in the folder isn't part of the run, so further tables
    and folds are read only where they are named.

    Parameters
    ----------
    extras
        Of `report_extras.STAGES`: tables that other stages made beside the run.
    folds
        Number of folds; None for all that there are.

    Raises
    ------
    StageError
        A table of the evaluation or of the extras is missing.
    """
    folder = Path(folder)
    evaluated = folder / "evaluation" / run
    tables = {
        name: report_extras.needed(evaluated / f"{name}.parquet", "evaluate") for name in NEEDED
    }
    extra = report_extras.load(folder, run, extras) | report_shift.load(folder, run, folds)
    models, logs = {}, {}
    for path in sorted((folder / "models" / run).glob("fold-*/model.json")):
        fold = int(path.parent.name.removeprefix("fold-"))
        if folds is not None and fold >= folds:
            continue
        models[fold] = io.read_json(path)
        if (path.parent / "log.parquet").is_file():
            logs[fold] = pl.read_parquet(path.parent / "log.parquet")
    picture = folder / "leak_audit" / "leak_audit.png"
    return Run(
        folder=folder,
        name=run,
        encoder=encoder,
        pathway_set=pathway_set,
        cohort=io.read_json(folder / "cohort.json"),
        slides=pl.read_parquet(folder / "slides.parquet"),
        splits=pl.read_csv(
            folder / "splits.tsv", separator="\t", schema_overrides={"unit": pl.String}
        ),
        tables=tables,
        extra=extra,
        leak_picture=picture if extra["leak"] is not None and picture.is_file() else None,
        models=models,
        logs=logs,
        pathways=io.read_json(folder / "pathways" / f"{pathway_set}.json"),
        bags=bagfile.load(folder / "bags" / f"{encoder}.safetensors"),
    )


def write(run: Run, out: str | Path) -> Path:
    """Draw the figures and write index.html; returns its path."""
    out = Path(out)
    made = draw(run, out / "figures")
    shown = {name: page.picture(path) for name, path in made.items()}
    if run.leak_picture is not None:
        shown["leak_audit"] = page.picture(run.leak_picture)
    io.write_text(
        page.render("report.html.j2", context(run) | {"figure": shown}), out / "index.html"
    )
    return out / "index.html"


def draw(run: Run, folder: Path) -> dict[str, Path]:
    """All figures that this run has data for, by name."""
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
    if run.cohort.get("flow"):
        made["flow"] = figures.flow(run.cohort["flow"])
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


def intervals_of(run: Run) -> dict[str, Any]:
    """What the section on intervals shows, and whether coverage is claimed."""
    return report_intervals.context(
        run.tables,
        run.model,
        run.gene_sets,
        verdict.claimed(run.summary, run.model),
        report_intervals.across_sites(run.slides, run.splits),
    )


def context(run: Run) -> dict[str, Any]:
    """Everything that the template shows, but the figures."""
    summary, tables, model, sets = run.summary, run.tables, run.model, run.gene_sets
    own = verdict.pick(summary, model=model, metric="pcc")
    pictures = report_cohort.thumbnails(run)
    numbers = report_protocols.load_numbers()
    order = lineup.order(summary, model)
    return {
        "version": __version__,
        "run": run.name,
        "model": model,
        "models": [(name, lineup.words(name)) for name in order if lineup.words(name)],
        "encoder": run.encoder,
        "pathway_set": run.pathway_set,
        "cohort": run.cohort,
        "caveat": run.cohort.get("caveat"),
        "cautions": [text for text in ((own or {}).get("note") or "").split("; ") if text],
        "verdict": verdict.sentences(summary, tables["calibration"], model)
        + verdict.started(run.models.values()),
        "gene_sets": sets,
        "counts": report_cohort.counts(run),
        "failures": report_cohort.failures(run),
        "results": report_tables.results(summary, model, sets),
        "differences": report_tables.differences(summary, model, sets),
        "matrix": report_tables.matrix(summary, model),
        "genes_better": report_tables.genes_better(summary, model),
        "scores": report_tables.own_scores(summary, model, sets),
        "seeds": report_tables.seeds(summary, sets),
        "search": report_tables.search(run.extra["search"]),
        "protocols": report_protocols.side_by_side(tables["summary"], model),
        "steps": report_protocols.steps(tables["summary"], model),
        "numbers": report_protocols.numbers(numbers, run.cohort, tables["summary"], model),
        "coverage": report_extras.coverage(tables["calibration"], sets),
        "intervals": intervals_of(run),
        "pathway_score": tables["pathways"]["score"][0] if tables["pathways"].height else "zscore",
        "uncertainty": report_extras.uncertainty(tables["calibration"], sets)
        if tables["calibration"].height
        else [],
        "significant": report_tables.significant(tables["genes"]),
        "catalogue": catalogue.as_json(catalogue.build(tables["genes"])),
        "top_genes": catalogue.first_rows(tables["genes"], PATHWAYS),
        "pathways": tables["pathways"].head(PATHWAYS).to_dicts(),
        "pathway_models": [
            name
            for name in order
            if name not in (model, "constant") and f"r_{name}" in tables["pathways"].columns
        ],
        "rivals": rivals_of(run),
        "pathway_info": {
            {"P": "sets", "G": "genes"}.get(key, key): value
            for key, value in run.pathways.items()
            if isinstance(value, str | int | float)
        },
        "ablations": report_extras.ablations(run.extra["ablations"]),
        "aspects": report_extras.aspects(run.extra["aspects"]),
        "samplers": report_samplers.samplers(run.extra["samplers"]),
        "leak": report_extras.leak(run.extra["leak"]),
        "shift": report_shift.shift(run.extra["shift"], run.slides),
        "abstention": report_shift.abstention(run.extra["abstention"]),
        "stain": report_shift.stain(run.extra["stain"], run.extra["stain_genes"]),
        "gallery": [
            {"name": name, "image": page.thumbnail(path), **report_cohort.slide_facts(run, name)}
            for name, path in list(pictures.items())[:GALLERY]
        ],
        "gallery_total": len(pictures),
        "parameters": report_cohort.parameters(run),
        "files": sorted(
            path.name for path in (run.folder / "evaluation" / run.name).glob("*.parquet")
        ),
    }
