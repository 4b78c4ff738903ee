"""Troubles with encoders and their weights, provoked to see what is printed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from provoked_slides import trouble
from slide2rna.core import config
from slide2rna.features import (
    encoder_specs,
    encoder_weights,
    lite0,
    lite0_weights,
    networks,
    registry,
    weights_record,
)

REPO = Path(__file__).resolve().parents[2]


@trouble
def encoder_by_another_tools_name() -> None:
    registry.load(config.defaults("features", encoder="uni_v1"))


@trouble
def package_of_an_encoder_is_missing() -> None:
    Path("conch.bin").touch()
    with mock.patch.dict("sys.modules", {"conch": None}):
        registry.load(config.defaults("features", encoder="conch", weights="conch.bin"))


@trouble
def no_commit_for_code_of_a_repository() -> None:
    registry.load(config.defaults("features", encoder="hibou-b"))


@trouble
def encoder_without_a_loader() -> None:
    registry.load(config.defaults("features", encoder="ctranspath"))


@trouble
def no_class_token() -> None:
    networks.build(encoder_specs.find("resnet18"), "cls")


@trouble
def one_file_for_two_encoders() -> None:
    features = {"encoder": ["uni2", "virchow2"], "weights": "uni2.bin"}
    config.validate({"cohorts": {"mine": {"source": "demo"}}, "features": features})


@trouble
def tiles_of_another_encoder() -> None:
    settings, tiles = config.defaults("features", encoder="virchow2"), config.defaults("tiles")
    with mock.patch.multiple(weights_record, registry=mock.Mock(), record=mock.Mock()):
        weights_record.load(settings, tiles, Path("features"))


@trouble
def weights_on_the_hub_changed() -> None:
    settings = config.defaults("features", encoder="uni")
    for digest in ("aa", "bb"):
        weights = encoder_weights.WeightsFile(Path("w"), digest, "MahmoodLab/UNI", "77bdaedc")
        encoder = SimpleNamespace(name="uni", identity=f"uni {digest}", weights=weights)
        weights_record.record(encoder, settings, Path("features"))  # type: ignore[arg-type]


@trouble
def unknown_encoder() -> None:
    registry.load(config.defaults("features", encoder="unni"))


@trouble
def gated_weights() -> None:
    import huggingface_hub.constants

    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        registry.load(config.defaults("features", encoder="uni"))
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


@trouble
def weights_that_pip_cannot_fetch() -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    with (
        mock.patch.object(lite0, "find_spec", return_value=None),
        mock.patch.dict(os.environ, offline),
    ):
        lite0_weights.write(Path("lite0.pth"))


@trouble
def weights_of_another_network() -> None:
    torch.save({"conv.weight": torch.ones(3)}, "uni.bin")
    registry.load(config.defaults("features", encoder="resnet18", weights="uni.bin"))
