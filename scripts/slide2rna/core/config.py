"""Configuration: one YAML file, checked against its schema, which also holds the defaults."""

from __future__ import annotations

import copy
import difflib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from slide2rna.core import encoder_names, yaml_file
from slide2rna.core.errors import ConfigError
from slide2rna.core.root import ROOT

SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
SECTIONS = (
    *("folds", "tiles", "features", "bags", "pathways", "model", "train", "baselines"),
    *("sample", "evaluate", "shift", "stain", "leak_audit", "samplers"),
)
# Keys outside the sections; a cohort's value replaces the file's value as a whole.
TOP_LEVEL_KEYS = ("max_failed_slides", "models", "seeds", "search", "ablations", "extras", "start")

# Keys that change how a result is computed but, up to the rounding of sums, not its value: finished
# results stay valid when such a key changes.
RESULT_NEUTRAL = {
    "features": ("batch",),
    "train": ("checkpoint_epochs", "recompute"),
    "sample": ("memory_mb",),
}

Settings = dict[str, Any]
# Keys of section features without effect on features from files.
OF_NETWORKS = {"weights", "revision", "embedding"}
# Keys of section features that cohorts share if they are trained together.
SAME_FEATURES = ("encoder", "embedding", "level", "scale")
# What YAML 1.1 takes for text: https://yaml.org/type/float.html wants a decimal point.
EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")


@cache
def _schema() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def _default(field: dict[str, Any]) -> Any:
    """Return the default of a key; for an object, collect its keys' defaults at any depth."""
    if "properties" in field:
        return {key: _default(inner) for key, inner in field["properties"].items()}
    return copy.deepcopy(field["default"])


def overlay(base: Settings, changes: Settings) -> Settings:
    """Return `base` with `changes`, at any depth: key by key in an object, a list as a whole."""
    merged = {
        key: overlay(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in changes.items()
    }
    return base | merged


def defaults(section: str, **changes: Any) -> Any:
    """Return the schema's defaults of one section, with `changes` on top, at any depth.

    The result is a dict of the section's type in `core.settings`.

    Raises
    ------
    ConfigError
        A change names an unknown key or has a wrong value.
    """
    schema = _schema()["$defs"][section]
    _check(changes, schema, section)
    return overlay(_default(schema), changes)


def check_section(section: str, value: Any, where: str) -> None:
    """Check a complete section that was stored with a result; unknown keys may be of old versions.

    Raises
    ------
    ConfigError
        A key that has no place in older results is missing, or a value isn't allowed.
    """
    _check(value, _schema()["$defs"][section] | {"additionalProperties": True}, where)


def parse_settings(section: str, text: str) -> Any:
    """Read a section from JSON on a command line; missing keys take their defaults."""
    try:
        changes = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--settings of {section}", str(error), "give a JSON object") from error
    if not isinstance(changes, dict):
        raise ConfigError(f"--settings of {section}", "not an object", "give a JSON object")
    return defaults(section, **changes)


def parse_training(name: str, model: str, train: str) -> dict[str, Any]:
    """Return the training settings `name`, `model` and `train` from JSON on a command line.

    Parameters
    ----------
    name
        flow, whose JSON is section `model`, or a network of `baselines`, whose JSON is its object
        there; training keys of that object override those of section `train`.

    Raises
    ------
    ConfigError
        No network has this name, or the JSON names an unknown key or a wrong value.
    """
    train_settings = parse_settings("train", train)
    if name == "flow":
        network = parse_settings("model", model)
    else:
        baselines = defaults("baselines")
        if name not in baselines:
            remedy = f"use flow, {', '.join(baselines)}"
            raise ConfigError(f"--name {name}", "no such network", remedy)
        network = parse_settings("baselines", f"{{{json.dumps(name)}: {model}}}")[name]
        train_settings |= {key: value for key, value in network.items() if key in train_settings}
    model_settings, train_settings = (
        {key: value for key, value in section.items() if key != "search"}
        for section in (network, train_settings)
    )
    return {"name": name, "model": model_settings, "train": train_settings}


def validate(config: dict[str, Any], where: str = "config.yaml") -> dict[str, Any]:
    """Check a configuration and return it with every default filled in.

    Raises
    ------
    ConfigError
        Names the first offending key, its value and what is allowed.
    """
    cohorts = (config.get("cohorts") if isinstance(config, dict) else None) or ()
    if wrong := [name for name in cohorts if not isinstance(name, str)]:
        cause = f"the name {wrong[0]!r} of a cohort isn't text"
        raise ConfigError(f"{where}: cohorts", cause, f'write it in quotes: "{wrong[0]}"')
    for name in cohorts:
        if len(alike := [one for one in cohorts if one.lower() == name.lower()]) > 1:
            cause = f"{alike[0]} and {alike[1]} differ in upper and lower case only"
            raise ConfigError(f"{where}: cohorts", cause, "rename one of them")
    _check(config, _schema(), where)
    full = copy.deepcopy(config)
    for key, field in _schema()["properties"].items():
        if "default" in field:
            full.setdefault(key, copy.deepcopy(field["default"]))
        elif key != "cohorts":
            full[key] = defaults(key, **full.get(key, {}))
    for name, cohort in full["cohorts"].items():
        _check_source(name, cohort, where)
        for key, field in _schema()["$defs"]["cohort"]["properties"].items():
            if "default" in field:
                cohort.setdefault(key, copy.deepcopy(field["default"]))
    for name in full["cohorts"]:
        encoder_names.check(for_cohort(full, name)["features"], where)
    _check_external(full, where)
    _check_pan(full, where)
    return full


def result_settings(section: str, settings: Settings) -> Settings:
    """Return a section without keys that affect no result: those of `MANNER` and unread ones.

    Examples
    --------
    >>> result_settings("features", {"encoder": "uni", "weights": "uni.bin", "batch": 64})
    {'encoder': 'uni', 'weights': 'uni.bin'}
    """
    idle = set(RESULT_NEUTRAL.get(section, ()))
    if section == "bags":
        idle |= {"resamples", "resample_share"}  # they make separate files
    if section == "features":
        # The stage bags reads the scale; only features from files have a level.
        idle |= {"scale"} | (OF_NETWORKS if settings["encoder"] == "files" else {"path", "level"})
        # Without a value they change nothing, and a configuration of before had no such keys.
        idle |= {key for key in ("revision", "embedding") if settings.get(key) is None}
    return {key: value for key, value in settings.items() if key not in idle}


def load(path: str | Path) -> dict[str, Any]:
    """Read and validate a configuration file."""
    yaml_file.check_keys(path)
    return validate(yaml.safe_load(yaml_file.read_text(path)), str(path))


def for_cohort(config: dict[str, Any], cohort: str) -> dict[str, Any]:
    """Return a cohort's settings: the file's sections with the cohort's `settings` on top."""
    changes = config["cohorts"][cohort].get("settings", {})
    merged = {section: overlay(config[section], changes.get(section, {})) for section in SECTIONS}
    return merged | {key: changes.get(key, config[key]) for key in TOP_LEVEL_KEYS}


def _check_source(name: str, cohort: dict[str, Any], where: str) -> None:
    needs = {"sheet": ("sheet", "expression"), "her2st": ("path",), "gdc": ("project",)}
    if cohort["source"] == "gdc" and cohort.get("project", "").startswith("CPTAC"):
        needs["gdc"] = ("project", "collection")
    if "genes" in cohort and "gene_types" in cohort:
        cause = "genes and gene_types exclude each other"
        raise ConfigError(f"{where}: cohorts.{name}", cause, "keep one of the two")
    if (cohort.get("splits") == "published") != ("published_splits" in cohort):
        cause = "splits: published and published_splits go together"
        remedy = "give both, published_splits: a TSV with patient_id, fold, part; or neither"
        raise ConfigError(f"{where}: cohorts.{name}", cause, remedy)
    for key in needs.get(cohort["source"], ()):
        if key not in cohort:
            raise ConfigError(
                f"{where}: cohorts.{name}",
                f"source {cohort['source']} needs the key '{key}'",
                "add it",
            )


def _check_external(config: dict[str, Any], where: str) -> None:
    """Check that the two cohorts of each external pair share the encoder and the bag size."""
    for pair in config["external"]:
        place = f"{where}: external: {pair['train']} on {pair['test']}"
        for name in pair.values():
            if name not in config["cohorts"]:
                remedy = f"cohorts are {', '.join(config['cohorts'])}"
                raise ConfigError(place, f"there is no cohort '{name}'", remedy)
        if pair["train"] == pair["test"]:
            raise ConfigError(place, "a cohort can't be external to itself", "name another cohort")
        train, test = (for_cohort(config, pair[role]) for role in ("train", "test"))
        for section, key in (("features", "encoder"), ("features", "embedding"), ("bags", "k")):
            trained, tested = train[section][key], test[section][key]
            if trained != tested:
                cause = (
                    f"{section}.{key} is {trained} in {pair['train']} "
                    f"and {tested} in {pair['test']}"
                )
                raise ConfigError(place, cause, "give both cohorts the same")


def manifest_path(name: str, cohort: Settings) -> Path:
    """Return the path of a GDC cohort's manifest, whether or not it exists yet."""
    return Path(cohort.get("manifest") or f"manifests/{name}.tsv")


def partners(config: dict[str, Any], cohort: str) -> list[str]:
    """Return the cohorts that join a cohort's fit: its own list, or `pan` if it is in that."""
    own = config["cohorts"][cohort].get("settings", {}).get("pan")
    listed = own or (config["pan"] if own is None and cohort in config["pan"] else [])
    return [name for name in listed if name != cohort]


def _check_pan(config: dict[str, Any], where: str) -> None:
    """Check that partners exist, have the same features, and aren't tested as external."""
    for cohort in config["cohorts"]:
        for name in partners(config, cohort):
            place = f"{where}: pan of {cohort}"
            if name not in config["cohorts"]:
                raise ConfigError(
                    place, f"there is no cohort '{name}'", "name a cohort of the file"
                )
            own, other = (for_cohort(config, one)["features"] for one in (cohort, name))
            if wrong := [key for key in SAME_FEATURES if own[key] != other[key]]:
                cause = f"features.{wrong[0]} isn't that of {name}"
                raise ConfigError(place, cause, "give both the same")
            if {"train": cohort, "test": name} in config["external"]:
                cause = f"{name} is tested as external to {cohort}, so it can't be its partner"
                raise ConfigError(place, cause, "remove the pair or the partner")


def _check(value: Any, schema: dict[str, Any], where: str) -> None:
    validator = Draft202012Validator(schema | {"$defs": _schema()["$defs"]})
    errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
    if not errors:
        return
    error = errors[0]
    key = ".".join(map(str, error.path)) or "the top level"
    place = f"{where}: {key}"
    if error.validator == "additionalProperties":
        keys = sorted(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in keys)
        near = difflib.get_close_matches(str(unknown), keys, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed are {', '.join(keys)}"
        raise ConfigError(place, f"unknown key '{unknown}'", hint)
    cause = f"{json.dumps(error.instance, default=str)[:80]} is not allowed"
    if error.validator == "type" and EXPONENT.fullmatch(str(error.instance)):
        number = float(error.instance)
        cause = f"YAML reads {error.instance} as text, since it has no decimal point"
        raise ConfigError(place, cause, f"write {number:.1e} or {number:g}")
    allowed = {
        "enum": lambda: f"allowed are {', '.join(map(str, error.validator_value))}",
        "type": lambda: f"it must be of type {error.validator_value}",
        "required": lambda: f"add the key: {error.message}",
    }.get(error.validator, lambda: error.message.replace("\n", " ")[:160])
    raise ConfigError(place, cause, allowed())
