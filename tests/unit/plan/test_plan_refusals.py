"""Configurations that can't be planned: one line each, with the place and the remedy."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from plans import COLOR, DEMO, FILES, at, many, plan
from slide2rna.core.errors import ConfigError
from slide2rna.plan.plan import Plan
from slide2rna.plan.targets import Targets

SLIDES = "no slides to read again; it needs keep_slides: true and an encoder of tiles"
TWICE = {"variants": [{"solver": "euler", "steps": 3}] * 2}
LONE = {"variants": [{"solver": "heun", "steps": 2}], "reference": "heun-2", "one_step": False}
NAMESAKE = {"mf": {"pathways": {"source": "b/own.gmt"}}}


@pytest.mark.parametrize(
    ("settings", "block", "line"),
    [
        (
            {"extras": ["samplers"], "models": ["abmil"]},
            {},
            "extras of mine: samplers: its first model isn't the flow; put flow first in models",
        ),
        (
            {"extras": ["ablations"]},
            {},
            "extras of mine: ablations: there are none; name some",
        ),
        (
            {
                "extras": ["ablations"],
                "ablations": COLOR,
            },
            {"keep_slides": False},
            "extras of mine: ablations: there are none; name some",
        ),
        ({"extras": ["stain"], "features": FILES}, {}, f"extras of mine: stain: {SLIDES}"),
        ({"extras": ["stain"]}, {"keep_slides": False}, f"extras of mine: stain: {SLIDES}"),
        (
            {"search": 4},
            {},
            "search: 4: flow has 3 configurations; lower it, or add to the model's own list search",
        ),
        (
            {"bags": {"resamples": 3}, "features": FILES | {"level": "slide"}},
            {},
            "bags.resamples: 3: features.level slide has one vector for each slide, and no tiles "
            "to draw; leave it at 0",
        ),
        ({"samplers": TWICE}, {}, "samplers.variants: euler-3 is there twice; keep one"),
        (
            {"samplers": LONE},
            {},
            "samplers: there is the reference alone; add a variant, or one_step",
        ),
        (
            {"pathways": {"source": "a/own.gmt"}, "ablations": NAMESAKE},
            {},
            "ablation mf: its pathways would be named 'own', as another's are; give its file or "
            "encoder another name, or change one more key of it",
        ),
        (
            {"bags": {"kk": 3}},
            {},
            "config.yaml: cohorts.mine.settings.bags: unknown key 'kk'; did you mean 'k'?",
        ),
    ],
)
def test_a_cohort_that_cannot_be_planned(settings: dict, block: dict, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        plan(settings, **block)


def test_targets_that_no_cohort_has() -> None:
    with pytest.raises(ConfigError, match=f"^stain: {SLIDES}$"):
        Targets(plan(keep_slides=False)).stain(at(""))
    line = "external: config.yaml names no pair; add one: external: [{train: A, test: B}]"
    with pytest.raises(ConfigError, match=re.escape(line)):
        Targets(plan()).external(at(""))


def test_a_cohort_cannot_have_a_rules_name() -> None:
    made = many()
    made.check_names(["train", "all"])
    line = "config.yaml: cohorts.A: a rule has this name; choose another"
    with pytest.raises(ConfigError, match=re.escape(line)):
        made.check_names(["train", "B", "A"])


def test_an_error_names_the_files_that_it_may_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "config.yaml"):
        Path(name).write_text("seed: 1\n")
    files = [tmp_path / "mine.yaml", tmp_path / "config.yaml", tmp_path / "mine.yaml"]
    wrong = {"cohorts": {"mine": {"source": "demoo"}}}
    with pytest.raises(ConfigError, match=r"^config\.yaml \+ mine\.yaml: cohorts\.mine\.source"):
        Plan.of(wrong, files)
    Path("mine.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match="the key 'seed'"):
        Plan.of(DEMO, files)


def test_a_plan_leaves_snakemakes_configuration_alone() -> None:
    config = {"cohorts": {"law": {"source": "law", "settings": {"features": {"encoder": "files"}}}}}
    before = json.dumps(config)
    Plan.of(config)
    assert json.dumps(config) == before


def test_the_snakefile_asks_for_the_snakemake_of_pyproject(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    (needed,) = (text for text in project["dependencies"] if text.startswith("snakemake>"))
    asked = re.findall(r'^min_version\("(.+)"\)$', (repo / "workflow/Snakefile").read_text(), re.M)
    assert [needed] == [f"snakemake>={version},<10" for version in asked]
