"""Reruns after a change of a key: the tables of the page against Snakemake's plans.

Here a key of each row and section; `make soak` tries every key of the schema.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import rerun_changes
from rerun_table import compare, finished, followers, row_of, rows


def test_every_key_is_in_one_row_and_every_row_has_a_key() -> None:
    table = rows()
    assert len(table) > 10
    used = {row_of(key, table) for key in rerun_changes.all_keys() if key != "ablations"}
    used |= {row_of(key, table) for key, _, _ in rerun_changes.changes()}
    assert used == set(table)


def test_rules_that_follow_are_those_of_the_graph(repo: Path) -> None:
    """The table of first rules against the README's rule graph, which Snakemake draws."""
    edges = re.findall(r"^ +(\w+) --> (\w+)$", (repo / "README.md").read_text("utf-8"), re.M)
    # Two rules that the shipped configuration doesn't run.
    edges += [("consume_own", "guard"), ("consume_own", "bags"), ("resample", "train")]

    def after(rule: str) -> set[str]:
        return {rule}.union(*(after(second) for first, second in edges if first == rule)) - {"all"}

    table = followers()
    assert len(table) >= 15
    assert {first: set(rules) for first, rules in table.items()} == {
        first: after(first) for first in table
    }


@pytest.mark.timeout(2400)
def test_a_key_of_each_row_reruns_what_the_page_says(tmp_path: Path) -> None:
    table, wanted, seen = rows(), {}, set()
    for key, base, changed in rerun_changes.changes():
        # Rows of a section that name the same rules are one kind.
        kind = (row_of(key, table).rules, key.split(".")[0])
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
