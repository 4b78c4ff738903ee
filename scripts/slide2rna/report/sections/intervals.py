"""Rows and sentences of the report on intervals, pathway scores and co-expression."""

from __future__ import annotations

from typing import Any

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.evaluation.uncertainty.coexpression_fold import MEASURED
from slide2rna.evaluation.uncertainty.sharpness import NULL
from slide2rna.report.sections import verdict
from slide2rna.report.sections.verdict import Sentence, pick, spread, tone

KINDS = {
    "draws": "draws",
    "shuffled-draws": "draws, genes shuffled apart",
    "mean": "mean of draws",
    "train-profiles": "train profiles drawn at random",
    "train-matrix": "all train profiles",
    "truth-halves": "test patients, half against half",
}


def across_sites(slides: pl.DataFrame, splits: pl.DataFrame) -> bool:
    """Whether no test patient is of a site with calibration patients, as in leave-site-out.

    Parameters
    ----------
    slides : unit, site.
    splits : unit, fold, part.
    """
    units = slides.select("unit", "site").drop_nulls().unique()
    places = splits.join(units, on="unit").select("fold", "part", "site").unique()
    cal, test = (places.filter(pl.col("part") == part).drop("part") for part in ("cal", "test"))
    return bool(cal.height and test.height) and not test.join(cal, on=["fold", "site"]).height


def context(
    tables: dict[str, pl.DataFrame],
    model: str,
    sets: list[str],
    claimed: bool = True,
    across: bool = False,
) -> dict[str, Any]:
    """Everything that the section shows.

    Parameters
    ----------
    claimed : whether the draws claim coverage.
    across : whether test patients are of other sites than calibration patients.
    """
    shown = labels.shown_sets(sets)
    calibration, conformal, found = (
        tables[name] for name in ("calibration", "conformal", "coexpression")
    )
    return {
        "conformal": conformal_rows(conformal, calibration, shown),
        "by_site": "conformal-site" in set(conformal["kind"]),
        "sharpness": sharpness_rows(calibration, shown),
        "pathways": pathway_rows(calibration),
        "pathway_crps": {
            kind: pick(calibration, quantity="pathway_crps", kind=kind) for kind in ("draws", NULL)
        }
        | {"difference": pick(calibration, quantity="pathway_crps_minus", kind=NULL)},
        "shown": shown,
        "genes": _genes(found),
        "coexpression": coexpression_rows(found, model, shown),
        "sentences": sentences(tables, model, shown, claimed, across),
        "across": across,
        "kept": bool(calibration.filter(quantity="coverage").height),
    }


def _genes(found: pl.DataFrame) -> str:
    """How many genes the co-expression is of."""
    counts = found.filter(gene_set="all")["n_genes"]
    return f"{counts[0]:,} genes: all that vary, or a seeded choice of 2,000" if len(counts) else ""


def conformal_rows(table: pl.DataFrame, calibration: pl.DataFrame, sets: list[str]) -> list[Row]:
    """A row per gene set and level: draws, conformal and, if asked for, those of each site."""
    rows = []
    for name in sets:
        for level in sorted(table["level"].unique()):
            cells: Row = {"gene_set": name, "level": level}
            for kind in ("draws", "conformal", "conformal-site"):
                own = {"gene_set": name, "kind": kind, "level": level}
                cells[kind.replace("-", "_")] = pick(table, within="pooled", **own)
                cells[f"{kind.replace('-', '_')}_gene"] = pick(table, within="gene", **own)
            null = pick(calibration, gene_set=name, quantity="sharpness", kind=NULL, interval=level)
            rows.append(cells | {"null": null})
    return rows


def sharpness_rows(table: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Mean sd and mean widths of the draws, beside those of the train profiles."""
    rows = []
    own = table.filter(quantity="sharpness")
    for name in sets:
        of_set = own.filter(gene_set=name)
        for level in [None, *sorted(of_set["interval"].drop_nulls().unique())]:
            chosen = pl.col("interval").is_null() if level is None else pl.col("interval") == level
            draws, null = (pick(of_set.filter(chosen), kind=kind) for kind in ("draws", NULL))
            if draws and null:
                ratio = draws["value"] / null["value"] if null["value"] else None
                cells = {"gene_set": name, "level": level, "draws": draws, "null": null}
                rows.append(cells | {"ratio": ratio})
    return rows


def pathway_rows(table: pl.DataFrame) -> list[Row]:
    """Coverage and width of pathway scores per level, beside the train profiles."""
    own = table.filter(quantity="pathway_coverage")
    return [
        {
            "level": level,
            **{
                f"{prefix}{within}": pick(own, nominal=level, kind=kind, within=within)
                for prefix, kind in (("", "draws"), ("null_", NULL))
                for within in ("pooled", "pathway")
            },
        }
        for level in sorted(own["nominal"].drop_nulls().unique())
    ]


def label(model: str, kind: str) -> str:
    """Words for a row: the kind, or the model whose point it is."""
    return KINDS.get(kind, f"{model}, point")


def coexpression_rows(table: pl.DataFrame, model: str, sets: list[str]) -> list[Row]:
    """A row per model and kind, with scores and differences to the draws on each gene set."""
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
            own = {"gene_set": gene_set, "model": name, "kind": kind}
            other = kind if kind != "point" else f"{name}/point"
            drawn = {"gene_set": gene_set, "model": model, "kind": "draws"}
            cell: Row = {m: pick(table, metric=m, **own) for m in ("gsc", "energy")}
            for metric in ("gsc", "energy"):
                row = pick(table, metric=f"{metric}_minus:{other}", **drawn)
                cell[f"{metric}_minus"] = row
                cell[f"{metric}_tone"] = tone(row, metric == "energy") or ""
            cells.append(cell)
        place = (name == MEASURED, name != model, kind != "draws")
        rows.append(
            {"label": label(name, kind), "own": kind == "draws", "cells": cells, "place": place}
        )
    return sorted(rows, key=lambda row: row["place"])


def sentences(
    tables: dict[str, pl.DataFrame],
    model: str,
    sets: list[str],
    claimed: bool = True,
    across: bool = False,
) -> list[Sentence]:
    """Whether the draws' co-expression wins, and whether the intervals keep what they promise."""
    return [
        *_coexpression(tables["coexpression"], model, sets),
        *_conformal(tables["conformal"], across),
        *_pathways(tables["calibration"], claimed),
    ]


def _coexpression(found: pl.DataFrame, model: str, sets: list[str]) -> list[Sentence]:
    """Of the draws against the best point, train profiles and independent genes, losses named."""
    own = {s: pick(found, model=model, kind="draws", metric="gsc", gene_set=s) for s in sets}
    scored = {name: row for name, row in own.items() if row is not None}
    out = []
    if scored:
        first = next(iter(scored.values()))
        values = ", ".join(
            f"{spread(row)} on {labels.gene_set_name(s)}" for s, row in scored.items()
        )
        ceiling = pick(found, kind="train-matrix", metric="gsc", gene_set="all")
        reach = f"; all train profiles reach {ceiling['value']:.3f} on all genes" if ceiling else ""
        text = f"Gene-gene correlations of the draws agree with the measured ones to {values}"
        out.append(Sentence(f"{text} ({first['n_patients']} patients{reach}).", "open", "measured"))
    best = {name: _best_point(found, name) for name in sets}
    words = " and ".join(dict.fromkeys(label for _, label in best.values() if label))
    for metric, rivals, what in (
        ("gsc", {s: key for s, (key, _) in best.items()}, f"the best point ({words})"),
        ("gsc", dict.fromkeys(sets, "train-profiles"), "train profiles at random, no image"),
        ("gsc", dict.fromkeys(sets, "shuffled-draws"), "the draws with genes shuffled apart"),
        ("energy", dict.fromkeys(sets, "train-profiles"), "the train profiles, no image"),
        ("energy", dict.fromkeys(sets, "shuffled-draws"), "the draws with genes shuffled apart"),
    ):
        rows = {
            s: pick(found, model=model, kind="draws", metric=f"{metric}_minus:{key}", gene_set=s)
            for s, key in rivals.items()
        }
        out += _against(rows, metric, what)
    return out


def _best_point(found: pl.DataFrame, gene_set: str) -> tuple[str, str]:
    """The point with the highest GSC on test, the hardest to beat, and its words."""
    points = found.filter(
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


def _against(rows: dict[str, Row | None], metric: str, what: str) -> list[Sentence]:
    grades = {s: tone(row, metric == "energy") for s, row in rows.items()}
    told = [
        f"{spread(row, signed=True)} on {labels.gene_set_name(s)}: {verdict.PHRASES[grade]}"
        for s, row in rows.items()
        if row is not None and (grade := grades[s]) is not None
    ]
    if not told:
        return []
    seen = {grade for grade in grades.values() if grade is not None}
    grade = "bad" if "bad" in seen else ("good" if seen == {"good"} else "open")
    word = "partly worse" if grade == "bad" and len(seen) > 1 else verdict.LABELS[grade]
    named = "GSC" if metric == "gsc" else "Energy score (lower is better)"
    return [Sentence(f"{named} of the draws less that of {what}: {'; '.join(told)}.", grade, word)]


def _conformal(table: pl.DataFrame, across: bool = False) -> list[Sentence]:
    own = {"gene_set": "all", "kind": "conformal", "within": "pooled"}
    level = max(table["level"], default=0.9)
    row = pick(table, level=level, **own)
    if row is None:
        return []
    if row["covered"] is None:
        text = f"Conformal {100 * level:g} % intervals: {row['note']}; there are {row['n_cal']}."
        return [Sentence(text, "open", "refused")]
    error = (row["high"] - row["low"]) / 3.92
    off = row["covered"] - row["attainable"]
    fine = abs(off) <= 0.02 + error
    ratio = row["width_ratio"]
    width = "" if ratio is None else f"; they are {ratio:.2f} times as wide as the draws' own"
    promised = verdict.percent(row["attainable"])
    text = (
        f"Conformal {100 * level:g} % intervals hold {verdict.percent(row['covered'])} of the "
        f"measured values ({verdict.percent(row['low'])} to {verdict.percent(row['high'])}); "
        f"{row['n_cal']} calibration patients promise {promised}"
    )
    if across:
        text += f" to patients of their own sites, and test patients are of others{width}."
        return [Sentence(text, "open", "not claimed across sites")]
    text += f"{width}."
    word = "as promised" if fine else ("too narrow" if off < 0 else "too wide")
    return [Sentence(text, "good" if fine else "bad", word)]


def _pathways(table: pl.DataFrame, claimed: bool = True) -> list[Sentence]:
    rows = [row for row in pathway_rows(table) if row["level"] == 0.9]
    row = rows[0]["pooled"] if rows else None
    if row is None:
        return []
    return [verdict.coverage(row, "The 90 % intervals of pathway scores", "ones", claimed)]
