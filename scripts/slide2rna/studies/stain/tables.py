"""Tables of the stain study: per change of the tiles, per slide, and per gene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from slide2rna.core import files, seeds
from slide2rna.core.types import Array, Row
from slide2rna.evaluation.metrics import bootstrap
from slide2rna.storage import parquet
from slide2rna.studies.stain import stain
from slide2rna.studies.stain.stain import CHANGES, HALF_TILES, UNCHANGED

RESAMPLES = 1000
# Ranges of means that are not just >= 0: a basic bootstrap interval may exceed them.
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
    rows: list[Row] = []
    sums: Array = np.zeros(0)
    genes: list[str] = []
    for fold, slide_rows, shifts in stain.stain_rows(inputs, setup):
        rows += slide_rows
        genes = fold.training.genes
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
        parquet.write_stamped(table, out / f"{name}.parquet", stamp, info.get("caveat"))


def gene_table(genes: Sequence[str], sums: Array) -> pl.DataFrame:
    """Average shift and absolute shift over slides, in train sd; a row per change and gene.

    Parameters
    ----------
    sums : (3, changes, G) sums over the slides of shift and absolute shift, and slide counts.
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
    """Summarise each change in a row, with intervals over patients; half the tiles is the null.

    moved is the mean over genes and slides of the absolute shift in units of the train sd;
    minus_null is its excess over half the tiles on the same slides; of_spread is its ratio to the
    sd between the predictions of the test slides (folds of one test slide take the sd of the other
    folds; null if no fold has two); share_over is the share of genes that move by more than half a
    train sd; flagged is the share of slides whose bag then has p <= alpha, by the cal patients if
    every fold has enough for such a p, else by the train patients.
    """
    base = slides.filter(pl.col("kind") == UNCHANGED)
    counts = bootstrap.patient_counts(
        seeds.rng_for(seed, "stain-bootstrap"), base["unit"].to_list(), RESAMPLES
    )
    # The smallest possible p, not the smallest observed p, which depends on chance.
    smallest_p = 1 / (1 + int(slides["n_cal"].to_numpy().min()))
    p_column = "bag_p" if smallest_p <= alpha else "bag_p_train"
    spread, note = _spread(base)
    null_moved = _column(slides, (HALF_TILES, None), "moved")
    rows = []
    for change in [(UNCHANGED, None), *CHANGES]:
        moved = _column(slides, change, "moved")
        columns = {
            "moved": moved,
            "minus_null": moved - null_moved,
            "of_spread": moved / spread,
            "share_over": _column(slides, change, "share_over"),
            "flagged": (_column(slides, change, p_column) <= alpha).astype(float),
            "bag_distance": _column(slides, change, "bag_distance"),
        }
        row: Row = {"kind": change[0], "strength": change[1]}
        for name, values in columns.items():
            resampled = bootstrap.bootstrap_mean(counts, values)
            lowest, highest = LIMITS.get(name, (0, np.inf))
            ends = bootstrap.interval(resampled)
            low, high = (float(np.clip(end, lowest, highest)) for end in ends)
            row |= {name: float(resampled[0]), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    n_patients = slides["unit"].n_unique()
    table = pl.DataFrame(rows, schema_overrides={"strength": pl.Float64})
    return table.with_columns(
        pl.col("^of_spread.*$").fill_nan(None),
        pl.lit(note).alias("note"),
        pl.lit(p_column).alias("flagged_by"),
        pl.lit(base["stored_off"].max(), dtype=pl.Float64).alias("stored_off"),
        pl.lit(base["stored_off"].is_not_null().sum(), dtype=pl.Int64).alias("n_whole"),
        pl.lit(base.height, dtype=pl.Int64).alias("n_slides"),
        pl.lit(n_patients, dtype=pl.Int64).alias("n_patients"),
        pl.lit(n_genes, dtype=pl.Int64).alias("n_genes"),
    )


def _spread(base: pl.DataFrame) -> tuple[Array, str]:
    """Return the sd between its fold's predictions per slide, and a note for the table."""
    by_fold = base.unique("fold").sort("fold")["spread"]
    present = by_fold.drop_nulls()
    if not len(present):
        return np.full(base.height, np.nan), ONE_SLIDE
    missing = len(by_fold) - len(present)
    note = f"{missing} of {len(by_fold)} folds have one test slide; theirs is the others' mean sd"
    spread = base.sort("fold", "slide_id")["spread"].fill_null(float(present.to_numpy().mean()))
    return spread.to_numpy(), note if missing else ""


def _column(slides: pl.DataFrame, change: stain.Change, name: str) -> Array:
    rows = slides.filter(
        (pl.col("kind") == change[0]) & pl.col("strength").eq_missing(pl.lit(change[1], pl.Float64))
    ).sort("fold", "slide_id")
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
