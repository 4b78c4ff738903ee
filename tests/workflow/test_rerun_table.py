"""After a change of a key, what depends on it runs again and nothing else: the page's table.

Here a key of each row and section; `make soak` tries every key of the schema.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import rerun_changes
from rerun_table import compare, finished, row_of, rows


def test_every_key_is_in_one_row_and_every_row_has_a_key() -> None:
    table = rows()
    assert len(table) > 10
    used = {row_of(key, table) for key in rerun_changes.all_keys() if key != "ablations"}
    used |= {row_of(key, table) for key, _, _ in rerun_changes.changes()}
    assert used == set(table)


@pytest.mark.timeout(2400)
def test_a_key_of_each_row_reruns_what_the_page_says(tmp_path: Path) -> None:
    wanted, seen = {}, set()
    for key, base, changed in rerun_changes.changes():
        kind = (row_of(key, rows()), key.split(".")[0])
        if kind not in seen:
            seen.add(kind)
            wanted[key] = (base, changed)
    assert compare(tmp_path, wanted) == {}


def test_one_cohort_is_rerun_alone(tmp_path: Path) -> None:
    """By its name, and by the path of its report; a change that every cohort would see."""
    base = copy.deepcopy(rerun_changes.SECTIONS)
    del base["external"]
    made = finished(tmp_path / "two", base)
    other = base | {"seed": 2}
    targets = [("own",), ("results/own/report/index.html",), ("all",)]
    by_name, by_report, everything = made.plan([(other, target) for target in targets])
    assert {job.split()[1] for job in by_name} == {job.split()[1] for job in by_report} == {"own"}
    assert by_name - by_report == {"package own"}
    assert {job.split()[1] for job in everything} == {"own", "other"}
    assert {job for job in everything if job.endswith(" own")} == by_name
