"""Leak guard: no split unit and no slide file may be in two parts of one fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import polars as pl

from slide2rna.core.errors import LeakError, StageError, list_names
from slide2rna.core.files import write_json
from slide2rna.core.log import log


class SplitCheck(TypedDict):
    """Result of the leak guard, written to guard.json."""

    ok: bool
    folds: int
    units: int
    slides: int
    slides_with_md5: int


def check_split(slides: pl.DataFrame, splits: pl.DataFrame) -> SplitCheck:
    """Check that no fold has a unit or a slide file in two parts.

    Parameters
    ----------
    slides
        slide_id, patient_id, unit, path, md5; all shards.
    splits
        unit, fold, part.

    Returns
    -------
    dict
        Numbers of folds, units, slides and slides with an md5 that were checked.

    Raises
    ------
    LeakError
        A unit, or the same file (by md5, or by path without an md5), in two parts.
    StageError
        A slide's unit has no part in a fold.
    """
    parts = splits.group_by("unit", "fold").agg(pl.col("part").unique().sort())
    leaking = parts.filter(pl.col("part").list.len() > 1).sort("fold", "unit")
    if leaking.height:
        leaks = [f"{r['unit']} ({' and '.join(r['part'])})" for r in leaking.rows(named=True)]
        cause = f"split unit in two parts of a fold: {list_names(leaks)}"
        raise LeakError(f"fold {leaking['fold'][0]}", cause, "give each unit one part per fold")
    folds = splits["fold"].unique().sort().to_list()
    for fold in folds:
        fold_units = splits.filter(pl.col("fold") == fold)["unit"].to_list()
        unassigned = slides.filter(~pl.col("unit").is_in(fold_units))["slide_id"].sort().to_list()
        if unassigned:
            cause = f"slides without a part: {list_names(unassigned)}"
            raise StageError(f"fold {fold}", cause, "make the cohort again")
    file = pl.coalesce("md5", "path").alias("file")
    assigned = (
        slides.with_columns(file).filter(pl.col("file").is_not_null()).join(splits, on="unit")
    )
    shared = assigned.filter(pl.col("part").n_unique().over("file", "fold") > 1)
    shared = shared.sort("fold", "file", "slide_id")
    if shared.height:
        first = shared.row(0, named=True)
        group = shared.filter(
            (pl.col("file") == first["file"]) & (pl.col("fold") == first["fold"])
        ).rows(named=True)
        copies = [f"{r['slide_id']} of {r['patient_id']} ({r['part']})" for r in group]
        cause = f"the same file in two parts: {list_names(copies)}"
        raise LeakError(f"fold {first['fold']}", cause, "keep one of the copies in the sheet")
    return {
        "ok": True,
        "folds": len(folds),
        "units": splits["unit"].n_unique(),
        "slides": slides.height,
        "slides_with_md5": slides["md5"].drop_nulls().len(),
    }


def guard_cohort(shards: Sequence[str | Path], splits: str | Path, out: str | Path) -> None:
    """Check the slide tables of all shards against the split and write guard.json."""
    slides = pl.concat([pl.read_parquet(path) for path in shards])
    table = pl.read_csv(
        splits,
        separator="\t",
        schema={"unit": pl.String, "fold": pl.Int64, "part": pl.String},
    )
    result = check_split(slides, table)
    write_json(result, out)
    log.info(
        "no leak: %d units, %d slides, %d folds",
        result["units"],
        result["slides"],
        result["folds"],
    )
