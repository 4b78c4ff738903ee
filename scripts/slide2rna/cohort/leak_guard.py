"""Leak guard: no split unit and no slide may be in two parts of one fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import polars as pl

from slide2rna.cohort.sheet import TCGA_PATIENT
from slide2rna.cohort.splits import PARTS
from slide2rna.core.errors import LeakError, StageError, list_names
from slide2rna.core.files import write_json
from slide2rna.core.log import log
from slide2rna.storage import parquet, split_file


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
        slide_id, patient_id, unit, path, md5 and quickhash; all shards.
    splits
        unit, fold, part.

    Returns
    -------
    dict
        Numbers of folds, units, slides and slides with an md5 that were checked.

    Raises
    ------
    LeakError
        In two parts: a unit, a file (by md5, or by path without an md5), a slide (by OpenSlide's
        quickhash: parts of one DICOM slide, or a copy), or a TCGA patient.
    StageError
        A slide's unit has no part in a fold, or a part is none of train, val, cal and test.
    """
    unknown = splits.filter(~pl.col("part").is_in(PARTS))["part"].unique().sort().to_list()
    if unknown or splits["part"].null_count():
        cause = f"parts that don't exist: {list_names(unknown) or 'empty'}"
        raise StageError("splits.tsv", cause, f"allowed are {', '.join(PARTS)}: split again")
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
    if "quickhash" not in slides.columns:
        slides = slides.with_columns(pl.lit(None, pl.String).alias("quickhash"))
    _check_shared(slides, splits, pl.coalesce("md5", "path"), "the same file")
    _check_shared(slides, splits, pl.col("quickhash"), "files of the same slide")
    by_patient = slides.filter(pl.col("unit") == pl.col("patient_id"))
    barcode = pl.col("patient_id").str.extract(TCGA_PATIENT, 1).str.to_uppercase()
    barcode = barcode.str.replace_all(".", "-", literal=True)
    _check_shared(by_patient, splits, barcode, "slides of the same TCGA patient")
    return {
        "ok": True,
        "folds": len(folds),
        "units": splits["unit"].n_unique(),
        "slides": slides.height,
        "slides_with_md5": slides["md5"].drop_nulls().len(),
    }


def _check_shared(slides: pl.DataFrame, splits: pl.DataFrame, key: pl.Expr, what: str) -> None:
    """Raise an error if slides of one key are in two parts of a fold."""
    assigned = slides.with_columns(key.alias("key")).filter(pl.col("key").is_not_null())
    assigned = assigned.join(splits, on="unit")
    shared = assigned.filter(pl.col("part").n_unique().over("key", "fold") > 1)
    if shared.is_empty():
        return
    first = shared.sort("fold", "key", "slide_id").row(0, named=True)
    group = shared.filter(key=first["key"], fold=first["fold"]).sort("slide_id").rows(named=True)
    copies = [f"{r['slide_id']} of {r['patient_id']} ({r['part']})" for r in group]
    cause = f"{what} in two parts: {list_names(copies)}"
    raise LeakError(f"fold {first['fold']}", cause, "keep one of them, or give them one patient")


def guard_cohort(shards: Sequence[str | Path], splits: str | Path, out: str | Path) -> None:
    """Check the slide tables of all shards against the split and write guard.json."""
    slides = pl.concat([parquet.read(path) for path in shards])
    table = split_file.read(splits)
    result = check_split(slides, table)
    write_json(result, out)
    log.info(
        "no leak: %d units, %d slides, %d folds",
        result["units"],
        result["slides"],
        result["folds"],
    )
