"""The leak guard: no split unit, and no slide file, may sit in two parts of one fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.core.errors import LeakError, StageError, listing
from slide2rna.core.files import write_json
from slide2rna.core.log import log


def check_split(slides: pl.DataFrame, splits: pl.DataFrame) -> dict[str, Any]:
    """Check all folds.

    Parameters
    ----------
    slides
        slide_id, patient_id, unit, path, md5; all shards.
    splits
        unit, fold, part.

    Returns
    -------
    dict
        What was checked: folds, units, slides, slides with an md5.

    Raises
    ------
    LeakError
        A unit, or the same file (by md5, or by path where no md5 is known), in two parts.
    StageError
        A slide's unit has no part in a fold.
    """
    parts = splits.group_by("unit", "fold").agg(pl.col("part").unique().sort())
    leaking = parts.filter(pl.col("part").list.len() > 1).sort("fold", "unit")
    if leaking.height:
        found = [f"{r['unit']} ({' and '.join(r['part'])})" for r in leaking.rows(named=True)]
        cause = f"split unit in two parts of a fold: {listing(found)}"
        raise LeakError(f"fold {leaking['fold'][0]}", cause, "mend the split")
    folds = splits["fold"].unique().sort().to_list()
    for fold in folds:
        known = splits.filter(pl.col("fold") == fold)["unit"].to_list()
        lost = slides.filter(~pl.col("unit").is_in(known))["slide_id"].sort().to_list()
        if lost:
            cause = f"slides without a part: {listing(lost)}"
            raise StageError(f"fold {fold}", cause, "make the cohort again")
    file = pl.coalesce("md5", "path").alias("file")
    placed = slides.with_columns(file).filter(pl.col("file").is_not_null()).join(splits, on="unit")
    shared = placed.filter(pl.col("part").n_unique().over("file", "fold") > 1)
    shared = shared.sort("fold", "file", "slide_id")
    if shared.height:
        first = shared.row(0, named=True)
        group = shared.filter(
            (pl.col("file") == first["file"]) & (pl.col("fold") == first["fold"])
        ).rows(named=True)
        found = [f"{r['slide_id']} of {r['patient_id']} ({r['part']})" for r in group]
        cause = f"the same file in two parts: {listing(found)}"
        raise LeakError(f"fold {first['fold']}", cause, "keep one of the copies in the sheet")
    return {
        "ok": True,
        "folds": len(folds),
        "units": splits["unit"].n_unique(),
        "slides": slides.height,
        "slides_with_md5": slides["md5"].drop_nulls().len(),
    }


def guard_cohort(shards: Sequence[str | Path], splits: str | Path, out: str | Path) -> None:
    """Check the shards' manifests against the split and write guard.json."""
    slides = pl.concat([pl.read_parquet(path) for path in shards])
    table = pl.read_csv(
        splits,
        separator="\t",
        schema={"unit": pl.String, "fold": pl.Int64, "part": pl.String},
    )
    result = check_split(slides, table)
    write_json(result, out)
    log.info(
        "no leak: %d units, %d slides, %d folds", *(result[k] for k in ("units", "slides", "folds"))
    )
