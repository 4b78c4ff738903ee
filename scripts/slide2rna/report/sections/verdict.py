"""What the numbers say, in sentences: generated from the tables and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from slide2rna.evaluation.scoring import labels
from slide2rna.evaluation.scoring.summary import UNCLAIMED
from slide2rna.pages.numbers import number

# A 90 % interval that covers less or more is called too narrow or too wide.
TOLERANCE = 0.05
# Two models that differ by a factor correlate alike, but for rounding.
ROUNDING = 1e-6
LABELS = {"good": "better", "bad": "worse", "open": "unclear"}
PHRASES = {"good": "better", "bad": "worse", "open": "no clear difference"}


@dataclass(frozen=True)
class Sentence:
    """A statement with a word that sums it up; `tone` is good, bad or open."""

    text: str
    tone: str
    label: str


def pick(table: pl.DataFrame, **values: object) -> dict | None:
    """The row of a table with these values, if there is one."""
    rows = table.filter([pl.col(key) == value for key, value in values.items()])
    return rows.row(0, named=True) if rows.height else None


def tone(row: dict | None, lower_is_better: bool = False) -> str | None:
    """good or bad where the interval of a difference lies on one side of 0, else open."""
    if row is None or row["low"] is None or row["high"] is None:
        return None
    if row["low"] <= ROUNDING and row["high"] >= -ROUNDING:
        return "open"
    return "good" if (row["low"] > 0) != lower_is_better else "bad"


def sentences(summary: pl.DataFrame, calibration: pl.DataFrame, model: str) -> list[Sentence]:
    """The verdict from the clean rows: losses first, then signal, the rest, CRPS, calibration."""
    sets = labels.gene_sets(summary)
    shown = labels.shown_sets(sets)
    out = _signals(summary, model, shown)
    out += _against_all(summary, model, sets, shown)
    out += _within_site(summary, model)
    out += _crps(summary, model)
    out += _calibrated(calibration, claimed(summary, model))
    return sorted(out, key=lambda line: line.tone != "bad")


def claimed(summary: pl.DataFrame, model: str) -> bool:
    """Whether the draws claim any coverage; guided ones don't."""
    score = pick(summary, model=model, gene_set="all", metric="pcc")
    return score is None or UNCLAIMED not in (score["note"] or "")


def started(models: Iterable[dict[str, Any]]) -> list[Sentence]:
    """Whether training found anything beyond its ridge start, from each fold's model.json."""
    facts = [
        model
        for model in models
        if model.get("settings", {}).get("model", {}).get("skip") == "ridge"
    ]
    kept = sum(model.get("best_epoch") == 0 for model in facts)
    if not kept:
        return []
    text = (
        f"In {kept} of {len(facts)} folds no epoch bettered the ridge start on val: there points "
        "are the ridge's, and draws its residuals' Gaussian law."
    )
    return [Sentence(text, "open", "start kept")]


def _signals(summary: pl.DataFrame, model: str, shown: list[str]) -> list[Sentence]:
    out = []
    for gene_set in shown:
        score = pick(summary, model=model, gene_set=gene_set, metric="pcc")
        floor = pick(summary, model=model, gene_set=gene_set, metric="pcc_floor")
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


def _against_all(
    summary: pl.DataFrame, model: str, sets: list[str], shown: list[str]
) -> list[Sentence]:
    """At most one sentence per outcome, so that ten models don't make ten sentences."""
    groups: dict[str, list[str]] = {"worse": [], "partly worse": [], "unclear": [], "better": []}
    for other in labels.order(summary, model):
        if other != model and (found := _against(summary, model, other, sets, shown)):
            groups[found[0]].append(found[1])
    opening = {
        "worse": ("bad", "Worse than"),
        "partly worse": ("bad", "Worse in part than"),
        "unclear": ("open", "No clear difference from"),
        "better": ("good", "Better than"),
    }
    where = " and ".join(labels.gene_set_name(name) for name in shown)
    out = []
    for label, parts in groups.items():
        if parts:
            grade, start = opening[label]
            end = f", on {where}; in brackets the difference on all genes" * (label == "better")
            told = listed(parts) if label == "better" else "; ".join(parts)
            out.append(Sentence(f"{start} {told}{end}.", grade, label))
    absent = summary.filter(pl.col("metric") == "absent").select("model", "note").unique()
    if absent.height:
        reasons = [f"{name}: {note}" for name, note in absent.sort("model").iter_rows()]
        out.append(Sentence(f"Not available ({'; '.join(reasons)}).", "open", "absent"))
    return out


def _against(
    summary: pl.DataFrame, model: str, other: str, sets: list[str], shown: list[str]
) -> tuple[str, str] | None:
    """The outcome against another model, and the words for it."""
    # The constant has no correlation; its error is what a model must lower.
    metric = "rmse" if other == "constant" else "pcc"
    found = {s: _difference(summary, model, other, metric, s) for s in sets}
    rows = {s: row for s, row in found.items() if row is not None}
    tones = {s: grade for s, row in rows.items() if (grade := tone(row, metric == "rmse"))}
    seen = [s for s in shown if s in tones]
    if not seen:
        return None
    unit = metric.upper()
    error = _difference(summary, model, other, "rmse", "all")
    lost_error = metric == "pcc" and tone(error, True) == "bad"
    lost = [s for s in sets if tones.get(s) == "bad"]
    if not lost and not lost_error:
        if all(tones[s] == "good" for s in seen):
            return "better", f"{other} ({unit} {number(rows[seen[0]]['value'], signed=True)})"
        mixed = any(tones[s] == "good" for s in seen)
        told = f"{unit} " + ", ".join(_on(rows, tones, s, mixed) for s in seen)
        return "unclear", f"{other} ({told})"
    wholly = all(tones[s] == "bad" for s in seen)
    told = f"{unit} " + ", ".join(_on(rows, tones, s, not wholly) for s in seen)
    further = [s for s in lost if s not in seen]
    if further:
        everywhere = wholly and all(grade == "bad" for grade in tones.values())
        told += (
            "; on every other set too" if everywhere else f"; worse also on {', '.join(further)}"
        )
    if lost_error and error is not None and not wholly:
        told += f"; RMSE {spread(error, True)} on all genes: worse"
    return "worse" if wholly else "partly worse", f"{other} ({told})"


def _on(rows: dict, tones: dict[str, str], gene_set: str, said: bool = True) -> str:
    text = f"{spread(rows[gene_set], True)} on {labels.gene_set_name(gene_set)}"
    return f"{text}: {PHRASES[tones[gene_set]]}" if said else text


def _difference(
    summary: pl.DataFrame, model: str, other: str, metric: str, gene_set: str
) -> dict | None:
    row = pick(summary, model=model, gene_set=gene_set, metric=f"{metric}_minus:{other}")
    return row if row is not None and row["value"] is not None else None


def _within_site(summary: pl.DataFrame, model: str) -> list[Sentence]:
    row = pick(summary, model=model, gene_set="all", metric="pcc_within_site")
    if row is None or row["value"] is None or row["low"] is None:
        return []
    clear = row["low"] > 0
    text = (
        "Within sites, where neither batch nor case mix can help, the mean correlation over all "
        f"genes is {spread(row)}."
    )
    return [Sentence(text, "good" if clear else "bad", "signal" if clear else "no signal")]


def _crps(summary: pl.DataFrame, model: str) -> list[Sentence]:
    """Against the train profiles, and against every other model that has draws."""
    out = []
    for other in labels.order(summary, model):
        row = _difference(summary, model, other, "crps", "all")
        base = pick(summary, model=other, gene_set="all", metric="crps")
        grade = tone(row, True)
        if row is None or grade is None or base is None or not base["value"]:
            continue
        gain = -row["value"] / base["value"]
        word = "lower" if gain >= 0 else "higher"
        whose = "the train profiles" if other == "constant" else other
        text = (
            f"As a distribution: CRPS {percent(abs(gain))} {word} than that of {whose} "
            f"(difference {spread(row, signed=True)})."
        )
        out.append(Sentence(text, grade, LABELS[grade]))
    return out


def _calibrated(calibration: pl.DataFrame, claimed: bool) -> list[Sentence]:
    if not calibration.height:
        text = "A point prediction: it says nothing about its uncertainty."
        return [Sentence(text, "open", "absent")]
    if not calibration.filter(quantity="coverage").height:
        text = "Calibration: the draws weren't kept, only their mean and sd."
        return [Sentence(text, "open", "absent")]
    row = pick(
        calibration, gene_set="all", quantity="coverage", within="pooled", kind="draws", nominal=0.9
    )
    if row is None:
        return [Sentence("Calibration: too few draws for a 90 % interval.", "open", "absent")]
    return [coverage(row, "The 90 % intervals", "values", claimed)]


def coverage(row: dict, intervals: str, measured: str, claimed: bool) -> Sentence:
    """Whether the intervals hold the nine in ten measured values or scores that they promise."""
    off = row["covered"] - 0.9
    fine = abs(off) <= TOLERANCE
    word = "calibrated" if fine else ("too narrow" if off < 0 else "too wide")
    text = (
        f"{intervals} hold {percent(row['covered'])} of the measured {measured} "
        f"({percent(row['low'])} to {percent(row['high'])})."
    )
    if not claimed:
        return Sentence(f"{text} The draws are guided: {UNCLAIMED}.", "open", "not claimed")
    return Sentence(text, "good" if fine else "bad", word)


def spread(row: dict, signed: bool = False) -> str:
    """A value with its interval in brackets."""
    value, low, high = (number(row[key], signed=signed) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def listed(parts: Sequence[str], word: str = "and") -> str:
    """Parts with commas, and the word before the last."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def percent(share: float) -> str:
    """A share as per cent."""
    return f"{100 * share:.1f} %"
