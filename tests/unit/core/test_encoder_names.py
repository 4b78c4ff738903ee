"""Names of encoders in paths, and the values that belong to one of several encoders."""

from __future__ import annotations

from typing import Any

import pytest
from slide2rna.core import config, encoder_names
from slide2rna.core.errors import ConfigError


def features(**changes: Any) -> Any:
    return config.defaults("features", **changes)


def test_names_in_paths() -> None:
    assert encoder_names.slug("/data/c5.go.mf.gmt") == "c5-go-mf"
    assert encoder_names.label(features(encoder="resnet50.a1_in1k")) == "resnet50-a1-in1k"
    assert encoder_names.label(features(encoder="hf-hub:Lab/Net")) == "hf-hub-lab-net"
    assert encoder_names.label(features(encoder=["uni2", "virchow2"])) == "uni2-virchow2"
    assert encoder_names.title(features(encoder="resnet50.a1_in1k")) == "resnet50.a1_in1k"
    assert encoder_names.title(features(encoder=["uni2", "virchow2"])) == "uni2-virchow2"


def test_values_of_one_encoder() -> None:
    whole = features(encoder=["uni2", "lite0"], weights={"uni2": "a.bin"}, embedding="cls")
    found = [encoder_names.of_one(whole, name) for name in ("uni2", "lite0")]
    assert [one["weights"] for one in found] == ["a.bin", None]
    assert [one["embedding"] for one in found] == ["cls", "cls"]
    assert [one["encoder"] for one in found] == ["uni2", "lite0"]
    plain = encoder_names.of_one(features(encoder="uni", weights="a.bin", revision="main"), "uni")
    assert (plain["weights"], plain["revision"]) == ("a.bin", "main")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": ["uni2", "lite0"], "weights": "a.bin"}, r"weights: one value for 2"),
        ({"encoder": ["uni2", "lite0"], "revision": {"uni": "main"}}, "uni isn't an encoder"),
        ({"encoder": ["uni2", "files"]}, "not allowed"),
        ({"encoder": ["uni2"]}, "not allowed"),
        ({"encoder": "virchow", "embedding": "mean"}, "not allowed"),
    ],
)
def test_values_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    cohorts = {"mine": {"source": "demo"}}
    with pytest.raises(ConfigError, match=message):
        config.validate({"cohorts": cohorts, "features": changes})


def test_a_cohorts_own_values_replace_those_of_the_file() -> None:
    own = {"features": {"weights": {"uni2": "b.bin"}, "revision": {"uni2": "main"}}}
    block = {"source": "demo", "settings": own}
    shared = {"encoder": ["uni2", "lite0"], "weights": {"uni2": "a.bin"}}
    full = config.validate({"cohorts": {"mine": block}, "features": shared})
    found = config.for_cohort(full, "mine")["features"]
    assert (found["weights"], found["revision"]) == ({"uni2": "b.bin"}, {"uni2": "main"})


def test_keys_without_a_value_leave_finished_features_valid() -> None:
    """Their params are those of a configuration that lacks the keys."""
    plain = config.result_settings("features", features(encoder="uni"))
    assert not {"revision", "embedding"} & plain.keys()
    own = config.result_settings("features", features(encoder="uni", revision="main"))
    assert own == plain | {"revision": "main"}


def test_files_of_a_command_line() -> None:
    assert encoder_names.weights_option([]) is None
    assert encoder_names.weights_option(["uni.bin"]) == "uni.bin"
    named = encoder_names.weights_option(["uni2=a.bin", "virchow2=b.bin"])
    assert named == {"uni2": "a.bin", "virchow2": "b.bin"}
    with pytest.raises(ConfigError, match="NAME=FILE"):
        encoder_names.weights_option(["a.bin", "b.bin"])
