"""Co-expression section: rows and sentences on gene-gene correlations and the energy score."""

from __future__ import annotations

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.evaluation.uncertainty.coexpression_fold import MEASURED
from slide2rna.report.sections import verdict
from slide2rna.report.sections.verdict import Sentence, spread, tone

KINDS = {
    "draws": "draws",
    "shuffled-draws": "draws, each gene shuffled",
    "mean": "mean of draws",
    "train-profiles": "train profiles drawn at random",
    "train-matrix": "all train profiles",
    "truth-halves": "test patients, one half against the other",
}


def gene_count(table: pl.DataFrame) -> str:
    """Describe the number of genes in the co-expression."""
    counts = table.filter(gene_set="all")["n_genes"]
    return f"{counts[0]:,} genes: all that vary, or a random 2,000 of them" if len(counts) else ""


def label(model: str, kind: str) -> str:
    """Name a row by its kind, or by the model that made the point prediction."""
    return KINDS.get(kind, f"{model}, point")


def coexpression_rows(table: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    """Return a row per model and kind: scores, and draws minus each, on each gene set."""
    rows = []
    pairs = (
        table.filter(pl.col("metric").is_in(["gsc", "energy"]))
        .select("model", "kind")
        .unique(maintain_order=True)
    )
    for name, kind in pairs.iter_rows():
        if labels.REPEAT in name:
            continue
        cells = []
        for gene_set in sets:
            key = {"gene_set": gene_set, "model": name, "kind": kind}
            other = kind if kind != "point" else f"{name}/point"
            draws_key = {"gene_set": gene_set, "model": model, "kind": "draws"}
            cell: Row = {m: labels.pick(table, metric=m, **key) for m in ("gsc", "energy")}
            for metric in ("gsc", "energy"):
                row = labels.pick(table, metric=f"{metric}_minus:{other}", **draws_key)
                cell[f"{metric}_minus"] = row
                cell[f"{metric}_tone"] = tone(row, metric == "energy") or ""
            cells.append(cell)
        place = (name == MEASURED, name != model, kind != "draws")
        rows.append(
            {"label": label(name, kind), "own": kind == "draws", "cells": cells, "place": place}
        )
    return sorted(rows, key=lambda row: row["place"])


def sentences(table: pl.DataFrame, model: str, sets: list[str]) -> list[Sentence]:
    """Compare the draws with the best point, train profiles and independent genes."""
    gsc = {s: labels.pick(table, model=model, kind="draws", metric="gsc", gene_set=s) for s in sets}
    scored = {name: row for name, row in gsc.items() if row is not None}
    out = []
    if scored:
        first = next(iter(scored.values()))
        values = ", ".join(
            f"{spread(row)} on {labels.gene_set_name(s)}" for s, row in scored.items()
        )
        ceiling = labels.pick(table, kind="train-matrix", metric="gsc", gene_set="all")
        reach = f"; all train profiles reach {ceiling['value']:.3f} on all genes" if ceiling else ""
        text = (
            f"Agreement of the draws' gene-gene correlations with the measured ones (GSC): {values}"
        )
        out.append(Sentence(f"{text} ({first['n_patients']} patients{reach}).", "open", "measured"))
    best = {name: _best_point(table, name) for name in sets}
    words = " and ".join(dict.fromkeys(label for _, label in best.values() if label))
    for metric, rivals, rival_words in (
        ("gsc", {s: key for s, (key, _) in best.items()}, f"the best point prediction ({words})"),
        ("gsc", dict.fromkeys(sets, "train-profiles"), "random train profiles (no image)"),
        ("gsc", dict.fromkeys(sets, "shuffled-draws"), "shuffled draws (each gene separately)"),
        ("energy", dict.fromkeys(sets, "train-profiles"), "the train profiles (no image)"),
        ("energy", dict.fromkeys(sets, "shuffled-draws"), "shuffled draws (each gene separately)"),
    ):
        rows = {
            s: labels.pick(
                table, model=model, kind="draws", metric=f"{metric}_minus:{key}", gene_set=s
            )
            for s, key in rivals.items()
        }
        out += _compare(rows, metric, rival_words)
    return out


def _best_point(table: pl.DataFrame, gene_set: str) -> tuple[str, str]:
    """Return the point with the highest GSC on test, the hardest to beat, and its name."""
    points = table.filter(
        (pl.col("metric") == "gsc")
        & (pl.col("gene_set") == gene_set)
        & pl.col("kind").is_in(["point", "mean"])
        & ~pl.col("model").str.contains(labels.REPEAT, literal=True)
    ).sort("value", descending=True)
    if not points.height:
        return "", ""
    row = points.row(0, named=True)
    key = row["kind"] if row["kind"] != "point" else f"{row['model']}/point"
    return key, label(row["model"], row["kind"])


def _compare(rows: dict[str, Row | None], metric: str, rival: str) -> list[Sentence]:
    grades = {s: tone(row, metric == "energy") for s, row in rows.items()}
    phrases = [
        f"{spread(row, signed=True)} on {labels.gene_set_name(s)}: {verdict.PHRASES[grade]}"
        for s, row in rows.items()
        if row is not None and (grade := grades[s]) is not None
    ]
    if not phrases:
        return []
    tones = {grade for grade in grades.values() if grade is not None}
    grade = "bad" if "bad" in tones else ("good" if tones == {"good"} else "open")
    word = "partly worse" if grade == "bad" and len(tones) > 1 else verdict.LABELS[grade]
    score = "Gene-gene correlations (GSC)" if metric == "gsc" else "Energy score (lower is better)"
    text = f"{score}, draws minus {rival}: {'; '.join(phrases)}."
    return [Sentence(text, grade, word)]
