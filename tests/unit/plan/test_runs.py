"""Runs of a cohort: names, seeds, further configurations, and what an ablation changes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from slide2rna.core import config
from slide2rna.core.errors import ConfigError
from slide2rna.models import registry
from slide2rna.plan import runs


def plan(**settings: Any) -> dict[str, Any]:
    return config.validate({"cohorts": {"mine": {"source": "demo", "settings": settings}}})


def test_models_and_seeds() -> None:
    found = runs.model_runs(plan(models=["abmil", "flow"], seeds=2), "mine")
    assert [run.name for run in found] == [
        *("lite0-abmil-go-bp", "lite0-flow-go-bp"),
        *("lite0-abmil.seed-2-go-bp", "lite0-flow.seed-2-go-bp"),
    ]
    assert [run.seed for run in found] == [1, 1, 2, 2]
    assert [run.trained_run for run in found] == [run.name for run in found]
    assert found[0].network()["attention"] == 128
    assert found[1].network()["blocks"] == 7


def test_search_takes_the_first_of_the_models_own_list() -> None:
    found = runs.model_runs(plan(models=["flow", "abmil"], search=2), "mine")
    assert [run.search() for run in found] == [
        [{"learning_rate": 0.0003}],
        [{"learning_rate": 0.001, "cluster_weights": True}],
    ]
    assert [run.search() for run in runs.model_runs(plan(), "mine")] == [[]]
    with pytest.raises(ConfigError, match=r"search: 4: flow .*3 configurations"):
        runs.model_runs(plan(search=4), "mine")[0].search()


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
    base = runs.model_runs(own, "mine")[0]
    found = runs.ablations(own, "mine")
    assert {name: run.name for name, run in found.items()} == {
        "no-graph": "files-flow.no-graph-go-bp",
        "go-mf": "files-flow.go-mf-go-mf",
        "small-sets": "files-flow.small-sets-go-bp.small-sets",
        "guidance-2": "files-flow.guidance-2-go-bp",
        "color": "color-flow.color-go-bp",
    }
    trained = {name: run.trained_run for name, run in found.items()}
    assert trained.pop("guidance-2") == base.name
    assert all(trained[name] == found[name].name for name in trained)
    graph = found["no-graph"].settings
    assert graph["model"] == base.settings["model"] | {"graph": False}
    assert graph["train"] == base.settings["train"]
    # Another encoder takes neither the files nor the weights of the first.
    assert found["color"].settings["features"]["path"] is None
    assert found["go-mf"].settings["pathways"]["max_genes"] == 500


def test_a_search_leaves_alone_what_an_ablation_sets() -> None:
    variants = {
        "fast": {"train": {"learning_rate": 0.002}},
        "clipped": {"train": {"clip": 2.0}},
    }
    search = [{"learning_rate": 0.01}, {"learning_rate": 0.02, "weight_decay": 0.1}]
    own = plan(ablations=variants, search=3, train={"search": search})
    found = runs.ablations(own, "mine")
    assert found["fast"].search() == [{"weight_decay": 0.1}]
    assert found["clipped"].search() == search


def test_ablations_of_a_network_without_gene_sets() -> None:
    """What it doesn't read would train the same network again and find no difference."""
    variants = {
        "no-graph": {"model": {"graph": False}},
        "guidance-2": {"sample": {"guidance": 2}},
        "color": {"features": {"encoder": "color"}, "model": {"graph": False}},
        "wide": {"baselines": {"abmil": {"hidden": 1024}}},
        "dropped": None,
    }
    found = runs.ablations(plan(models=["abmil"], ablations=variants), "mine")
    assert list(found) == ["color", "wide"]
    assert found["color"].settings["model"]["graph"] is True
    assert found["wide"].network()["hidden"] == 1024
    assert found["wide"].network()["attention"] == 128


def test_different_files_cannot_share_a_name() -> None:
    variants = {"mf": {"pathways": {"source": "other/c5.go.v1.gmt"}}}
    own = plan(pathways={"source": "c5.go.v1.gmt"}, ablations=variants)
    every = [*runs.model_runs(own, "mine"), *runs.ablations(own, "mine").values()]
    with pytest.raises(ConfigError, match=r"ablation mf: .*'c5-go-v1'"):
        runs.settings_by_name(every, "pathways", "pathways")
    own = plan(pathways={"source": "c5.go.bp.gmt"}, ablations=variants)
    every = [*runs.model_runs(own, "mine"), *runs.ablations(own, "mine").values()]
    assert set(runs.settings_by_name(every, "pathways", "pathways")) == {"c5-go-bp", "c5-go-v1"}


@pytest.mark.parametrize("key", ["interpolant", "val_noise", "search"])
def test_settings_that_change_the_loss_cannot_be_searched(key: str) -> None:
    value = {"interpolant": "logistic", "val_noise": 3, "search": []}[key]
    with pytest.raises(ConfigError, match=key):
        plan(train={"search": [{key: value}]})


def test_the_schema_names_the_models_of_the_registries() -> None:
    found = plan()
    assert found["leak_audit"]["models"] == ["memoriser", "ridge", "abmil"]
    networks = {"flow", *registry.NETWORKS}
    schema = yaml.safe_load(config.SCHEMA.read_text())["$defs"]
    assert set(schema["models"]["items"]["enum"]) == networks
    audited = schema["leak_audit"]["properties"]["models"]["items"]["enum"]
    assert set(audited) == {*networks, *registry.CLOSED_FORM}
    assert set(config.defaults("baselines")) == set(registry.NETWORKS)


def test_an_ablation_cannot_look_like_a_repeat() -> None:
    with pytest.raises(ConfigError, match="seed-2"):
        plan(ablations={"seed-2": {"train": {"clip": 2}}})


@pytest.mark.parametrize(
    ("name", "model", "key", "value"),
    [("flow", '{"hidden": 64}', "hidden", 64), ("abmil", '{"hidden": 32}', "hidden", 32)],
)
def test_training_settings_of_a_command_line(name: str, model: str, key: str, value: int) -> None:
    found = config.parse_training(name, model, '{"clip": 0.5}')
    assert found["name"] == name
    assert found["model"][key] == value
    assert found["train"]["clip"] == 0.5
    assert "search" not in found["train"]
    assert "search" not in found["model"]
    rate = config.defaults("train" if name == "flow" else "baselines")
    rate = rate if name == "flow" else rate[name]
    assert found["train"]["learning_rate"] == rate["learning_rate"]


def test_unknown_network() -> None:
    with pytest.raises(ConfigError, match="flow, he2rna"):
        config.parse_training("forest", "{}", "{}")


def test_several_encoders_share_one_name_and_one_list_of_files() -> None:
    """The name is that of the paths; lite0's weights join those of the configuration."""
    features = {"encoder": ["uni2", "lite0"], "weights": {"uni2": "uni2.bin"}}
    own = plan(features=features, ablations={"one": {"features": {"encoder": "uni2"}}})
    assert runs.model_runs(own, "mine")[0].encoder == "uni2-lite0"
    changed = runs.ablations(own, "mine")["one"]
    assert changed.encoder == "uni2"
    assert changed.settings["features"]["weights"] is None
