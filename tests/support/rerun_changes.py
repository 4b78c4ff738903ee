"""Two finished configurations, and for every key of the schema another value of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml
from slide2rna.core import config

Config = dict[str, Any]

# Everything that a run can be asked for, of one cohort; the other is there for `external`.
ABLATIONS = {
    "no-graph": {"group": "graph", "model": {"graph": False}},
    "guided": {"group": "guidance", "sample": {"guidance": 2}},
}
LEAN = {"models": ["flow"], "extras": [], "ablations": dict.fromkeys(ABLATIONS)}
SECTIONS: Config = {
    "models": ["flow", "abmil"],
    "extras": ["ablations", "leak_audit", "samplers", "stain"],
    "ablations": ABLATIONS,
    "folds": {"n": 2},
    "external": [{"train": "own", "test": "other"}],
    "cohorts": {
        "own": {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv", "shards": 2},
        "other": {"source": "sheet", "sheet": "b.tsv", "expression": "b.csv", "settings": LEAN},
    },
}
# A cohort of each kind, for the keys that say where it is from.
PUBLISHED = {"splits": "published", "published_splits": "a.tsv"}
SHEET = {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv"}
SOURCES: Config = {
    "folds": {"n": 2},
    "cohorts": {
        "own": SHEET | {"shards": 2},
        "published": SHEET | PUBLISHED,
        "TCGA": {"source": "gdc", "project": "TCGA-LUAD", "shards": 2},
        "CPTAC": {
            **{"source": "gdc", "project": "CPTAC-3", "collection": "CPTAC-LUAD"},
            "pathdb_table": "a.csv",
        },
        "her2st": {"source": "her2st", "path": "a"},
    },
}
FILES = ("a.tsv", "b.tsv", "c.tsv", "a.csv", "b.csv", "c.csv", "own.pth")
TARGETS = ("all", "export")
# Which cohort of `SOURCES` has a key of `cohorts`; the others are the sheet's.
OWNERS = {
    **dict.fromkeys(("published_splits",), "published"),
    **dict.fromkeys(("project", "manifest", "slide_list", "slide_kind", "sample_types"), "TCGA"),
    **dict.fromkeys(("api", "downloads", "token_file"), "TCGA"),
    **dict.fromkeys(("collection", "pathdb", "pathdb_table"), "CPTAC"),
    "path": "her2st",
}
# Where a value of the same type wouldn't do.
VALUES: Config = {
    "device": "cpu",
    "models": ["flow", "he2rna"],
    "extras": ["ablations", "leak_audit", "samplers"],
    "external": [],
    "start": "model",
    "features.encoder": "color",
    "features.weights": "own.pth",
    "features.revision": "main",
    "features.embedding": "cls",
    "features.path": "own",
    "pathways.source": "go-mf",
    "pathways.max_sets": 50,
    "train.search": [{"learning_rate": 0.1}],
    "baselines.he2rna.layers": [8],
    "baselines.sequoia.width": 64,
    "evaluate.top": [10],
    "evaluate.levels": [0.5],
    "leak_audit.models": ["ridge", "abmil"],
    "samplers.variants": [
        {"solver": "exponential", "steps": 20},
        {"solver": "exponential", "steps": 8},
    ],
    "samplers.reference": "exponential-8",
    "cohorts.source": "demo",
    "cohorts.sheet": "c.tsv",
    "cohorts.expression": "c.csv",
    "cohorts.splits": "c.tsv",
    "cohorts.published_splits": "c.tsv",
    "cohorts.genes": "c.csv",
    "cohorts.gene_types": ["protein_coding"],
    "cohorts.genes_mirror": "c.csv",
    "cohorts.project": "TCGA-LUSC",
    "cohorts.collection": "CPTAC-LSCC",
    "cohorts.manifest": "frozen.tsv",
    "cohorts.slide_list": "c.tsv",
    "cohorts.sample_types": ["02"],
    "cohorts.api": "https://mirror.example.org",
    "cohorts.pathdb": "https://mirror.example.org",
    "cohorts.pathdb_table": "c.csv",
    "cohorts.token_file": "token.txt",
    "cohorts.path": "b",
}


def _schema() -> Config:
    return yaml.safe_load(config.SCHEMA.read_text(encoding="utf-8"))


def _leaves(field: Config, schema: Config, path: str) -> Iterator[tuple[str, Config]]:
    """Every key below a field with what the schema says of it."""
    if "$ref" in field:
        own = {key: value for key, value in field.items() if key != "$ref"}
        field = schema["$defs"][field["$ref"].removeprefix("#/$defs/")] | own
    if "properties" in field:
        for name, inner in field["properties"].items():
            yield from _leaves(inner, schema, f"{path}.{name}" if path else name)
    else:
        yield path, field


def all_keys() -> dict[str, Config]:
    """All keys, those of a cohort as `cohorts.<key>`; `settings` repeats the sections."""
    schema = _schema()
    found = dict(_leaves({"properties": schema["properties"]}, schema, ""))
    cohort = schema["$defs"]["cohort"]["properties"]
    del found["cohorts"]
    for name, field in cohort.items():
        if name != "settings":
            found[f"cohorts.{name}"] = field
    return found


def _another(path: str, field: Config, now: Any) -> Any:
    """A value that the schema allows and that isn't the present one."""
    if path in VALUES:
        return VALUES[path]
    if "enum" in field:
        return next(value for value in field["enum"] if value != now)
    if isinstance(now, bool):
        return not now
    if isinstance(now, int) and "integer" in field["type"]:
        return now + 1 if now < field.get("maximum", now + 1) else now - 1
    if isinstance(now, int | float):
        return now * 0.9 if now else 0.1
    if isinstance(now, list) and path.endswith(".search"):
        return now[:1]
    if isinstance(now, list):
        return now[:-1]
    if isinstance(now, str):
        return f"{now}-2"
    raise ValueError(f"{path}: give another value in VALUES")


def owner(key: str) -> str | None:
    """The cohort of `SOURCES` whose key is changed; None for a key that all cohorts have."""
    if not key.startswith("cohorts."):
        return None
    part = key.split(".")[1]
    return part.strip("<>") if part.startswith("<") else OWNERS.get(part, "own")


def changes() -> Iterator[tuple[str, Config, Config]]:
    """Key, the finished configuration, and the same with another value of the key."""
    whole = {id(base): config.validate(copy.deepcopy(base)) for base in (SECTIONS, SOURCES)}
    for path, field in all_keys().items():
        base = SOURCES if path.startswith("cohorts.") else SECTIONS
        *above, last = path.split(".")
        if cohort := owner(path):
            above = ["cohorts", cohort]
        now: Any = whole[id(base)]
        changed = copy.deepcopy(base)
        place = changed
        for name in above:
            now, place = now[name], place.setdefault(name, {})
        if path in ("ablations", "pan"):
            continue
        value = _another(path, field, now.get(last))
        assert value != now.get(last), path
        place[last] = value
        yield path, base, changed
    for path, value in {
        "ablations.<name>.<section>": {"no-graph": {"model": {"blocks": 3}}},
        "ablations.<name>.sample": {"guided": {"sample": {"guidance": 3}}},
        "ablations.<name>.group": {"no-graph": {"group": "tokens"}},
    }.items():
        yield path, SECTIONS, SECTIONS | {"ablations": config.overlay(ABLATIONS, value)}
    yield "pan", SOURCES, SOURCES | {"pan": ["own", "published"]}
    published = copy.deepcopy(SOURCES)
    published["cohorts"]["published"]["settings"] = {"folds": {"val_share": 0.2}}
    yield "cohorts.<published>.settings.folds", SOURCES, published
