"""Tables of the stain report: per change of the tiles, per slide, and per gene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna.core import files, seeds
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.studies.stain import stain
from slide2rna.studies.stain.stain import CHANGES, HALF, NONE

RESAMPLES = 1000
# What a mean can be, if not just 0 or more: a basic bootstrap interval may reach beyond.
LIMITS = {"minus_null": (-np.inf, np.inf), "share_over": (0, 1), "flagged": (0, 1)}
SLIDES = pl.Schema(
    {"fold": pl.Int64, "slide_id": pl.String, "unit": pl.String, "kind": pl.String}
    | {"strength": pl.Float64, "n_tiles": pl.Int64}
    | dict.fromkeys(("moved", "share_over", "spread", "stored_off"), pl.Float64)
    | dict.fromkeys(("bag_distance", "bag_p", "bag_p_train"), pl.Float64)
    | {"n_cal": pl.Int64}
)
ONE_SLIDE = "no fold has two test slides, so there is no sd between predictions"


def write(
    inputs: stain.StainInputs, setup: stain.EncodingSetup, run: str, out: Path, alpha: float
) -> None:
    """Perturb the chosen slides and write slides.parquet, genes.parquet and stain.parquet."""
    rows: list[dict[str, Any]] = []
    sums: Array = np.zeros(0)
    genes: list[str] = []
    for fold, of_slide, shifts in stain.stain_rows(inputs, setup):
        rows += of_slide
        genes = fold.law.genes
        sums = sums if sums.size else np.zeros((3, *shifts.shape))
        sums += [np.nan_to_num(shifts), np.nan_to_num(np.abs(shifts)), np.isfinite(shifts)]
    slides = pl.DataFrame(rows, schema=SLIDES)
    tables = {
        "slides": slides,
        "genes": gene_table(genes, sums),
        "stain": summary(slides, int((sums[2].max(axis=0) > 0).sum()), alpha, setup.seed),
    }
    info = files.read_json(inputs.cohort)
    for name, table in tables.items():
        stamp = {"cohort": info["name"], "run": run}
        files.write_stamped(table, out / f"{name}.parquet", stamp, info.get("caveat"))


def gene_table(genes: Sequence[str], sums: Array) -> pl.DataFrame:
    """A row per change and gene: mean shift and mean absolute shift over slides, in train sd.

    Parameters
    ----------
    sums : (3, changes, G) sums over the slides of shift, of its size, and of slides that count.
    """
    count = np.maximum(sums[2], 1)
    parts = [
        pl.DataFrame(
            {
                "kind": kind,
                "strength": strength,
                "gene": genes,
                "shift": sums[0][index] / count[index],
                "size": sums[1][index] / count[index],
                "n_slides": sums[2][index].astype(np.int64),
            },
            schema_overrides={"strength": pl.Float64},
        )
        for index, (kind, strength) in enumerate(CHANGES)
    ]
    return pl.concat(parts).filter(pl.col("n_slides") > 0)


def summary(slides: pl.DataFrame, n_genes: int, alpha: float, seed: int) -> pl.DataFrame:
    """A row per change, with intervals over patients; half the tiles is the null.

    moved is the mean over genes and slides of the shift's size in units of the train sd;
    minus_null what it exceeds that of half the tiles by, on the same slides; of_spread its ratio
    to the sd between the predictions of the test slides, in folds of one test slide that of the
    others, null if no fold has two; share_over the share of genes that move by more than half a
    train sd; flagged the share of slides whose bag then has p <= alpha, by the cal patients where
    every fold has enough for such a p, else by the train patients.
    """
    base = slides.filter(pl.col("kind") == NONE)
    counts = bootstrap.patient_counts(
        seeds.rng_for(seed, "stain-bootstrap"), base["unit"].to_list(), RESAMPLES
    )
    # By what can be reached, not by what was: the smallest p seen depends on the slides' luck.
    least = 1 / (1 + int(slides["n_cal"].to_numpy().min()))
    by = "bag_p" if least <= alpha else "bag_p_train"
    spread, note = _spread(base)
    of_null = _column(slides, (HALF, None), "moved")
    rows = []
    for change in [(NONE, None), *CHANGES]:
        moved = _column(slides, change, "moved")
        columns = {
            "moved": moved,
            "minus_null": moved - of_null,
            "of_spread": moved / spread,
            "share_over": _column(slides, change, "share_over"),
            "flagged": (_column(slides, change, by) <= alpha).astype(float),
            "bag_distance": _column(slides, change, "bag_distance"),
        }
        row: dict[str, Any] = {"kind": change[0], "strength": change[1]}
        for name, values in columns.items():
            resampled = bootstrap.bootstrap_mean(counts, values)
            least, most = LIMITS.get(name, (0, np.inf))
            low, high = (float(np.clip(end, least, most)) for end in bootstrap.interval(resampled))
            row |= {name: float(resampled[0]), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    n_patients = slides["unit"].n_unique()
    table = pl.DataFrame(rows, schema_overrides={"strength": pl.Float64})
    return table.with_columns(
        pl.col("^of_spread.*$").fill_nan(None),
        pl.lit(note).alias("note"),
        pl.lit(by).alias("flagged_by"),
        pl.lit(base["stored_off"].max(), dtype=pl.Float64).alias("stored_off"),
        pl.lit(base["stored_off"].is_not_null().sum(), dtype=pl.Int64).alias("n_whole"),
        pl.lit(base.height, dtype=pl.Int64).alias("n_slides"),
        pl.lit(n_patients, dtype=pl.Int64).alias("n_patients"),
        pl.lit(n_genes, dtype=pl.Int64).alias("n_genes"),
    )


def _spread(base: pl.DataFrame) -> tuple[Array, str]:
    """Per slide the sd between its fold's predictions, and what is to be said of it."""
    of_folds = base.unique("fold").sort("fold")["spread"]
    known = of_folds.drop_nulls()
    if not len(known):
        return np.full(base.height, np.nan), ONE_SLIDE
    missing = len(of_folds) - len(known)
    note = f"{missing} of {len(of_folds)} folds have one test slide; theirs is the others' mean sd"
    spread = base.sort("fold", "slide_id")["spread"].fill_null(float(known.to_numpy().mean()))
    return spread.to_numpy(), note if missing else ""


def _column(slides: pl.DataFrame, change: stain.Change, name: str) -> Array:
    rows = slides.filter(
        (pl.col("kind") == change[0]) & pl.col("strength").eq_missing(pl.lit(change[1], pl.Float64))
    ).sort("fold", "slide_id")
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
