"""The configuration: one YAML file, checked against its schema, defaults filled from there."""

from __future__ import annotations

import copy
import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from slide2rna.errors import ConfigError

SCHEMA = Path(__file__).resolve().parents[2] / "workflow" / "schemas" / "config.schema.yaml"
SECTIONS = (
    "folds",
    "tiles",
    "features",
    "bags",
    "pathways",
    "model",
    "train",
    "sample",
    "evaluate",
)

Settings = dict[str, Any]


@cache
def _schema() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def defaults(section: str, **changes: Any) -> Settings:
    """The schema's defaults of one section, with `changes` on top.

    Raises
    ------
    ConfigError
        A change names an unknown key or has a wrong value.
    """
    fields = _schema()["$defs"][section]["properties"]
    values = {key: copy.deepcopy(field["default"]) for key, field in fields.items()} | changes
    _check(values, _schema()["$defs"][section], section)
    return values


def parse_settings(section: str, text: str) -> Settings:
    """Settings from a command line's JSON object; keys that aren't given get their defaults."""
    try:
        changes = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--settings of {section}", str(error), "give a JSON object") from error
    if not isinstance(changes, dict):
        raise ConfigError(f"--settings of {section}", "not an object", "give a JSON object")
    return defaults(section, **changes)


def validate(config: dict[str, Any], where: str = "config.yaml") -> dict[str, Any]:
    """Check a configuration and return it whole, with every default filled in.

    Raises
    ------
    ConfigError
        Names the first offending key, its value and what is allowed.
    """
    _check(config, _schema(), where)
    full = copy.deepcopy(config)
    for key, field in _schema()["properties"].items():
        if "default" in field:
            full.setdefault(key, copy.deepcopy(field["default"]))
        elif key != "cohorts":
            full[key] = defaults(key) | full.get(key, {})
    for name, cohort in full["cohorts"].items():
        _check_source(name, cohort, where)
        for key, field in _schema()["$defs"]["cohort"]["properties"].items():
            if "default" in field:
                cohort.setdefault(key, copy.deepcopy(field["default"]))
    return full


def load(path: str | Path) -> dict[str, Any]:
    """Read and validate a configuration file."""
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(path, str(error), "give a readable YAML file") from error
    return validate(config, str(path))


def for_cohort(config: dict[str, Any], cohort: str) -> dict[str, Any]:
    """A cohort's own settings: the file's sections with the cohort's `settings` on top."""
    own = config["cohorts"][cohort].get("settings", {})
    merged = {section: config[section] | own.get(section, {}) for section in SECTIONS}
    merged["max_failed_slides"] = own.get("max_failed_slides", config["max_failed_slides"])
    return merged


def _check_source(name: str, cohort: dict[str, Any], where: str) -> None:
    needs = {"sheet": ("sheet", "expression"), "her2st": ("path",), "gdc": ("project",)}
    if cohort["source"] == "gdc" and cohort.get("project", "").startswith("CPTAC"):
        needs["gdc"] = ("project", "collection")
    if "genes" in cohort and "gene_types" in cohort:
        cause = "genes and gene_types are both given"
        raise ConfigError(f"{where}: cohorts.{name}", cause, "keep one of the two")
    for key in needs.get(cohort["source"], ()):
        if key not in cohort:
            raise ConfigError(
                f"{where}: cohorts.{name}",
                f"source {cohort['source']} needs the key '{key}'",
                "add it",
            )


def _check(value: Any, schema: dict[str, Any], where: str) -> None:
    validator = Draft202012Validator(schema | {"$defs": _schema()["$defs"]})
    errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
    if not errors:
        return
    error = errors[0]
    key = ".".join(map(str, error.path)) or "the top level"
    place = f"{where}: {key}"
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in known)
        near = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed are {', '.join(known)}"
        raise ConfigError(place, f"unknown key '{unknown}'", hint)
    cause = f"{json.dumps(error.instance, default=str)[:80]} is not allowed"
    allowed = {
        "enum": lambda: f"allowed are {', '.join(map(str, error.validator_value))}",
        "type": lambda: f"it must be of type {error.validator_value}",
        "required": lambda: f"add the key: {error.message}",
    }.get(error.validator, lambda: error.message.replace("\n", " ")[:160])
    raise ConfigError(place, cause, allowed())
