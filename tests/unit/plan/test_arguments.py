"""Words of command lines: whatever a folder is called, the shell takes it as one word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from plans import DEMO, SHEET, at
from slide2rna.core.errors import ConfigError
from slide2rna.plan.arguments import Arguments
from slide2rna.plan.inputs import Inputs
from slide2rna.plan.plan import Plan

FOLDERS = ["re s", "r$(touch pwned)", "r`touch pwned`", "r; touch pwned", "r'x\"y", "r&x|y", "r*"]
# Placeholders of commands that need no quoting: numbers, names of the schema's pattern, and what
# `Arguments` has quoted.
PLAIN = re.compile(
    r"threads|wildcards\.\w+|params\.(scripts|seed|device|folds|shards|max_failed|name|label|run"
    r"|encoder|set|kind|extras)|resources\.downloads"
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_one_word(folder: str) -> None:
    plan = Plan.of(DEMO | {"results": folder})
    arguments = Arguments(plan, Inputs(plan))
    tiles = f"{folder}/mine/tiles"
    made = arguments.tiles(at(), SimpleNamespace(tiles=f"{tiles}/shard-0.parquet"))
    words = ["--tiles", tiles, "--tiles-manifest", f"{tiles}/shard-0.parquet"]
    assert shlex.split(made) == words
    files = SimpleNamespace(others=[tiles], student=[f"{tiles}/x"], pathways=tiles)
    assert shlex.split(arguments.others(at(), files)) == ["--others", tiles]
    assert shlex.split(arguments.student(at(), files)) == ["--student", tiles]
    assert shlex.split(arguments.gene_sets(at(), files)) == ["--pathways", tiles]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_of_the_configuration_is_one_word(name: str) -> None:
    block = SHEET | {"sheet": name, "splits": name}
    plan = Plan.of({"cohorts": {"mine": block}, "results": "r"})
    made = Arguments(plan, Inputs(plan)).given_split(at())
    assert shlex.split(made) == ["--splits", name, "--origin", name]


@pytest.mark.parametrize("folder", ["r{x}", "{cohort}", "r}", "r\0", "r\u202e"])
def test_a_folder_that_snakemake_cannot_have(folder: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Plan.of(DEMO | {"results": folder})
    assert caught.value.where == "config.yaml: results"


def test_every_other_placeholder_is_quoted(repo: Path) -> None:
    """A value of the configuration reaches a shell through `:q`, or quoted by `Arguments`."""
    for path in sorted((repo / "workflow/rules").glob("*.smk")):
        text = path.read_text()
        quoted = re.findall(r"(\w+)=(?:untracked\()?(?:ARGUMENTS|STAMPS)\.", text)
        commands = re.findall(r'^ +"[^\n]*"$', text, re.M)
        found = re.findall(r"(?<!{){([a-z_.]+)}(?!})", "\n".join(commands))
        names = {f"params.{name}" for name in quoted}
        loose = [name for name in found if name not in names and not PLAIN.fullmatch(name)]
        assert not [name for name in loose if "." in name or name in ("input", "output", "log")], (
            path
        )
