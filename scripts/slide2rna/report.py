"""One self-contained HTML page about a run, and its figures as PNG and SVG.

The modules report_* make its rows, report_figures its pictures and charts, page its HTML.
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
    charts,
    failures,
    io,
    lineup,
    page,
    report_cite,
    report_cohort,
    report_extras,
    report_figures,
    report_methods,
    report_protocols,
    report_samplers,
    report_shift,
    report_short,
    report_tables,
    verdict,
)

# The page stays small enough for a mail: more slides are counted, not shown.
GALLERY = 40
GALLERY_BYTES = 1_600_000
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
    settings : the cohort's, as the configuration gave them; None where they weren't told.
    failed : slides that a stage gave up: slide, stage, reason.
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
    settings: dict[str, Any] | None = None
    failed: Sequence[dict[str, str]] = ()

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
    settings: dict[str, Any] | None = None,
    shards: int | None = None,
) -> Run:
    """Read a finished run.

    What an earlier configuration left in the folder isn't part of the run, so further tables,
    folds and shards are read only where they are named.

    Parameters
    ----------
    extras
        Of `report_extras.STAGES`: tables that other stages made beside the run.
    folds
        Number of folds; None for all that there are.
    settings
        Of the cohort, to be shown as they were run.
    shards
        Number of shards; None for all that there are.

    Raises
    ------
    StageError
        A table of the evaluation or of the extras is missing, or more slides failed than
        `settings` allow.
    """
    folder = Path(folder)
    failed = failures.named(folder, encoder, shards)
    if settings is not None and "max_failed_slides" in settings:
        slides, reasons = ([row[key] for row in failed] for key in ("slide", "reason"))
        failures.check(folder, slides, reasons, settings["max_failed_slides"])
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
        settings=settings,
        failed=failed,
    )


def write(run: Run, out: str | Path) -> Path:
    """Draw the figures and write index.html; returns its path."""
    out = Path(out)
    made = report_figures.draw(run, out / "figures")
    shown = {name: page.picture(path) for name, path in made.items()}
    if run.leak_picture is not None:
        shown["leak_audit"] = page.picture(run.leak_picture)
    specs = {
        name: charts.as_json(spec)
        for name, spec in report_figures.interactive(run).items()
        if name in shown
    }
    drawn = {"figure": shown, "chart": specs, "library": charts.library() if specs else ""}
    io.write_text(page.render("report.html.j2", context(run) | drawn), out / "index.html")
    return out / "index.html"


def context(run: Run) -> dict[str, Any]:
    """Everything that the template shows, but the figures."""
    summary, tables, model, sets = run.summary, run.tables, run.model, run.gene_sets
    own = verdict.pick(summary, model=model, metric="pcc")
    numbers = report_protocols.load_numbers()
    order = lineup.order(summary, model)
    counts = report_cohort.counts(run)
    pictures = gallery(run)
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
        "short": report_short.sentences(
            summary, tables["genes"], tables["calibration"], run.cohort, counts, model
        ),
        "short_rule": report_short.RULE,
        "verdict": verdict.sentences(summary, tables["calibration"], model)
        + verdict.started(run.models.values()),
        "gene_sets": sets,
        "counts": counts,
        "flow": report_cohort.flow(run),
        "folds": report_cohort.folds(run),
        "reasons": report_cohort.reasons(run.cohort.get("dropped") or []),
        "failures": run.failed,
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
        "intervals": report_figures.intervals_of(run),
        "pathway_score": tables["pathways"]["score"][0] if tables["pathways"].height else "zscore",
        "uncertainty": report_extras.uncertainty(tables["calibration"], sets)
        if tables["calibration"].height
        else [],
        "significant": report_tables.significant(tables["genes"]),
        "catalogue": catalogue.as_json(catalogue.build(tables["genes"])),
        "best_null": catalogue.best_null(tables["genes"]),
        "top_genes": catalogue.first_rows(tables["genes"], PATHWAYS),
        "pathways": tables["pathways"].head(PATHWAYS).to_dicts(),
        "pathway_models": [
            name
            for name in order
            if name not in (model, "constant") and f"r_{name}" in tables["pathways"].columns
        ],
        "rivals": report_figures.rivals_of(run),
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
        "gallery": pictures,
        "gallery_total": len(report_cohort.thumbnails(run)),
        "references": report_cite.references(run.cohort, order, run.encoder, run.pathway_set),
        "packages": report_methods.packages(),
        "step_versions": report_methods.steps(),
        "seeds_used": report_methods.seeds(run.models.values()),
        "configuration": report_methods.configuration(run.settings),
        "parameters": report_cohort.parameters(run),
        "files": sorted(
            path.name for path in (run.folder / "evaluation" / run.name).glob("*.parquet")
        ),
    }


def gallery(run: Run) -> list[dict[str, Any]]:
    """Pictures of the first slides, as many as fit the page, with their facts."""
    shown: list[dict[str, Any]] = []
    size = 0
    for name, path in list(report_cohort.thumbnails(run).items())[:GALLERY]:
        uri = page.thumbnail(path)
        size += len(uri)
        if shown and size > GALLERY_BYTES:
            break
        shown.append({"name": name, "image": uri} | report_cohort.slide_facts(run, name))
    return shown
