"""The schema against good and bad configurations: one line with the key, the value, the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from slide2rna.core import config
from slide2rna.core.errors import ConfigError

DEMO = {"cohorts": {"demo": {"source": "demo"}}}


def test_the_schema_is_a_schema(repo: Path) -> None:
    for path in sorted((repo / "workflow" / "schemas").glob("*.yaml")):
        Draft202012Validator.check_schema(yaml.safe_load(path.read_text()))


def test_shipped_configurations_are_valid(repo: Path) -> None:
    for path in [repo / "config.yaml", *sorted((repo / "tests" / "config").glob("*.yaml"))]:
        assert config.load(path)["cohorts"]


def test_defaults_fill_everything_and_pass_their_own_schema() -> None:
    full = config.validate(DEMO)
    assert full["seed"] == 1
    assert full["cohorts"]["demo"]["shards"] == 1
    for section in config.SECTIONS:
        assert full[section] == config.defaults(section)
        assert all(key in full[section] for key in config._schema()["$defs"][section]["properties"])
    assert config.validate(full) == full


def test_every_key_is_described() -> None:
    schema = config._schema()
    for section in (*config.SECTIONS, "cohort"):
        for key, field in schema["$defs"][section]["properties"].items():
            assert field.get("description"), f"{section}.{key}"
            for name, inner in field.get("properties", {}).items():
                place = f"{section}.{key}.{name}"
                assert section == "cohort" or "default" in inner, place
                assert section == "cohort" or inner.get("description"), place


def test_a_models_settings_are_filled_and_lie_over_each_other_key_by_key() -> None:
    block = {"source": "demo", "settings": {"baselines": {"abmil": {"dropout": 0.1}}}}
    given = {"abmil": {"hidden": 64, "search": [{"dropout": 0.5}]}}
    full = config.validate({"cohorts": {"demo": block}, "baselines": given})
    plain = config.defaults("baselines")
    assert full["baselines"] == plain | {"abmil": plain["abmil"] | given["abmil"]}
    assert list(full["baselines"]) == list(plain)
    assert block["settings"] == {"baselines": {"abmil": {"dropout": 0.1}}}
    own = config.for_cohort(full, "demo")["baselines"]
    assert own["abmil"] == plain["abmil"] | given["abmil"] | {"dropout": 0.1}
    assert own["sequoia"] == plain["sequoia"]
    text = json.dumps({"abmil": {"hidden": 64}})
    assert config.parse_settings("baselines", text) == config.defaults(
        "baselines", abmil={"hidden": 64}
    )
    assert config.defaults("baselines", abmil={"hidden": 64})["abmil"]["attention"] == 128


@pytest.mark.parametrize("name", config.defaults("baselines"))
def test_configurations_to_search_are_valid_and_differ(name: str) -> None:
    settings = config.defaults("baselines")[name]
    tried = [settings | changes for changes in ({}, *settings["search"])]
    for one in tried:
        config.defaults("baselines", **{name: one})
    assert len({json.dumps(one, sort_keys=True) for one in tried}) == 3


def test_a_cohorts_own_settings_go_on_top() -> None:
    block = {"source": "demo", "settings": {"bags": {"k": 8}, "max_failed_slides": 2}}
    full = config.validate({"cohorts": {"demo": block}, "bags": {"iterations": 9}})
    own = config.for_cohort(full, "demo")
    assert (own["bags"]["k"], own["bags"]["iterations"], own["max_failed_slides"]) == (8, 9, 2)
    assert config.for_cohort(config.validate(DEMO), "demo")["max_failed_slides"] == 0


def changed(**top: Any) -> dict[str, Any]:
    return DEMO | top


def with_cohort(**block: Any) -> dict[str, Any]:
    return {"cohorts": {"mine": block}}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (changed(sed=1), ["unknown key 'sed'", "did you mean 'seed'"]),
        (changed(frobnicate=1), ["unknown key 'frobnicate'", "allowed are"]),
        (changed(seed="one"), ["seed", '"one"', "type integer"]),
        (changed(seed=-1), ["seed", "-1", "minimum"]),
        (changed(device="gpu"), ["device", '"gpu"', "auto, cpu, cuda"]),
        (changed(bags={"K": 5}), ["bags", "unknown key 'K'"]),
        (changed(bags={"k": 0}), ["bags.k", "0"]),
        (changed(bags=[]), ["bags", "type object"]),
        (changed(tiles={"mpp": 0}), ["tiles.mpp"]),
        (changed(folds={"n": 0}), ["folds.n"]),
        (changed(folds={"val_share": 1}), ["folds.val_share"]),
        (
            changed(baselines={"abmil": {"hiden": 5}}),
            ["baselines.abmil", "unknown key 'hiden'", "did you mean 'hidden'"],
        ),
        (changed(baselines={"abmill": {}}), ["baselines", "unknown key 'abmill'", "'abmil'"]),
        (changed(baselines={"abmil": 3}), ["baselines.abmil", "3", "type object"]),
        (changed(baselines={"abmil": {"hidden": 0}}), ["baselines.abmil.hidden", "0"]),
        (
            changed(baselines={"sequoia": {"search": [{}, {"rate": 1}]}}),
            ["baselines.sequoia.search.0", "{}"],
        ),
        (
            changed(baselines={"sequoia": {"search": [{"epoch": 1}]}}),
            ["baselines.sequoia.search.0", "unknown key 'epoch'", "'epochs'"],
        ),
        (
            changed(baselines={"sequoia": {"search": [{"search": []}]}}),
            ["baselines.sequoia.search.0", '"search" is not allowed'],
        ),
        (
            with_cohort(source="demo", settings={"baselines": {"he2rna": {"ks": [0]}}}),
            ["cohorts.mine.settings.baselines.he2rna.ks.0", "0"],
        ),
        ({}, ["cohorts"]),
        ({"cohorts": {}}, ["cohorts"]),
        ({"cohorts": {"a b": {"source": "demo"}}}, ["a b"]),
        ({"cohorts": {"../x": {"source": "demo"}}}, ["../x"]),
        (with_cohort(source="tcga"), ["cohorts.mine.source", '"tcga"', "sheet"]),
        (with_cohort(sheet="a"), ["cohorts.mine", "source"]),
        (with_cohort(source="sheet", sheet="a"), ["cohorts.mine", "'expression'"]),
        (with_cohort(source="her2st"), ["cohorts.mine", "'path'"]),
        (with_cohort(source="demo", shard=1), ["unknown key 'shard'", "'shards'"]),
        (with_cohort(source="demo", shards=0), ["cohorts.mine.shards"]),
        (with_cohort(source="demo", settings={"bags": {"q": 1}}), ["cohorts.mine.settings.bags"]),
        (with_cohort(source="demo", split_unit="slide"), ["split_unit", "patient, section"]),
        (with_cohort(source="demo", expression_unit="log"), ["expression_unit", "log2"]),
    ],
)
def test_bad_configurations(bad: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.validate(bad)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["cohorts: [", "- a\n- b\n", "just text", ""])
def test_bad_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "b: 1\na:\n  - c: {d: 1, d: 2}\n"])
def test_a_key_that_is_there_twice(tmp_path: Path, text: str) -> None:
    """The reader would keep the last one: of two blocks `cohorts`, the first would be lost."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml line 3: .*'[ad]'.*twice"):
        config.load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        config.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("section", config.SECTIONS)
def test_settings_of_a_command_line(section: str) -> None:
    assert config.parse_settings(section, "{}") == config.defaults(section)
    for bad in ("{", "[]", '{"nope": 1}'):
        with pytest.raises(ConfigError):
            config.parse_settings(section, bad)


def test_defaults_are_copies() -> None:
    first = config.defaults("bags", k=3)
    first["k"] = 99
    assert config.defaults("bags")["k"] != 99
    assert json.loads(json.dumps(config.defaults("bags"))) == config.defaults("bags")
