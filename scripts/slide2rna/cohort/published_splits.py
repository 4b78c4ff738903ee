"""Published five folds, as a cohort's split and as the published loader pairs them.

The loader appends each fold's train and val as separate entries and zips them with the test
folds, so that (train0, test0) is followed by (val0, test1), (train1, test2), (val1, test3) and
(train2, test4): most patients that a later run tests are in its training set. The pairs are here
to be counted and audited (`studies.leak_audit`); no model of the workflow is trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import polars as pl

from slide2rna.cohort import splits
from slide2rna.core.errors import SheetError
from slide2rna.core.files import sha256sum
from slide2rna.core.settings import FoldsSettings

NAME = "published"
# The train part of the published files is split into train and cal here.
TRAIN = ("train", "cal")


@dataclass(frozen=True)
class PublishedPair:
    """Training and test units of one run of the published loader.

    Attributes
    ----------
    run : number of the run, and of the fold whose test part it uses.
    part, fold : source of its training units: the part (train or val) and its fold.
    train, test : units, sorted; a unit may be in both.
    """

    run: int
    part: str
    fold: int
    train: list[str]
    test: list[str]

    @property
    def shared(self) -> list[str]:
        """Units in both train and test, sorted."""
        return sorted(set(self.train) & set(self.test))


def read_published_split(
    path: str | Path, units: pl.DataFrame, settings: FoldsSettings, seed: int
) -> tuple[pl.DataFrame, list[str]]:
    """Assign the units of a cohort to parts by a published file.

    Parameters
    ----------
    path
        TSV with patient_id, fold, part.
    units
        unit, site.
    settings, seed
        As in `splits.from_file`: if a fold has no cal, a tenth of its train units becomes cal.

    Returns
    -------
    table : unit, fold, part of the units that the file lists in every fold.
    unlisted : all other units, sorted. Units of the file that the cohort lacks are logged.

    Raises
    ------
    SheetError, ConfigError
        As `splits.from_file`; also if no unit of the cohort is in the file.
    """
    split = splits.read_split(path)
    folds = split["fold"].n_unique()
    in_every_fold = split.group_by("unit").len().filter(pl.col("len") == folds)["unit"]
    is_listed = pl.col("unit").is_in(in_every_fold.implode())
    unlisted = units.filter(~is_listed)["unit"].sort().to_list()
    if len(unlisted) == units.height:
        cause = f"none of the cohort's units is listed there ({unlisted[0]} ...)"
        raise SheetError(path, cause, "give the split file of this project")
    return splits.table_from_split(path, split, units.filter(is_listed), settings, seed), unlisted


def published_pairs(table: pl.DataFrame) -> list[PublishedPair]:
    """Return the runs of the published loader on a split (unit, fold, part)."""

    def part_units(fold: int, *parts: str) -> list[str]:
        rows = table.filter((pl.col("fold") == fold) & pl.col("part").is_in(parts))
        return rows["unit"].sort().to_list()

    runs = []
    for run in range(table["fold"].n_unique()):
        fold, is_odd = divmod(run, 2)
        part = "val" if is_odd else "train"
        train_units = part_units(fold, *(("val",) if is_odd else TRAIN))
        runs.append(PublishedPair(run, part, fold, train_units, part_units(run, "test")))
    return runs


class RunOverlap(TypedDict):
    """Units that one run of the published loader trains on, tests, and shares between both."""

    run: int
    trained_on: str
    n_train: int
    n_test: int
    n_shared: int


class PublishedFacts(TypedDict):
    """Entry of cohort.json about the published file and the loader's pairs."""

    name: str
    sha256: str
    overlap: list[RunOverlap]


def published_facts(path: str | Path, table: pl.DataFrame) -> PublishedFacts:
    """Return file name, sha256 and the loader's train-test overlap for cohort.json."""
    overlap: list[RunOverlap] = [
        {
            "run": pair.run,
            "trained_on": f"{pair.part} of fold {pair.fold}",
            "n_train": len(pair.train),
            "n_test": len(pair.test),
            "n_shared": len(pair.shared),
        }
        for pair in published_pairs(table)
    ]
    return {"name": Path(path).name, "sha256": sha256sum(path), "overlap": overlap}
