"""Sampler section: rows and sentences on quality against evaluations and seconds."""

from __future__ import annotations

from typing import TypedDict

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.pages.numbers import format_number
from slide2rna.report.sections import verdict
from slide2rna.report.sections.verdict import Sentence

FACTS = ("sampler", "kind", "solver", "steps", "guidance", "evaluations", "draws")
# Smaller differences in correlation are negligible.
MIN_DIFFERENCE = 0.002


class SamplerSection(TypedDict):
    """Context of the section, by the keys that its template reads.

    sets : gene sets of the correlations.
    rows, nulls : a row per sampler.
    reference : row of the reference sampler.
    verdict : sentences.
    timed : whether seconds were measured.
    """

    sets: list[str]
    rows: list[Row]
    nulls: list[Row]
    reference: Row
    verdict: list[Sentence]
    timed: bool


def samplers(table: pl.DataFrame | None) -> SamplerSection | None:
    """Return samplers in the order of the table, nulls separately, and a sentence per verdict."""
    if table is None or not table.height:
        return None
    sets = labels.shown_sets(labels.gene_sets(table))
    all_rows = []
    for facts in table.select(FACTS).unique(maintain_order=True).to_dicts():
        part = table.filter(pl.col("sampler") == facts["sampler"])
        all_rows.append(facts | _cells(part, sets))
    rows = [row for row in all_rows if row["kind"] != "null"]
    reference = next(row for row in rows if row["kind"] == "reference")
    return {
        "sets": sets,
        "rows": [reference, *(row for row in rows if row is not reference)],
        "nulls": [row for row in all_rows if row["kind"] == "null"],
        "reference": reference,
        "verdict": _verdict(rows, reference),
        "timed": any(row["seconds"] for row in rows),
    }


def _cells(part: pl.DataFrame, sets: list[str]) -> Row:
    def cell(metric: str, gene_set: str = "all") -> Row | None:
        return labels.pick(part, gene_set=gene_set, metric=metric)

    pcc = [cell("pcc_draw_mean", s) or cell("pcc", s) or cell("pcc_floor", s) for s in sets]
    off = [cell("pcc_draw_mean_minus:reference", s) for s in sets]
    ratio, counts = cell("crps_ratio"), cell("counts")
    notes = [note for note in part["note"] if note and note.startswith("guided")]
    return {
        "pcc": pcc,
        "pcc_off": [(row, _tone(row)) for row in off],
        "crps": cell("crps"),
        "crps_off": _percent(ratio),
        "covered": [cell(f"covered{level}") for level in (50, 80, 90)],
        "covered_off": cell("covered90_minus:reference"),
        "width": cell("width90"),
        "seconds": cell("seconds"),
        "counts": None if counts is None else bool(counts["value"]),
        "why": "" if counts is None else counts["note"] or "",
        "note": notes[0] if notes else "",
    }


def _tone(row: Row | None) -> str:
    """Grade a difference; negligible ones, significant only by shared noise, have no colour."""
    relevant = row is not None and row["value"] is not None and abs(row["value"]) >= MIN_DIFFERENCE
    return (verdict.tone(row) or "") if relevant else ""


def _percent(ratio: Row | None) -> Row | None:
    """Convert a ratio to per cent above 1."""
    if ratio is None:
        return None
    ends = {key: ratio[key] for key in ("value", "low", "high")}
    return {key: None if v is None else 100 * (v - 1) for key, v in ends.items()}


def _verdict(rows: list[Row], reference: Row) -> list[Sentence]:
    """Name the cheapest sampler as good as the reference, and judge the one-step student."""
    name, out = reference["sampler"], []
    usable = [row for row in rows if row["counts"] and row["evaluations"]]
    if usable:
        best = min(usable, key=lambda row: row["evaluations"])
        plural = "s" if best["evaluations"] > 1 else ""
        out.append(
            Sentence(
                f"The cheapest sampler as good as {name}: {best['sampler']} with "
                f"{best['evaluations']} evaluation{plural}, {_quality(best)}.",
                "good",
                "cheapest",
            )
        )
    student = next((row for row in rows if row["kind"] == "student"), None)
    if student is not None:
        good = bool(student["counts"])
        outcome = "is as good" if good else f"is not as good ({student['why']})"
        tail = ""
        plain = next((r for r in rows if r["solver"] == "exponential" and r["steps"] == 1), None)
        if plain is not None and plain is not student:
            tail = f" The flow without distillation, in one exponential step: {_quality(plain)}."
        out.append(
            Sentence(
                f"The one-step student {outcome}: {_quality(student)}.{tail}",
                "good" if good else "bad",
                "one step",
            )
        )
    return out


def _quality(row: Row) -> str:
    """Describe CRPS and coverage relative to the reference's."""
    ratio, off = row["crps_off"], row["covered_off"]
    words = f"CRPS {format_number(ratio['value'], 1, True)}\u00a0%" if ratio else "no CRPS"
    if off:
        words += f", 90\u00a0% intervals cover {format_number(100 * off['value'], 1, True)} points"
    return words
