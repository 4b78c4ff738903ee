"""Pairings of the leak audit: the parts that each run trains on, selects by and tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl

from slide2rna.cohort import published_splits
from slide2rna.core.errors import StageError
from slide2rna.data import patients

CLEAN, PUBLISHED = "clean", "published"


@dataclass(frozen=True)
class PairedRun:
    """A training and its test under a pairing; `pick` stops the training and selects the epoch.

    `shared` is the number of samples that train and test share.
    """

    pairing: str
    number: int
    train: patients.Part
    pick: patients.Part
    test: patients.Part
    shared: int


def clean_runs(cohort: patients.Cohort) -> Iterator[PairedRun]:
    """Yield a run per fold, with the train, val and test parts of the fold."""
    for fold in sorted(cohort.splits["fold"].unique()):
        yield _paired_run(cohort, CLEAN, fold)


def published_runs(cohort: patients.Cohort) -> Iterator[PairedRun]:
    """Yield the pairs of the published loader, each selecting by its test fold."""
    rows = [
        (unit, pair.run, part)
        for pair in published_splits.published_pairs(cohort.splits)
        for part, units in (("train", pair.train), ("val", pair.test), ("test", pair.test))
        for unit in units
    ]
    paired = pl.DataFrame(rows, schema=["unit", "fold", "part"], orient="row")
    leaking = replace(cohort, splits=paired)
    for run in sorted(paired["fold"].unique()):
        yield _paired_run(leaking, PUBLISHED, run)


def _paired_run(cohort: patients.Cohort, pairing: str, number: int) -> PairedRun:
    fold_units = cohort.splits.filter(pl.col("fold") == number)

    def part_of(part: str) -> patients.Part:
        units = fold_units.filter(pl.col("part") == part)["unit"].implode()
        return patients.make_part(cohort, cohort.slides.filter(pl.col("unit").is_in(units)))

    train, pick, test = map(part_of, ("train", "val", "test"))
    for name, part in (("train", train), ("val", pick), ("test", test)):
        if not part.samples:
            cause = f"no measured sample in part {name} of the {pairing} pairing"
            raise StageError(f"fold {number}", cause, "use fewer folds")
    shared = len(set(train.samples) & set(test.samples))
    return PairedRun(pairing, number, train, pick, test, shared)
