"""The published five folds: as a cohort's split, and paired as the published loader pairs them.

The loader appends each fold's train and val as entries of their own and zips them with the test
folds, so that (train0, test0) is followed by (val0, test1), (train1, test2), (val1, test3) and
(train2, test4): most of the patients that a later run tests are in its training set. The pairing
is here to be counted and audited (`audit.py`); no model of the workflow is trained on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from slide2rna.cohort import splits
from slide2rna.core.config import Settings
from slide2rna.core.errors import SheetError
from slide2rna.core.files import sha256sum

NAME = "published"
# Of a cohort's split: what the published files call train is train and cal together here.
TRAIN = ("train", "cal")


@dataclass(frozen=True)
class PublishedPair:
    """What one run of the published loader trains on and tests.

    Attributes
    ----------
    run : number of the run, and of the fold whose test it takes.
    part, fold : where its training units come from: train or val of which fold.
    train, test : units, sorted; a unit may be in both.
    """

    run: int
    part: str
    fold: int
    train: list[str]
    test: list[str]

    @property
    def shared(self) -> list[str]:
        """Units that are tested and were trained on, sorted."""
        return sorted(set(self.train) & set(self.test))


def read(
    path: str | Path, units: pl.DataFrame, settings: Settings, seed: int
) -> tuple[pl.DataFrame, list[str]]:
    """Place the units of a cohort by a published file.

    Parameters
    ----------
    path
        TSV with patient_id, fold, part.
    units
        unit, site.
    settings, seed
        As in `splits.from_file`: where a fold has no cal, a tenth of train by unit is set aside.

    Returns
    -------
    table : unit, fold, part of the units that the file names.
    lost : units that it doesn't name in every fold, sorted; they have no row in the table. Units
        of the file that the cohort lacks are logged.

    Raises
    ------
    SheetError, ConfigError
        As `splits.from_file`; no unit of the cohort is in the file.
    """
    given = splits.read_split(path)
    folds = given["fold"].n_unique()
    seen = given.group_by("unit").len().filter(pl.col("len") == folds)["unit"]
    named = pl.col("unit").is_in(seen.implode())
    lost = units.filter(~named)["unit"].sort().to_list()
    if len(lost) == units.height:
        cause = f"it names none of the cohort's units ({lost[0]} ...)"
        raise SheetError(path, cause, "give the split file of this project")
    return splits.table_from_split(path, given, units.filter(named), settings, seed), lost


def pairs(table: pl.DataFrame) -> list[PublishedPair]:
    """The runs of the published loader on a split (unit, fold, part)."""

    def units(fold: int, *parts: str) -> list[str]:
        rows = table.filter((pl.col("fold") == fold) & pl.col("part").is_in(parts))
        return rows["unit"].sort().to_list()

    found = []
    for run in range(table["fold"].n_unique()):
        fold, odd = divmod(run, 2)
        part = "val" if odd else "train"
        trained = units(fold, *(("val",) if odd else TRAIN))
        found.append(PublishedPair(run, part, fold, trained, units(run, "test")))
    return found


def facts(path: str | Path, table: pl.DataFrame) -> dict[str, Any]:
    """What cohort.json says about the file and about the pairing on this cohort's units."""
    overlap = [
        {
            "run": pair.run,
            "trained_on": f"{pair.part} of fold {pair.fold}",
            "n_train": len(pair.train),
            "n_test": len(pair.test),
            "n_shared": len(pair.shared),
        }
        for pair in pairs(table)
    ]
    return {"name": Path(path).name, "sha256": sha256sum(path), "overlap": overlap}
