"""One self-contained HTML page about a run, and its figures as PNG and SVG."""

from __future__ import annotations

import base64
import io as bytes_io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
from PIL import Image

from slide2rna import __version__, bags, figures, io, verdict
from slide2rna.errors import StageError

TEMPLATES = Path(__file__).parent / "templates"
# The page stays small enough for a mail: more slides are counted, not shown.
GALLERY = 48
THUMBNAIL_PX = 460
PATHWAYS = 20
STAGES = {"slides": "download", "tiles": "tiles", "features": "features"}
METRICS = ("pcc", "pcc_draw_mean", "pcc_one_draw", "rmse", "rmse_ratio", "nrmse", "crps")


@dataclass(frozen=True)
class Run:
    """The tables that a report is made from."""

    folder: Path
    name: str
    encoder: str
    pathway_set: str
    cohort: dict[str, Any]
    slides: pl.DataFrame
    tables: dict[str, pl.DataFrame]
    models: dict[int, dict[str, Any]]
    logs: dict[int, pl.DataFrame]
    pathways: dict[str, Any]
    bags: bags.Bags


def load(folder: str | Path, run: str, encoder: str, pathway_set: str) -> Run:
    """Read a finished run.

    Raises
    ------
    StageError
        A table of the evaluation is missing.
    """
    folder = Path(folder)
    tables = {}
    for name in ("summary", "genes", "calibration", "pathways", "samples", "examples"):
        path = folder / "evaluation" / run / f"{name}.parquet"
        if not path.is_file():
            raise StageError(path, "missing", "run the stage evaluate first")
        tables[name] = pl.read_parquet(path)
    models, logs = {}, {}
    for path in sorted((folder / "models" / run).glob("fold-*/model.json")):
        fold = int(path.parent.name.removeprefix("fold-"))
        models[fold] = io.read_json(path)
        if (path.parent / "log.parquet").is_file():
            logs[fold] = pl.read_parquet(path.parent / "log.parquet")
    return Run(
        folder=folder,
        name=run,
        encoder=encoder,
        pathway_set=pathway_set,
        cohort=io.read_json(folder / "cohort.json"),
        slides=pl.read_parquet(folder / "slides.parquet"),
        tables=tables,
        models=models,
        logs=logs,
        pathways=io.read_json(folder / "pathways" / f"{pathway_set}.json"),
        bags=bags.load(folder / "bags" / f"{encoder}.safetensors"),
    )


def write(run: Run, out: str | Path) -> Path:
    """Draw the figures and write index.html; returns its path."""
    out = Path(out)
    made = draw(run, out / "figures")
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(**context(run), figure={name: picture(path) for name, path in made.items()})
    )
    io.write_text(page, out / "index.html")
    return out / "index.html"


def draw(run: Run, folder: Path) -> dict[str, Path]:
    """All figures that this run has data for, by name."""
    summary, calibration = run.tables["summary"], run.tables["calibration"]
    sets = _gene_sets(run)
    few = [name for name in ("all", verdict.headline_set(sets)) if name is not None]
    made = {
        "models": figures.models(summary, _model(run), [*dict.fromkeys([*few, *sets[-1:]])]),
        "examples": figures.examples(run.tables["examples"], run.tables["genes"]),
        "pcc_histogram": figures.pcc_histogram(run.tables["genes"]),
        "reliability": figures.reliability(calibration, few),
        "pit": figures.pit(calibration, few),
        "pathways": figures.pathways(run.tables["pathways"]),
    }
    if run.cohort.get("flow"):
        made["flow"] = figures.flow(run.cohort["flow"])
    if run.logs:
        made["training"] = figures.training(run.logs)
    pictures = dict(list(_thumbnails(run).items())[:12])
    if pictures:
        made["slides"] = figures.gallery(pictures)
    return {name: figures.save(figure, folder, name) for name, figure in made.items()}


def context(run: Run) -> dict[str, Any]:
    """Everything that the template shows, but the figures."""
    summary = run.tables["summary"]
    model, sets = _model(run), _gene_sets(run)
    n_tiles = run.bags.n_tiles
    notes = summary.filter((pl.col("model") == model) & (pl.col("metric") == "pcc"))["note"]
    pictures = _thumbnails(run)
    return {
        "version": __version__,
        "run": run.name,
        "model": model,
        "encoder": run.encoder,
        "pathway_set": run.pathway_set,
        "cohort": run.cohort,
        "caveat": run.cohort.get("caveat"),
        "cautions": [text for text in (notes[0] or "").split("; ") if text] if len(notes) else [],
        "verdict": verdict.sentences(summary, run.tables["calibration"], model),
        "gene_sets": sets,
        "counts": {
            "slides": len(run.bags.slide_ids),
            "samples": run.tables["samples"].height,
            "patients": run.tables["samples"]["patient_id"].n_unique(),
            "genes": run.tables["genes"].height,
            "folds": run.tables["samples"]["fold"].n_unique(),
            "k": run.bags.k,
            "above": int((n_tiles > 2 * run.bags.k).sum()),
            "tiles": int(n_tiles.sum()),
            "median_tiles": int(np.median(n_tiles)),
        },
        "failures": failures(run),
        "results": results(summary, model, sets),
        "differences": differences(summary, model, sets),
        "metrics": _model_metrics(summary, model, sets),
        "coverage": _coverage(run),
        "uncertainty": _uncertainty(run),
        "significant": run.tables["genes"].filter(pl.col("fdr") < 0.05).height,
        "top_genes": run.tables["genes"]
        .filter(pl.col("r").is_not_null())
        .sort("r", "gene", descending=[True, False])
        .head(PATHWAYS)
        .to_dicts(),
        "pathways": run.tables["pathways"].head(PATHWAYS).to_dicts(),
        "pathway_info": {
            {"P": "sets", "G": "genes"}.get(key, key): value
            for key, value in run.pathways.items()
            if isinstance(value, str | int | float)
        },
        "gallery": [
            {"name": name, "image": thumbnail(path), **_slide_facts(run, name)}
            for name, path in list(pictures.items())[:GALLERY]
        ],
        "gallery_total": len(pictures),
        "parameters": parameters(run),
        "files": sorted(
            path.name for path in (run.folder / "evaluation" / run.name).glob("*.parquet")
        ),
    }


def failures(run: Run) -> list[dict[str, str]]:
    """Slides that a stage gave up: slide, stage, reason; each at the first stage that failed."""
    seen: dict[str, dict[str, str]] = {}
    for stage, name in STAGES.items():
        folder = run.folder / stage / (run.encoder if stage == "features" else "")
        for path in sorted(folder.glob("shard-*.parquet")):
            table = pl.read_parquet(path, columns=["slide_id", "status", "reason"])
            for slide, _, reason in table.filter(pl.col("status") != "ok").iter_rows():
                seen.setdefault(slide, {"slide": slide, "stage": name, "reason": reason or ""})
    return sorted(seen.values(), key=lambda row: row["slide"])


def results(summary: pl.DataFrame, model: str, sets: list[str]) -> list[dict[str, Any]]:
    """A row per model with its correlation on every gene set, and the noise floor last."""
    rows = []
    own = verdict.pick(summary, model=model, gene_set="all", metric="pcc")
    cautions = own["note"] or "" if own else ""
    for name in summary.filter(pl.col("metric") == "pcc")["model"].unique(maintain_order=True):
        cells = [verdict.pick(summary, model=name, gene_set=s, metric="pcc") for s in sets]
        ratio = verdict.pick(summary, model=name, gene_set="all", metric="rmse_ratio")
        # The cautions that hold for all rows stand on top of the page.
        note = (cells[0]["note"] or "" if cells[0] else "").removesuffix(cautions).strip("; ")
        rows.append({"name": name, "cells": cells, "ratio": ratio, "note": note})
    floor = [verdict.pick(summary, model=model, gene_set=s, metric="pcc_floor") for s in sets]
    rows.append(
        {"name": "noise floor", "cells": floor, "ratio": None, "note": "5th to 95th percentile"}
    )
    return rows


def differences(summary: pl.DataFrame, model: str, sets: list[str]) -> list[dict[str, Any]]:
    """Paired differences between the model and each null, on the model's own gene sets."""
    rows = []
    for null in verdict.WORDS:
        for metric, better in (("pcc", 1), ("rmse", -1), ("crps", -1)):
            key = f"{metric}_minus:{null}"
            cells = [verdict.pick(summary, model=model, gene_set=s, metric=key) for s in sets]
            if any(cells) and not (null == "constant" and metric == "pcc"):
                rows.append({"null": null, "metric": metric, "better": better, "cells": cells})
    return rows


def parameters(run: Run) -> list[tuple[str, str]]:
    """Scalars of the first fold's model.json, nested names joined; epochs of all folds."""
    if not run.models:
        return []
    found: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                walk(f"{prefix}.{key}" if prefix else key, value[key])
        elif value is None or isinstance(value, bool | int | float | str):
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            if len(text) <= 80:
                found.append((prefix, text))

    per_fold = ("best_epoch", "epochs", "val_loss", "fold")
    first = run.models[min(run.models)]
    walk("", {key: value for key, value in first.items() if key not in per_fold})
    for key in per_fold[:3]:
        values = [run.models[fold].get(key) for fold in sorted(run.models)]
        if any(value is not None for value in values):
            text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
            found.append((f"{key} per fold", text))
    return found


def picture(path: Path) -> dict[str, Any]:
    """A PNG as a data URI, with its width in CSS pixels (150 dpi, shown at 100)."""
    with Image.open(path) as image:
        width = round(image.width / 1.5)
    data = base64.b64encode(path.read_bytes()).decode()
    return {"uri": f"data:image/png;base64,{data}", "width": width}


def thumbnail(path: Path) -> str:
    """A slide's overview, made small, as a data URI."""
    buffer = bytes_io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        image.convert("RGB").save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _model(run: Run) -> str:
    return str(run.tables["summary"]["model"][0])


def _gene_sets(run: Run) -> list[str]:
    return run.tables["summary"]["gene_set"].unique(maintain_order=True).to_list()


def _thumbnails(run: Run) -> dict[str, Path]:
    paths = {name: run.folder / "tiles" / f"{name}.jpg" for name in run.slides["slide_id"].sort()}
    return {name: path for name, path in paths.items() if path.is_file()}


def _slide_facts(run: Run, slide: str) -> dict[str, Any]:
    site = run.slides.filter(pl.col("slide_id") == slide)["site"][0]
    if slide not in run.bags.slide_ids:
        return {"tiles": None, "site": site}
    return {"tiles": int(run.bags.n_tiles[run.bags.slide_ids.index(slide)]), "site": site}


def _model_metrics(summary: pl.DataFrame, model: str, sets: list[str]) -> list[dict[str, Any]]:
    rows = []
    for metric in METRICS:
        cells = [verdict.pick(summary, model=model, gene_set=s, metric=metric) for s in sets]
        null = verdict.pick(summary, model="constant", gene_set="all", metric=metric)
        rows.append({"metric": metric, "cells": cells, "constant": null})
    return rows


def _coverage(run: Run) -> list[dict[str, Any]]:
    table = run.tables["calibration"].filter(
        (pl.col("quantity") == "coverage") & pl.col("nominal").is_in([0.5, 0.8, 0.9])
    )
    rows = []
    sets = _gene_sets(run)
    for gene_set in [name for name in ("all", verdict.headline_set(sets)) if name is not None]:
        for level in sorted(table["nominal"].unique()):
            part = table.filter((pl.col("gene_set") == gene_set) & (pl.col("nominal") == level))
            cells = {row["within"]: row for row in part.to_dicts()}
            rows.append({"gene_set": gene_set, "nominal": level, **cells})
    return rows


def _uncertainty(run: Run) -> list[dict[str, Any]]:
    """NLL and Spearman of the draws with their nulls beside them."""
    table, rows = run.tables["calibration"], []
    for gene_set in _gene_sets(run):
        cells: dict[str, Any] = {"gene_set": gene_set}
        for name, values in {
            "nll": {"quantity": "nll", "kind": "draws"},
            "nll_null": {"quantity": "nll", "kind": "train-normal"},
            "rho": {"quantity": "spearman", "kind": "draws", "within": "pooled"},
            "rho_null": {"quantity": "spearman", "kind": "constant-variance", "within": "pooled"},
            "rho_gene": {"quantity": "spearman", "kind": "draws", "within": "gene"},
        }.items():
            row = verdict.pick(table, gene_set=gene_set, **values)
            cells[name] = row["value"] if row else None
        rows.append(cells)
    return rows


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["num"] = number
    environment.filters["span"] = span
    return environment


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    value = round(value, digits) + 0.0  # -0.0001 is 0.000, not -0.000
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")


def span(row: dict[str, Any] | None, digits: int = 3) -> str:
    """The interval of a row."""
    if row is None or row.get("low") is None or row.get("high") is None:
        return ""
    if row["low"] == row["high"]:
        return ""
    return f"{number(row['low'], digits)} to {number(row['high'], digits)}"
