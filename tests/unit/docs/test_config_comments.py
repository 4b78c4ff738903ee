"""Comments and values of config.yaml, held against its schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import build_reference
import config_comments
import pytest
import yaml
from slide2rna.core import config


@pytest.fixture
def schema() -> dict[str, Any]:
    return yaml.safe_load(config.SCHEMA.read_text(encoding="utf-8"))


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of a configuration, with dots between them, and their values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_comments_are_those_of_the_schema(repo: Path) -> None:
    for path, text in build_reference.configuration().items():
        assert path == repo / "config.yaml"
        assert path.read_text(encoding="utf-8") == text, "run python docs/build_reference.py"
        assert yaml.safe_load(text) == yaml.safe_load(path.read_text(encoding="utf-8"))
        assert max(map(len, text.splitlines())) <= config_comments.WIDTH


def test_every_key_has_a_comment(repo: Path) -> None:
    section, bare = "", []
    for line in (repo / "config.yaml").read_text(encoding="utf-8").splitlines():
        section = line.split(":")[0] if re.match("[a-z]", line) else section
        if section not in config_comments.BY_HAND and re.match(" *[a-z]", line):
            bare += [line] if "  # " not in line else []
    assert not bare


def test_values_are_the_defaults(repo: Path) -> None:
    """A key that is deleted from config.yaml changes nothing; `ablations` are the exception."""
    shipped = yaml.safe_load((repo / "config.yaml").read_text(encoding="utf-8"))
    defaults = config.validate({"cohorts": {"demo": {"source": "demo"}}})
    default = dict(leaves({key: defaults[key] for key in shipped}))
    given = dict(leaves({k: v for k, v in shipped.items() if k not in config_comments.BY_HAND}))
    assert len(given) > 90
    assert {key: default.get(key) for key in given} == given


SCHEMA = {
    "properties": {
        "cohorts": {"description": "Cohorts by name.", "properties": {}},
        "model": {"$ref": "#/$defs/model"},
        "skip": {"enum": ["a", "b"], "description": "Start of the fit (Eq. 6). b is the default."},
        "models": {"items": {"enum": ["x" * 40, "y" * 40]}, "description": "Networks, e.g. x."},
    },
    "$defs": {
        "model": {
            "description": "The network. It follows Ilse et al. 2018.",
            "properties": {"hidden": {"description": "Width."}},
        }
    },
}
TEXT = """\
# By hand.
cohorts:
  # By hand, too.
  demo: {source: demo}  # and this
model:  # outdated
  hidden: 8
skip: a
models: [xxxxxxxx]
"""
COMMENTED = """\
# By hand.
cohorts:                 # Cohorts by name
  # By hand, too.
  demo: {source: demo}  # and this
model:                   # The network
  hidden: 8              # Width
skip: a                  # Start of the fit (Eq. 6): a | b
models: [xxxxxxxx]       # Networks, e.g. x
"""


def test_first_sentences_become_comments() -> None:
    assert config_comments.commented(TEXT, SCHEMA) == COMMENTED
    assert config_comments.commented(COMMENTED, SCHEMA) == COMMENTED
    with pytest.raises(KeyError):
        config_comments.commented("modle: {}\n", SCHEMA)


def test_no_rule_reads_the_schema(repo: Path) -> None:
    """A changed description reruns nothing: rules have settings as parameters, not the schema."""
    rules = [*repo.glob("workflow/**/*.smk"), repo / "Snakefile", repo / "workflow" / "Snakefile"]
    assert len(rules) > 10
    assert not [path.name for path in rules if "schema" in path.read_text(encoding="utf-8")]
