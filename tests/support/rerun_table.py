"""The table of docs/explanation/reruns.md, and what Snakemake plans after a change of a key."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Iterable
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


def rows() -> list[Row]:
    """The table as the page has it; a rule set in another row's words is spelled out."""
    words = r"`([^`]+)`"
    text = PAGE.read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.+?) \| (.+?) \| (.+?) \|$", text, re.M)
    return [
        Row(tuple(re.findall(words, keys)), frozenset(re.findall(words, f"{always} {asked}")))
        for keys, always, asked in cells
    ]


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
