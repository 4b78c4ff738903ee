"""Runs of a cohort: names, seeds, further configurations, and what an ablation changes."""

from __future__ import annotations

from typing import Any

import pytest
from slide2rna import config, runs
from slide2rna.errors import ConfigError


def plan(**settings: Any) -> dict[str, Any]:
    return config.validate({"cohorts": {"mine": {"source": "demo", "settings": settings}}})


def test_models_and_seeds() -> None:
    found = runs.compared(plan(models=["abmil", "flow"], seeds=2), "mine")
    assert [run.name for run in found] == [
        *("lite0-abmil-go-bp", "lite0-flow-go-bp"),
        *("lite0-abmil.seed-2-go-bp", "lite0-flow.seed-2-go-bp"),
    ]
    assert [run.seed for run in found] == [1, 1, 2, 2]
    assert [run.trained for run in found] == [run.name for run in found]
    assert found[0].network()["attention"] == 128
    assert found[1].network()["blocks"] == 7


def test_search_takes_the_first_of_the_models_own_list() -> None:
    found = runs.compared(plan(models=["flow", "abmil"], search=2), "mine")
    assert [run.search() for run in found] == [
        [{"learning_rate": 0.0003}],
        [{"learning_rate": 0.001, "cluster_weights": True}],
    ]
    assert [run.search() for run in runs.compared(plan(), "mine")] == [[]]
    with pytest.raises(ConfigError, match=r"search: 4: flow has 3 configurations; lower it"):
        runs.compared(plan(search=4), "mine")[0].search()


def test_ablations_change_what_they_say_and_share_the_rest() -> None:
    variants = {
        "no-graph": {"group": "graph", "model": {"graph": False}},
        "go-mf": {"pathways": {"source": "go-mf"}},
        "small-sets": {"pathways": {"max_genes": 50}},
        "guidance-2": {"sample": {"guidance": 2}},
        "color": {"features": {"encoder": "color"}},
        "nothing": {},
    }
    own = plan(ablations=variants, features={"encoder": "files", "path": "here"})
    base = runs.compared(own, "mine")[0]
    found = runs.ablations(own, "mine")
    assert {name: run.name for name, run in found.items()} == {
        "no-graph": "files-flow.no-graph-go-bp",
        "go-mf": "files-flow.go-mf-go-mf",
        "small-sets": "files-flow.small-sets-go-bp.small-sets",
        "guidance-2": "files-flow.guidance-2-go-bp",
        "color": "color-flow.color-go-bp",
        "nothing": "files-flow.nothing-go-bp",
    }
    trained = {name: run.trained for name, run in found.items()}
    assert trained.pop("guidance-2") == base.name
    assert all(trained[name] == found[name].name for name in trained)
    graph = found["no-graph"].settings
    assert graph["model"] == base.settings["model"] | {"graph": False}
    assert graph["train"] == base.settings["train"]
    # Another encoder takes neither the files nor the weights of the first.
    assert found["color"].settings["features"]["path"] is None
    assert found["go-mf"].settings["pathways"]["max_genes"] == 500


def test_an_ablation_cannot_look_like_a_repeat() -> None:
    with pytest.raises(ConfigError, match="seed-2"):
        plan(ablations={"seed-2": {"train": {"clip": 2}}})


@pytest.mark.parametrize(
    ("name", "model", "key", "value"),
    [("flow", '{"hidden": 64}', "hidden", 64), ("abmil", '{"hidden": 32}', "hidden", 32)],
)
def test_training_settings_of_a_command_line(name: str, model: str, key: str, value: int) -> None:
    found = config.training(name, model, '{"clip": 0.5}')
    assert found["name"] == name
    assert found["model"][key] == value
    assert found["train"]["clip"] == 0.5
    assert "search" not in found["train"]
    assert "search" not in found["model"]
    rate = config.defaults("train" if name == "flow" else "baselines")
    rate = rate if name == "flow" else rate[name]
    assert found["train"]["learning_rate"] == rate["learning_rate"]


def test_unknown_network() -> None:
    with pytest.raises(ConfigError, match="no such network; use flow, he2rna"):
        config.training("forest", "{}", "{}")
