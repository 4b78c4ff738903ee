"""Plain-language summary of a run, by a fixed rule, for readers without statistics."""

from __future__ import annotations

from typing import Any

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.pages.numbers import format_number
from slide2rna.report.sections import verdict
from slide2rna.report.sections.run_facts import RunCounts

# Start of the caution in `summary` against claims about single genes.
FEW = "too few for per-gene claims"
# Upper bounds of the mean correlation, and the word for each range.
WORDS = ((0.1, "hardly any"), (0.3, "weak"), (0.5, "moderate"), (1.01, "strong"))
# Nulls with a correlation, in plain words.
PLAIN = {
    "site-mean": "the average of the patient's hospital",
    "color-ridge": "the slide's colour alone",
    "permuted": "a model trained on shuffled patients",
}
RULE = (
    "A fixed rule chooses the words. A mean correlation below 0.1 is hardly any agreement, below "
    "0.3 weak, below 0.5 moderate, otherwise strong. Better, worse and chance follow from 95 % "
    "intervals. A 90 % interval can be believed if it holds 85 to 95 % of the values."
)


def sentences(
    summary: pl.DataFrame,
    genes: pl.DataFrame,
    calibration: pl.DataFrame,
    cohort: dict[str, Any],
    counts: RunCounts,
    model: str,
) -> list[str]:
    """Summarise the run: its data, its scores, the role of tissue, its uncertainty, its limits.

    Parameters
    ----------
    summary : rows of the clean protocol.
    genes, calibration : tables of the evaluation.
    counts : the result of `run_facts.counts`.
    """
    lines = [_data(cohort, counts), _agreement(summary, genes, model)]
    lines += [_tissue(summary, model), _uncertainty(summary, calibration, model)]
    lines.append(_limits(cohort, counts))
    return [line for line in lines if line]


def _data(cohort: dict[str, Any], counts: RunCounts) -> str:
    unit = cohort["split_unit"]
    if unit == "patient":
        unseen = "each patient was predicted by a model that was not trained on that patient"
    else:
        unseen = (
            f"each {unit} was predicted by a model that was not trained on that {unit}, but on "
            "others of the same patient"
        )
    return (
        f"The model predicted the expression of {_count(counts['genes'], 'gene')} from "
        f"{_count(counts['slides'], 'H&E slide')} of {_count(counts['patients'], 'patient')}, and "
        f"its predictions were compared with measured RNA; {unseen}."
    )


def _agreement(summary: pl.DataFrame, genes: pl.DataFrame, model: str) -> str:
    score = labels.pick(summary, model=model, gene_set="all", metric="pcc")
    floor = labels.pick(summary, model=model, gene_set="all", metric="pcc_floor")
    if score is None or score["value"] is None or score["low"] is None or floor is None:
        return "There are too few patients to test the agreement of predictions with measurements."
    value = format_number(score["value"], 2)
    span = f"{format_number(score['low'], 2)} to {format_number(score['high'], 2)}"
    against = f"mean correlation {value}, 95 % interval {span}; 1 is perfect"
    if score["low"] <= floor["high"]:
        return (
            "Predictions agree with measurements no better than chance "
            f"({against}, and shuffled patients reach {format_number(floor['high'], 2)})."
        )
    word = next(word for end, word in WORDS if score["value"] < end)
    text = f"Predictions show {word} agreement with measurements ({against})"
    if not genes["fdr"].is_null().all() and FEW not in (score["note"] or ""):
        n_significant = genes.filter(pl.col("fdr") < 0.05).height
        share = f"{100 * n_significant / genes.height:.0f} %"
        text += f"; {n_significant:,} of {genes.height:,} genes ({share}) agree better than chance"
    return f"{text}."


def _tissue(summary: pl.DataFrame, model: str) -> str:
    """Compare with every null on all genes by correlation, and with the train mean by error."""
    tones: dict[str, list[str]] = {"good": [], "open": [], "bad": []}
    for other, words in PLAIN.items():
        row = labels.pick(summary, model=model, gene_set="all", metric=f"pcc_minus:{other}")
        if (tone := verdict.tone(row)) is not None:
            tones[tone].append(words)
    lost = [*tones["bad"], *tones["open"]]
    if lost:
        parts = []
        if tones["bad"]:
            parts.append(
                f"The model agrees less well with measurements than {verdict.listed(tones['bad'])}."
            )
        if tones["open"]:
            others = verdict.listed(tones["open"], "or")
            parts.append(f"The model doesn't agree clearly better with them than {others}.")
        look = "These don't" if len(lost) > 1 else "That doesn't"
        text = (
            f"{' '.join(parts)} {look} use the structure of the tissue, so there is no evidence "
            "that the model has learned from it."
        )
    elif tones["good"]:
        text = (
            "The model agrees better with measurements than predictions that don't use the "
            f"structure of the tissue ({verdict.listed(tones['good'])})."
        )
    else:
        return ""
    error = labels.pick(summary, model=model, gene_set="all", metric="rmse_minus:constant")
    if (tone := verdict.tone(error, True)) in ("open", "bad"):
        than = "larger" if tone == "bad" else "not clearly smaller"
        text += f" Its error is {than} than that of one average profile for all patients."
    return text


def _uncertainty(summary: pl.DataFrame, calibration: pl.DataFrame, model: str) -> str:
    if not calibration.height:
        return "The model predicts single values without uncertainty."
    row = labels.pick(
        calibration, gene_set="all", quantity="coverage", within="pooled", kind="draws", nominal=0.9
    )
    if row is None:
        return ""
    crps = labels.pick(summary, model=model, gene_set="all", metric="crps_minus:constant")
    worse = ""
    if verdict.tone(crps, True) == "bad":
        worse = (
            " Its predicted distribution is less accurate than simply giving every patient the "
            "distribution of the training profiles."
        )
    return _calibration(row, verdict.claims_coverage(summary, model)) + worse


def _calibration(row: Row, coverage_claimed: bool) -> str:
    fact = f"its 90 % intervals hold {verdict.percent(row['covered'])} of the measured values"
    if not coverage_claimed:
        return f"Don't rely on its uncertainty: the draws are guided, and {fact}."
    off = row["covered"] - 0.9
    if abs(off) <= verdict.TOLERANCE:
        return f"Its uncertainty can be believed on average over patients like these: {fact}."
    if off < 0:
        return f"Its intervals are too narrow: {fact}."
    return f"Its intervals are too wide: {fact}."


def _limits(cohort: dict[str, Any], counts: RunCounts) -> str:
    if cohort.get("source") in ("demo", "law", "law2"):
        return (
            "The data are simulated to demonstrate the program: no result here is a finding about "
            "people."
        )
    where = "this cohort"
    if (sites := cohort.get("n_sites") or 0) > 1:
        where = f"this cohort of {_count(sites, 'site')}"
    caution = ""
    if counts["patients"] < 100:
        caution = f" With {_count(counts['patients'], 'patient')}, all numbers are rough estimates."
    return (
        f"The results hold for {where}; other hospitals, stains and scanners may differ.{caution}"
    )


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
