"""Shift section: rows and sentences on distribution shift, abstention and staining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from slide2rna.core.types import Row
from slide2rna.evaluation.scoring import labels
from slide2rna.pages.numbers import format_number
from slide2rna.studies.shift.abstention import ORDERS
from slide2rna.studies.shift.answered_scores import ORACLE
from slide2rna.studies.stain.stain import HALF_TILES, UNCHANGED

FARTHEST = 8
MOVED = 12
SHARE = 0.8
# Column of the p-value: its name, to which the page adds the split unit, and the column with the
# number of reference units.
KINDS = {
    "bag_p": ("bag, against cal", "n_cal"),
    "bag_p_train": ("bag, against train", "n_train"),
    "expression_p": ("predicted profile, against cal", "n_cal"),
}
LABELS = {"bad": "shift", "open": "as expected", "low": "fewer"}
WORDS = {
    "bag": "distance of the bag",
    "expression": "distance of the predicted profile",
    "spread": "mean sd of the draws",
    "oracle": "true error (oracle)",
    "random": "random",
}
METRICS = {"crps": "CRPS", "rmse": "RMSE", "pcc": "PCC"}


def shift(table: pl.DataFrame | None, slides: pl.DataFrame) -> Row | None:
    """Return shares of test units with p <= alpha, overall and by site, and far slides."""
    if table is None:
        return None
    site = slides.select("slide_id", pl.col("site").fill_null("unknown"))
    placed = table.join(site, on="slide_id", how="left")
    tested = placed.filter(pl.col("part") == "test")
    alpha, sites = float(tested["alpha"][0]), sorted(tested["site"].unique())
    groups = [("all sites", tested)]
    if len(sites) > 1:
        groups += [(name, tested.filter(pl.col("site") == name)) for name in sites]
    rows = [
        {"name": name, "cells": [_flagged(part, kind, alpha) for kind in KINDS]}
        for name, part in groups
    ]
    references = {name: tested[name].to_numpy() for name in ("n_cal", "n_train")}
    min_p = {name: 1 / (1 + int(counts.min())) for name, counts in references.items()}
    return {
        "alpha": alpha,
        "kinds": [name for name, _ in KINDS.values()],
        "rows": rows,
        "apart": sites_held_out(placed),
        "least": min_p,
        "held": {name: _count_range(counts) for name, counts in references.items()},
        "unattainable": min_p["n_cal"] > alpha,
        "profiles": tested["profiles"][0],
        "farthest": tested.sort("bag_p_train", "bag_distance", descending=[False, True])
        .head(FARTHEST)
        .to_dicts(),
    }


def _count_range(counts: NDArray[np.int64]) -> str:
    """Format the range of a count over the folds."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def sites_held_out(placed: pl.DataFrame) -> bool:
    """Return whether no fold's test sites have cal slides in that fold, as in leave-site-out.

    Val slides take the place of cal slides if no fold has any.
    """
    reference = "cal" if (placed["part"] == "cal").any() else "val"
    sites = {
        part: set(placed.filter(pl.col("part") == part).select("fold", "site").iter_rows())
        for part in ("test", reference)
    }
    return bool(sites[reference]) and not sites["test"] & sites[reference]


def _flagged(part: pl.DataFrame, kind: str, alpha: float) -> Row | None:
    """Return the share of units whose slide has p <= alpha, and its range without any shift.

    Only the first slide of a unit counts: slides of one unit are not independent.
    """
    units = part.drop_nulls(kind).sort("slide_id").unique("unit", keep="first")
    if not units.height:
        return None
    share = int((units[kind] <= alpha).sum()) / units.height
    folds = units.group_by("fold").agg(pl.len(), pl.col(KINDS[kind][1]).first())
    sizes = [(n_test, n_reference) for _, n_test, n_reference in folds.sort("fold").iter_rows()]
    low, high = null_range(sizes, alpha)
    tone = "bad" if share > high else "low" if share < low else "open"
    cell = {"value": share, "null_low": low, "null_high": high, "n": units.height}
    reachable = any(critical_rank(n, alpha) for n in folds[KINDS[kind][1]])
    return cell | {"tone": tone, "label": LABELS[tone], "reachable": reachable}


def critical_rank(n_reference: int, alpha: float) -> int:
    """Return k: p <= alpha if fewer than k of `n_reference` patients lie at least as far."""
    return int(alpha * (n_reference + 1) + 1e-9)


def null_range(folds: Sequence[tuple[int, int]], alpha: float) -> tuple[float, float]:
    """Return the 95 % range of the share of units with p <= alpha without any shift.

    The p-values of a fold share its n reference patients. Conditional on these, each is <= alpha
    with a probability drawn from Beta(k, n + 1 - k) (Vovk 2012, doi:10.1007/s10994-013-5355-6), so
    their number is beta-binomial and spreads more than a binomial. Folds are treated as if they
    shared no reference patients.

    Parameters
    ----------
    folds : per fold the number of test units, and of the reference units for their p-values.
    """
    distribution = np.ones(1)
    for units, n_reference in folds:
        k = critical_rank(n_reference, alpha)
        hits = np.arange(units + 1)
        if k:
            fold_distribution = stats.betabinom.pmf(hits, units, k, n_reference + 1 - k)
        else:
            fold_distribution = (hits == 0).astype(float)
        distribution = np.convolve(distribution, fold_distribution)
    ends = np.searchsorted(distribution.cumsum(), [0.025, 0.975])
    low, high = ends / sum(units for units, _ in folds)
    return float(low), float(high)


def abstention(table: pl.DataFrame | None) -> Row | None:
    """Return the gain of each order over all genes, compared with random orders and the oracle."""
    if table is None:
        return None
    table = table.filter(pl.col("gene_set") == "all")
    metrics = [metric for metric in METRICS if metric in set(table["metric"])]
    curves = table.filter(pl.col("share").is_not_null())
    gains = table.filter(pl.col("share").is_null())
    rows = []
    for order in [*ORDERS, ORACLE]:
        cells = [labels.pick(gains, order=order, metric=metric) for metric in metrics]
        if any(cells):
            rows.append(
                {"order": order, "name": WORDS[order], "cells": [(c, _tone(c)) for c in cells]}
            )
    first = metrics[0]
    sentences = [
        _sentence(curves, gains, order, first)
        for order in ORDERS
        if labels.pick(gains, order=order, metric=first)
    ]
    full = labels.pick(curves, order="random", metric=first, share=1.0)
    return {
        "metrics": [METRICS[metric] for metric in metrics],
        "rows": rows,
        "verdict": sentences,
        "n_patients": full and full["n_patients"],
        "n_genes": full and full["n_genes"],
    }


def _tone(row: Row | None) -> str:
    """Grade a gain: better than nearly all random orders, worse than nearly all, or neither."""
    if row is None or row["value"] is None:
        return ""
    if row["value"] > row["null_high"]:
        return "good"
    return "bad" if row["value"] < row["null_low"] else "open"


def _sentence(curves: pl.DataFrame, gains: pl.DataFrame, order: str, metric: str) -> Row:
    gain = labels.pick(gains, order=order, metric=metric)
    ends = [labels.pick(curves, order=order, metric=metric, share=s) for s in (1.0, SHARE)]
    assert gain is not None
    assert ends[0] is not None
    assert ends[1] is not None
    tone = _tone(gain)
    label, words = {
        "good": ("helps", "better than random orders"),
        "open": ("unclear", "no better than random orders"),
        "bad": ("harms", "worse than random orders"),
    }[tone]
    before, after, low, high = (
        format_number(value, 4)
        for value in (ends[0]["value"], *(ends[1][k] for k in ("value", "null_low", "null_high")))
    )
    text = (
        f"Ranking by {WORDS[order]}: predicting only {100 * SHARE:.0f} % of the patients changes "
        f"{METRICS[metric]} from {before} to {after} (random: {low} to {high}); "
        f"over all shares {words} (p = {gain['p']:.2g})"
    )
    if gain["of_oracle"] is not None:
        text += f", {format_number(100 * gain['of_oracle'], 0)} % of the gain of the true errors"
    return {"tone": tone, "label": label, "text": f"{text}."}


class StainSection(TypedDict):
    """Context of the part on staining, by the keys that its template reads.

    largest : row of the change that moves genes most.
    n_over : changes whose effect exceeds that of the null.
    by : part of the patients that bags are flagged against, cal or train.
    """

    rows: list[Row]
    genes: list[Row]
    largest: Row
    n_over: int
    n_changes: int
    stored_off: float | None
    note: str | None
    by: str
    n_whole: int
    n_slides: int
    n_patients: int
    n_genes: int


def stain(table: pl.DataFrame | None, genes: pl.DataFrame | None) -> StainSection | None:
    """Return a row per change of the tiles, and the genes that move most."""
    if table is None or genes is None or not table.height:
        return None
    rows: list[Row] = []
    for row in table.to_dicts():
        cells = {
            name: {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            if row[name] is not None
            else None
            for name in ("moved", "minus_null", "of_spread", "share_over", "flagged")
        }
        above = (
            ""
            if row["kind"] in (UNCHANGED, HALF_TILES)
            else "bad"
            if row["minus_null_low"] > 0
            else "open"
        )
        rows.append(
            {"name": label(row["kind"], row["strength"]), "tone": above, "null": not above}
            | {"kind": row["kind"]}
            | cells
        )
    first = table.row(0, named=True)
    return {
        "rows": rows,
        "genes": moved_genes(genes),
        "largest": max((r for r in rows if not r["null"]), key=lambda r: r["moved"]["value"]),
        "n_over": sum(row["tone"] == "bad" for row in rows),
        "n_changes": sum(not row["null"] for row in rows),
        "stored_off": first["stored_off"],
        "note": first["note"],
        "by": "cal" if first["flagged_by"] == "bag_p" else "train",
        "n_whole": first["n_whole"],
        "n_slides": first["n_slides"],
        "n_patients": first["n_patients"],
        "n_genes": first["n_genes"],
    }


def label(kind: str, strength: float | None) -> str:
    """Name a change of the tiles in words."""
    if strength is None:
        return "as they are" if kind == UNCHANGED else kind
    size = f"{abs(strength):g}"
    if kind == "sharpness":
        return f"blur, {size} px" if strength < 0 else f"unsharp, {100 * strength:g} %"
    if kind == "hue":
        return f"hue {'−' if strength < 0 else '+'}{size} turns"
    return f"JPEG quality {size}" if kind == "jpeg" else f"{kind} × {size}"


def moved_genes(genes: pl.DataFrame) -> list[Row]:
    """Return genes by their mean shift over the changes, with the change that moves each most."""
    changed = genes.filter(pl.col("kind") != HALF_TILES)
    null = genes.filter(pl.col("kind") == HALF_TILES).select("gene", pl.col("size").alias("null"))
    most = changed.sort("size", descending=True).unique("gene", keep="first", maintain_order=True)
    mean = changed.group_by("gene").agg(pl.col("size").mean().alias("mean"))
    joined = mean.join(most, on="gene").join(null, on="gene", how="left")
    rows = joined.sort("mean", "gene", descending=[True, False]).head(MOVED).to_dicts()
    return [row | {"name": label(row["kind"], row["strength"])} for row in rows]
