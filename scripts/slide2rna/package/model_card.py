"""Model card: README of a packaged model, with data, performance, limits and licences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import polars as pl

from slide2rna.core import encoder_names
from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.features import encoder_specs
from slide2rna.package import reliability
from slide2rna.pages import html, numbers
from slide2rna.report.sections import verdict

LEVELS = (0.5, 0.8, 0.9)


class EncoderLicence(TypedDict):
    """Licence of an encoder's weights, a note on them, and the page that states it."""

    licence: str
    note: str
    url: str | None


class LevelCoverage(TypedDict):
    """Rows of the calibration and the conformal table at one level; None if missing."""

    level: float
    draws: Row | None
    conformal: Row | None


@dataclass(frozen=True)
class CardFacts:
    """Tables and metadata that a card is written from.

    Attributes
    ----------
    about : the content of predictor.json.
    metas : model.json of the folds.
    genes, pathways : the packaged tables.
    summary, calibration, conformal, samples : of the evaluation.
    """

    about: dict[str, Any]
    metas: list[dict[str, Any]]
    genes: pl.DataFrame
    pathways: pl.DataFrame
    summary: pl.DataFrame
    calibration: pl.DataFrame
    conformal: pl.DataFrame
    samples: pl.DataFrame


def text(facts: CardFacts) -> str:
    """Return the card as Markdown with the YAML header that model hubs read."""
    environment = html.environment().overlay(autoescape=False)
    return environment.get_template("pages/model_card.md.j2").render(**context(facts))


def context(facts: CardFacts) -> dict[str, Any]:
    """Return the template's context, with numbers as they are in the tables."""
    about, summary = facts.about, labels.clean_rows(facts.summary)
    sets = labels.shown_sets(labels.gene_sets(summary))
    pcc = summary.filter(pl.col("metric") == "pcc")
    models = labels.ordered_models(summary, about["model"])
    main_pcc = pcc.filter(model=about["model"], gene_set="all")
    return {
        "about": about,
        "encoder": encoder_licence(about),
        "sets": [(name, labels.gene_set_name(name)) for name in sets],
        "models": [
            {
                "name": model,
                "words": labels.model_description(model),
                "kind": labels.model_kind(model, about["model"]),
                "scores": [_first_row(pcc.filter(model=model, gene_set=name)) for name in sets],
            }
            for model in models
        ],
        "verdict": verdict.sentences(summary, facts.calibration, about["model"]),
        "caution": main_pcc["note"][0] if main_pcc.height else None,
        "coverage": coverage(facts),
        "words": {
            "genes": _reliability_counts(facts.genes),
            "pathways": _reliability_counts(facts.pathways),
        },
        "n_test": facts.samples["patient_id"].n_unique(),
        "n_cal": _calibration_range(facts),
        "fitted": _training_facts(facts.metas),
        "genes_word": lambda count: f"{numbers.format_count(count)} genes",
        "percent": percent,
    }


def encoder_licence(about: dict[str, Any]) -> EncoderLicence:
    """Return the licences of a model's encoders, notes on them, and the pages that state them.

    Parameters
    ----------
    about : the content of predictor.json.
    """
    made_by = about.get("made_by")
    if about["encoder"] == "files":
        origin = "encoder unknown" if made_by is None else f"encoder {made_by}"
        spec = encoder_specs.terms(made_by or "")
        note = f"features from files; {origin}"
        return {
            "licence": spec.licence if spec else "unknown",
            "note": note,
            "url": spec.url if spec else None,
        }
    features = about.get("features") or {"encoder": about["encoder"]}
    known = encoder_specs.aliases()
    specs = [encoder_specs.find(known.get(name, name)) for name in encoder_names.names(features)]
    notes = [spec.note for spec in specs if spec.note]
    return {
        "licence": ", ".join(dict.fromkeys(spec.licence for spec in specs)),
        "note": "; ".join(notes) or "see its page",
        "url": ", ".join(spec.url for spec in specs if spec.url) or None,
    }


def coverage(facts: CardFacts) -> list[LevelCoverage]:
    """Return test coverage of the draws' and the conformal intervals per level, over all genes."""
    draws = facts.calibration.filter(quantity="coverage", kind="draws", within="pooled")
    conformal = facts.conformal.filter(kind="conformal", within="pooled", gene_set="all")
    rows: list[LevelCoverage] = []
    for level in LEVELS:
        draws_row = _first_row(
            draws.filter(pl.col("gene_set") == "all", pl.col("interval") == level)
        )
        conformal_row = _first_row(conformal.filter(pl.col("level") == level))
        if draws_row or conformal_row:
            rows.append({"level": level, "draws": draws_row, "conformal": conformal_row})
    return rows


def percent(row: Row | None) -> str:
    """Return the covered share with its interval, or the word for a refused one."""
    if row is None:
        return "–"
    if row["covered"] is None:
        return "refused"
    ends = f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if row["low"] is not None else ""
    return f"{100 * row['covered']:.1f} %{ends}"


def _first_row(table: pl.DataFrame) -> Row | None:
    return table.row(0, named=True) if table.height else None


def _reliability_counts(table: pl.DataFrame) -> dict[str, int]:
    """Count genes or pathways per word of reliability."""
    counts = dict(table["reliability"].value_counts().iter_rows())
    words = (reliability.GOOD, reliability.WEAK, reliability.NONE, reliability.UNKNOWN)
    return {word: int(counts.get(word, 0)) for word in words}


def _calibration_range(facts: CardFacts) -> tuple[int, int] | None:
    """Return the calibration patients of the smallest and the largest fold."""
    counts = facts.conformal["n_cal"].drop_nulls()
    return (int(counts.min()), int(counts.max())) if len(counts) else None  # type: ignore[arg-type]


def _training_facts(metas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return parameter counts, train samples and best epochs from the folds' model.json."""
    first = metas[0]
    samples = [meta.get("samples", {}).get("train") for meta in metas]
    return {
        "parameters": first.get("parameters"),
        "train": sorted({count for count in samples if count is not None}),
        "epochs": [meta.get("best_epoch") for meta in metas],
        "torch": first.get("torch"),
    }
