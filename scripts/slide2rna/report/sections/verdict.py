"""Verdict sentences about the scores, generated only from the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.evaluation.scoring.summary import UNCLAIMED
from slide2rna.pages.numbers import format_number

# A 90 % interval whose coverage is off by more is called too narrow or too wide.
TOLERANCE = 0.05
# Two models that differ by a factor have the same correlation up to rounding.
ROUNDING = 1e-6
LABELS = {"good": "better", "bad": "worse", "open": "unclear"}
PHRASES = {"good": "better", "bad": "worse", "open": "no clear difference"}


@dataclass(frozen=True)
class Sentence:
    """A statement, and `label`, a word that sums it up; `tone` is good, bad or open."""

    text: str
    tone: str
    label: str


def tone(row: Row | None, lower_is_better: bool = False) -> str | None:
    """Return good or bad where the interval of a difference excludes 0, else open."""
    if row is None or row["low"] is None or row["high"] is None:
        return None
    if row["low"] <= ROUNDING and row["high"] >= -ROUNDING:
        return "open"
    return "good" if (row["low"] > 0) != lower_is_better else "bad"


def sentences(summary: pl.DataFrame, calibration: pl.DataFrame, model: str) -> list[Sentence]:
    """Write the verdict from the clean rows: losses first.

    Then come signal, comparisons with other models, correlation within sites, CRPS and calibration.
    """
    sets = labels.gene_sets(summary)
    headline_sets = labels.shown_sets(sets)
    out = _signals(summary, model, headline_sets)
    out += _compare_all(summary, model, sets, headline_sets)
    out += _within_site(summary, model)
    out += _crps(summary, model)
    out += _calibration(calibration, claims_coverage(summary, model))
    return sorted(out, key=lambda line: line.tone != "bad")


def claims_coverage(summary: pl.DataFrame, model: str) -> bool:
    """Return whether the draws claim coverage; guided draws don't."""
    score = labels.pick(summary, model=model, gene_set="all", metric="pcc")
    return score is None or UNCLAIMED not in (score["note"] or "")


def network_gain(models: Iterable[dict[str, Any]]) -> list[Sentence]:
    """Count the folds where the flow's network is better than its start, from each model.json."""
    started = [
        model
        for model in models
        if model.get("settings", {}).get("model", {}).get("skip") == "ridge"
    ]
    if not started:
        return []
    better = sum(model.get("best_epoch", 0) > 0 for model in started)
    if not better:
        text = (
            "Training the flow's network did not improve on its start: no epoch was clearly better "
            "on val in any fold, so the network is left out. The points are those of the fitted "
            "mean, and the draws add Gaussian noise with the spread of its residuals."
        )
        return [Sentence(text, "bad", "network left out")]
    folds = f"{better} of {len(started)} folds"
    text = f"The flow's network is clearly better on val than its start in {folds}"
    text += "." if better == len(started) else "; in the other folds it is left out."
    return [Sentence(text, "good" if better == len(started) else "open", "network used")]


def _signals(summary: pl.DataFrame, model: str, headline_sets: list[str]) -> list[Sentence]:
    out = []
    for gene_set in headline_sets:
        score = labels.pick(summary, model=model, gene_set=gene_set, metric="pcc")
        floor = labels.pick(summary, model=model, gene_set=gene_set, metric="pcc_floor")
        if score is None or score["value"] is None or floor is None:
            continue
        clear = score["low"] > floor["high"]
        genes = f"{score['n_genes']:,} genes"
        out.append(
            Sentence(
                f"Mean correlation of {model} over {labels.gene_set_name(gene_set)} ({genes}, "
                f"{score['n_samples']} samples): {spread(score)}; permuted profiles reach "
                f"{floor['high']:.3f} in 5 % of cases.",
                "good" if clear else "bad",
                "signal" if clear else "no signal",
            )
        )
    return out


def _compare_all(
    summary: pl.DataFrame, model: str, sets: list[str], headline_sets: list[str]
) -> list[Sentence]:
    """Write at most one sentence per outcome, so that ten models don't need ten sentences."""
    groups: dict[str, list[str]] = {"worse": [], "partly worse": [], "unclear": [], "better": []}
    for other in labels.ordered_models(summary, model):
        if other == model:
            continue
        if comparison := _compare(summary, model, other, sets, headline_sets):
            outcome, words = comparison
            groups[outcome].append(words)
    opening = {
        "worse": ("bad", "Worse than"),
        "partly worse": ("bad", "Partly worse than"),
        "unclear": ("open", "No clear difference from"),
        "better": ("good", "Better than"),
    }
    where = " and ".join(labels.gene_set_name(name) for name in headline_sets)
    out = []
    for label, parts in groups.items():
        if parts:
            grade, start = opening[label]
            end = f", on {where}; in brackets the difference on all genes" * (label == "better")
            rivals = listed(parts) if label == "better" else "; ".join(parts)
            out.append(Sentence(f"{start} {rivals}{end}.", grade, label))
    absent = summary.filter(pl.col("metric") == "absent").select("model", "note").unique()
    if absent.height:
        reasons = [f"{name}: {note}" for name, note in absent.sort("model").iter_rows()]
        out.append(Sentence(f"Not available ({'; '.join(reasons)}).", "open", "absent"))
    return out


def _compare(
    summary: pl.DataFrame, model: str, other: str, sets: list[str], headline_sets: list[str]
) -> tuple[str, str] | None:
    """Return the outcome against another model, and the words for it."""
    # The constant has no correlation; a model must lower its error.
    metric = "rmse" if other == "constant" else "pcc"
    differences = {s: _difference(summary, model, other, metric, s) for s in sets}
    rows = {s: row for s, row in differences.items() if row is not None}
    tones = {s: grade for s, row in rows.items() if (grade := tone(row, metric == "rmse"))}
    compared = [s for s in headline_sets if s in tones]
    if not compared:
        return None
    unit = metric.upper()
    error = _difference(summary, model, other, "rmse", "all")
    lost_error = metric == "pcc" and tone(error, True) == "bad"
    lost = [s for s in sets if tones.get(s) == "bad"]
    if not lost and not lost_error:
        if all(tones[s] == "good" for s in compared):
            return (
                "better",
                f"{other} ({unit} {format_number(rows[compared[0]]['value'], signed=True)})",
            )
        mixed = any(tones[s] == "good" for s in compared)
        text = f"{unit} " + ", ".join(_set_difference(rows, tones, s, mixed) for s in compared)
        return "unclear", f"{other} ({text})"
    wholly = all(tones[s] == "bad" for s in compared)
    text = f"{unit} " + ", ".join(_set_difference(rows, tones, s, not wholly) for s in compared)
    further = [s for s in lost if s not in compared]
    if further:
        everywhere = wholly and all(grade == "bad" for grade in tones.values())
        text += (
            "; also worse on all other sets"
            if everywhere
            else f"; also worse on {', '.join(further)}"
        )
    if lost_error and error is not None and not wholly:
        text += f"; RMSE {spread(error, True)} on all genes: worse"
    return "worse" if wholly else "partly worse", f"{other} ({text})"


def _set_difference(
    rows: dict[str, Row], tones: dict[str, str], gene_set: str, with_phrase: bool
) -> str:
    text = f"{spread(rows[gene_set], True)} on {labels.gene_set_name(gene_set)}"
    return f"{text}: {PHRASES[tones[gene_set]]}" if with_phrase else text


def _difference(
    summary: pl.DataFrame, model: str, other: str, metric: str, gene_set: str
) -> Row | None:
    row = labels.pick(summary, model=model, gene_set=gene_set, metric=f"{metric}_minus:{other}")
    return row if row is not None and row["value"] is not None else None


def _within_site(summary: pl.DataFrame, model: str) -> list[Sentence]:
    row = labels.pick(summary, model=model, gene_set="all", metric="pcc_within_site")
    if row is None or row["value"] is None or row["low"] is None:
        return []
    clear = row["low"] > 0
    text = (
        "Within sites, where differences between hospitals can't help, the mean correlation over "
        f"all genes is {spread(row)}."
    )
    return [Sentence(text, "good" if clear else "bad", "signal" if clear else "no signal")]


def _crps(summary: pl.DataFrame, model: str) -> list[Sentence]:
    """Compare CRPS with that of the train profiles and of every other model that has draws."""
    out = []
    for other in labels.ordered_models(summary, model):
        row = _difference(summary, model, other, "crps", "all")
        base = labels.pick(summary, model=other, gene_set="all", metric="crps")
        grade = tone(row, True)
        if row is None or grade is None or base is None or not base["value"]:
            continue
        gain = -row["value"] / base["value"]
        word = "lower" if gain >= 0 else "higher"
        whose = "the train profiles" if other == "constant" else other
        text = (
            f"Predicted distribution: CRPS {percent(abs(gain))} {word} than that of {whose} "
            f"(difference {spread(row, signed=True)})."
        )
        out.append(Sentence(text, grade, LABELS[grade]))
    return out


def _calibration(calibration: pl.DataFrame, coverage_claimed: bool) -> list[Sentence]:
    if not calibration.height:
        text = "The model predicts points without uncertainty."
        return [Sentence(text, "open", "absent")]
    if not calibration.filter(quantity="coverage").height:
        text = "Calibration: the draws weren't stored, only their mean and sd."
        return [Sentence(text, "open", "absent")]
    row = labels.pick(
        calibration, gene_set="all", quantity="coverage", within="pooled", kind="draws", nominal=0.9
    )
    if row is None:
        return [Sentence("Calibration: too few draws for a 90 % interval.", "open", "absent")]
    return [coverage(row, "The 90 % intervals", "values", coverage_claimed)]


def coverage(row: Row, intervals: str, measured: str, coverage_claimed: bool) -> Sentence:
    """Compare the coverage of 90 % intervals with nine in ten measured values or scores."""
    off = row["covered"] - 0.9
    fine = abs(off) <= TOLERANCE
    word = "calibrated" if fine else ("too narrow" if off < 0 else "too wide")
    text = (
        f"{intervals} hold {percent(row['covered'])} of the measured {measured} "
        f"({percent(row['low'])} to {percent(row['high'])})."
    )
    if not coverage_claimed:
        return Sentence(f"{text} The draws are guided: {UNCLAIMED}.", "open", "not claimed")
    return Sentence(text, "good" if fine else "bad", word)


def spread(row: Row, signed: bool = False) -> str:
    """Format a value with its interval in brackets."""
    value, low, high = (format_number(row[key], signed=signed) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def listed(parts: Sequence[str], word: str = "and") -> str:
    """Join parts with commas, and with `word` before the last."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def percent(share: float) -> str:
    """Format a share as per cent."""
    return f"{100 * share:.1f} %"
