"""Tables of docs/explanation/reruns.md, and Snakemake's plans after a change of a key."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rerun_changes
import yaml

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs" / "explanation" / "reruns.md"


@dataclass(frozen=True)
class Row:
    """Keys, as patterns, and the rules that run again after a change of one of them."""

    keys: tuple[str, ...]
    rules: frozenset[str]


# The analyses of the page, in the order of its columns.
ANALYSES = ("external", "ablations", "leak audit", "samplers", "stain", "export")
HEAD = ["key", "first rules", *ANALYSES]


def _tables() -> Iterator[tuple[str, list[list[str]]]]:
    """Heading and rows of each table of the page, the head of the table included."""
    for part in re.split(r"^#+ ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        heading = part.splitlines()[0].replace("&lt;", "<").replace("&gt;", ">")
        for table in re.findall(r"(?:^\|.*\n)+", part, re.M):
            lines = [line for line in table.splitlines() if not line.startswith("|---")]
            yield heading, [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def _words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _rules_by_name(head: str) -> dict[str, list[str]]:
    """The table of the page whose first column has this head: names and their rules."""
    table = next(rows for _, rows in _tables() if rows[0][0] == head)
    return {name.strip("`"): _words(rules) for name, rules in table[1:]}


def followers() -> dict[str, list[str]]:
    """First rules, and the rules that rerun with each of them."""
    return _rules_by_name("first rule")


def rows() -> list[Row]:
    """Rows of all sections, with full keys and with all rules spelled out."""
    follow, analyses = followers(), _rules_by_name("analysis")
    assert list(analyses) == list(ANALYSES)
    found = []
    for heading, (head, *cells) in _tables():
        if head[:1] != ["key"]:
            continue
        assert head == HEAD, heading
        # A table of several sections has whole keys, as has the one of the top level.
        whole = heading == "Top level" or ", " in heading
        prefix = "" if whole else heading.removesuffix(".<name>") + "."
        prefix += "<name>." if heading.startswith("ablations") else ""
        for keys, first, *asked in cells:
            rules = _main_rules(first, follow)
            for name, cell in zip(ANALYSES, asked, strict=True):
                rules |= _analysis_rules(cell, analyses[name])
            names = _words(keys.partition(", any but")[0])
            found.append(Row(tuple(f"{prefix}{key}" for key in names), frozenset(rules)))
    return found


def _main_rules(cell: str, follow: dict[str, list[str]]) -> set[str]:
    """Rules of the column `first rules`: with followers, without those after "not"."""
    if cell.startswith("only "):
        return set(_words(cell))
    first, _, without = cell.partition(", not ")
    assert first == "–" or _words(first), cell
    return {rule for name in _words(first) for rule in follow[name]} - set(_words(without))


def _analysis_rules(cell: str, rules: list[str]) -> set[str]:
    """Rules of an analysis that rerun: all, none, or those from one rule on."""
    if cell in ("yes", "–"):
        return set(rules) if cell == "yes" else set()
    (first,) = _words(cell)
    return set(rules[rules.index(first) :])


def row_of(key: str, table: Iterable[Row]) -> Row:
    """The one row that has a key."""
    found = [row for row in table if any(fnmatch.fnmatchcase(key, name) for name in row.keys)]
    assert len(found) == 1, f"{key} is in {len(found)} rows of {PAGE.name}"
    return found[0]


class Finished:
    """A folder in which a configuration has run to its end, as far as Snakemake can tell."""

    def __init__(self, folder: Path, base: rerun_changes.Config) -> None:
        self.folder = folder
        folder.mkdir()
        for name in rerun_changes.FILES:
            (folder / name).write_text(name)
        (folder / "config.yaml").write_text("cohorts: {}\n")
        self.base = base

    def plan(
        self, changed: Iterable[tuple[rerun_changes.Config, tuple[str, ...]]], finish: bool = False
    ) -> list[set[str]]:
        """`rule cohort` of the jobs that each configuration plans for its targets."""
        jobs: list[dict[str, Any]] = []
        for number, (config, targets) in enumerate(changed):
            name = f"changed-{number}.yaml"
            (self.folder / name).write_text(yaml.safe_dump(config))
            options = ["-s", str(REPO / "Snakefile"), "--cores", "2", "--nolock"]
            jobs.append(
                {"args": [*options, "--configfile", name, "--", *targets], "finish": finish}
            )
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("dry_runs.py"))],
            input=json.dumps(jobs),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [one["status"] for one in found] == [0] * len(jobs), found
        return [set(one["jobs"]) for one in found]


def finished(folder: Path, base: rerun_changes.Config) -> Finished:
    """Make up every output of a configuration; then nothing is left to do."""
    made = Finished(folder, base)
    assert made.plan([(base, rerun_changes.TARGETS)], finish=True)[0]
    assert made.plan([(base, rerun_changes.TARGETS)]) == [set()]
    return made


def compare(folder: Path, wanted: dict[str, tuple[Any, Any]]) -> dict[str, str]:
    """Keys whose rules aren't those of the page; `wanted`: finished and changed configuration."""
    table, wrong = rows(), {}
    for place, base in enumerate((rerun_changes.SECTIONS, rerun_changes.SOURCES)):
        own = {key: changed for key, (of, changed) in wanted.items() if of is base}
        if not own:
            continue
        made = finished(folder / str(place), base)
        plans = made.plan([(changed, rerun_changes.TARGETS) for changed in own.values()])
        for key, jobs in zip(own, plans, strict=True):
            rules, expected = {job.split()[0] for job in jobs}, row_of(key, table).rules
            if rules != expected:
                more, less = sorted(rules - expected), sorted(expected - rules)
                wrong[key] = f"not on the page: {more}; not planned: {less}"
            owner = rerun_changes.owner(key)
            others = {job.split()[1] for job in jobs} - {owner}
            if owner and others:
                wrong[key] = f"jobs of other cohorts: {sorted(others)}"
    return wrong
