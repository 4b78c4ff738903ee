"""Interval section: rows and sentences on intervals, pathway scores and co-expression."""

from __future__ import annotations

from typing import TypedDict

import polars as pl

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.evaluation.uncertainty.sharpness import TRAIN_PROFILES
from slide2rna.report.sections import coexpression, verdict
from slide2rna.report.sections.verdict import Sentence


class IntervalSection(TypedDict):
    """Context of the section on intervals, by the keys that its template reads.

    by_site : whether there are conformal intervals by site.
    shown : gene sets.
    genes : number of genes in the co-expression, in words.
    across : whether test patients come from sites without calibration patients.
    kept : whether the draws were stored, so that their intervals can be scored.
    """

    conformal: list[Row]
    by_site: bool
    sharpness: list[Row]
    pathways: list[Row]
    pathway_crps: dict[str, Row | None]
    shown: list[str]
    genes: str
    coexpression: list[Row]
    sentences: list[Sentence]
    across: bool
    kept: bool


def across_sites(slides: pl.DataFrame, splits: pl.DataFrame) -> bool:
    """Return whether no test patient's site has calibration patients, as in leave-site-out.

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
    coverage_claimed: bool = True,
    new_sites: bool = False,
) -> IntervalSection:
    """Return the context of the section.

    Parameters
    ----------
    coverage_claimed : whether the draws claim coverage.
    new_sites : whether test patients come from sites without calibration patients.
    """
    shown = labels.shown_sets(sets)
    calibration, conformal, scores = (
        tables[name] for name in ("calibration", "conformal", "coexpression")
    )
    return {
        "conformal": conformal_rows(conformal, calibration, shown),
        "by_site": "conformal-site" in set(conformal["kind"]),
        "sharpness": sharpness_rows(calibration, shown),
        "pathways": pathway_rows(calibration),
        "pathway_crps": {
            kind: labels.pick(calibration, quantity="pathway_crps", kind=kind)
            for kind in ("draws", TRAIN_PROFILES)
        }
        | {
            "difference": labels.pick(
                calibration, quantity="pathway_crps_minus", kind=TRAIN_PROFILES
            )
        },
        "shown": shown,
        "genes": coexpression.gene_count(scores),
        "coexpression": coexpression.coexpression_rows(scores, model, shown),
        "sentences": sentences(tables, model, shown, coverage_claimed, new_sites),
        "across": new_sites,
        "kept": bool(calibration.filter(quantity="coverage").height),
    }


def conformal_rows(table: pl.DataFrame, calibration: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Return a row per gene set and level: draws, conformal and, if available, by site."""
    rows = []
    for name in sets:
        for level in sorted(table["level"].unique()):
            cells: Row = {"gene_set": name, "level": level}
            for kind in ("draws", "conformal", "conformal-site"):
                key = {"gene_set": name, "kind": kind, "level": level}
                cells[kind.replace("-", "_")] = labels.pick(table, within="pooled", **key)
                cells[f"{kind.replace('-', '_')}_gene"] = labels.pick(table, within="gene", **key)
            null = labels.pick(
                calibration,
                gene_set=name,
                quantity="sharpness",
                kind=TRAIN_PROFILES,
                interval=level,
            )
            rows.append(cells | {"null": null})
    return rows


def sharpness_rows(table: pl.DataFrame, sets: list[str]) -> list[Row]:
    """Return mean sd and mean widths of the draws, and of the train profiles."""
    rows = []
    sharpness = table.filter(quantity="sharpness")
    for name in sets:
        part = sharpness.filter(gene_set=name)
        for level in [None, *sorted(part["interval"].drop_nulls().unique())]:
            chosen = pl.col("interval").is_null() if level is None else pl.col("interval") == level
            draws, null = (
                labels.pick(part.filter(chosen), kind=kind) for kind in ("draws", TRAIN_PROFILES)
            )
            if draws and null:
                ratio = draws["value"] / null["value"] if null["value"] else None
                cells = {"gene_set": name, "level": level, "draws": draws, "null": null}
                rows.append(cells | {"ratio": ratio})
    return rows


def pathway_rows(table: pl.DataFrame) -> list[Row]:
    """Return coverage and width of pathway scores per level: draws and train profiles."""
    coverage = table.filter(quantity="pathway_coverage")
    return [
        {
            "level": level,
            **{
                f"{prefix}{within}": labels.pick(coverage, nominal=level, kind=kind, within=within)
                for prefix, kind in (("", "draws"), ("null_", TRAIN_PROFILES))
                for within in ("pooled", "pathway")
            },
        }
        for level in sorted(coverage["nominal"].drop_nulls().unique())
    ]


def sentences(
    tables: dict[str, pl.DataFrame],
    model: str,
    sets: list[str],
    coverage_claimed: bool = True,
    new_sites: bool = False,
) -> list[Sentence]:
    """Compare the draws' co-expression with its rivals, and coverage with its promise."""
    return [
        *coexpression.sentences(tables["coexpression"], model, sets),
        *_conformal(tables["conformal"], new_sites),
        *_pathways(tables["calibration"], coverage_claimed),
    ]


def _conformal(table: pl.DataFrame, new_sites: bool = False) -> list[Sentence]:
    level = max(table["level"], default=0.9)
    row = labels.pick(table, level=level, gene_set="all", kind="conformal", within="pooled")
    if row is None:
        return []
    if row["covered"] is None:
        text = f"Conformal {100 * level:g} % intervals: {row['note']}; there are {row['n_cal']}."
        return [Sentence(text, "open", "refused")]
    error = (row["high"] - row["low"]) / 3.92
    off = row["covered"] - row["attainable"]
    fine = abs(off) <= 0.02 + error
    ratio = row["width_ratio"]
    width = "" if ratio is None else f"; they are {ratio:.2f} times as wide as those of the draws"
    promised = verdict.percent(row["attainable"])
    text = (
        f"Conformal {100 * level:g} % intervals hold {verdict.percent(row['covered'])} of the "
        f"measured values ({verdict.percent(row['low'])} to {verdict.percent(row['high'])}); "
        f"the expected share with {row['n_cal']} calibration patients is {promised}"
    )
    if new_sites:
        text += f" for patients of the same sites, but test patients are from other sites{width}."
        return [Sentence(text, "open", "not claimed across sites")]
    text += f"{width}."
    word = "as promised" if fine else ("too narrow" if off < 0 else "too wide")
    return [Sentence(text, "good" if fine else "bad", word)]


def _pathways(table: pl.DataFrame, coverage_claimed: bool = True) -> list[Sentence]:
    rows = [row for row in pathway_rows(table) if row["level"] == 0.9]
    row = rows[0]["pooled"] if rows else None
    if row is None:
        return []
    return [verdict.coverage(row, "The 90 % intervals of pathway scores", "ones", coverage_claimed)]
