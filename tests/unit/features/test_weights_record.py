"""Weights of the hub: their commit and digest are recorded, taken again and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from slide2rna.core import config, files
from slide2rna.core.errors import WeightsError
from slide2rna.features import encoder_specs, encoder_weights, registry, weights_record
from slide2rna.features.torchvision_fix import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402

NAME = "resnet10t"  # timm's smallest network with weights on the hub
SETTINGS = config.defaults("features", encoder=NAME)
FIRST, SECOND = "a" * 40, "b" * 40


class Hub:
    """Stand-in for the hub: a folder per commit, as in the library's cache, and the newest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.main = folder, FIRST
        self.asked: list[tuple[str, str | None]] = []

    def commit(self, name: str, seed: int) -> None:
        torch.manual_seed(seed)
        path = self.folder / "snapshots" / name / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(timm.create_model(NAME, num_classes=0).state_dict(), path)
        self.main = name

    def download(self, repository: str, file: str, revision: str | None, **_: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        self.asked.append((file, revision))
        commit = self.main if revision in (None, "main") else revision
        path = self.folder / "snapshots" / str(commit) / file
        if not path.is_file():
            raise LocalEntryNotFoundError("not in the cache")
        return str(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    import huggingface_hub

    own = Hub(tmp_path / "models--timm--resnet10t")
    own.commit(FIRST, 1)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", own.download)
    return own


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., registry.Encoder]:
    def load(**changes: Any) -> registry.Encoder:
        tiles = config.defaults("tiles")
        return weights_record.load(SETTINGS | changes, tiles, tmp_path / "features")

    return load


def test_the_first_load_is_recorded(
    hub: Hub, load: Callable[..., registry.Encoder], tmp_path: Path
) -> None:
    encoder = load()
    record = files.read_json(tmp_path / "features" / "weights.json")
    path = hub.folder / "snapshots" / FIRST / "model.safetensors"
    assert record["encoders"][NAME] == {
        "repository": "timm/resnet10t.c3_in1k",
        "requested": None,
        "commit": FIRST,
        "sha256": files.sha256sum(path),
    }
    assert record["identity"] == encoder.identity == f"{NAME} {files.sha256sum(path)[:16]}"
    # The same file by its path is the same encoder.
    assert registry.load(SETTINGS | {"weights": str(path)}).identity == encoder.identity


def test_later_loads_take_the_commit_of_the_first(
    hub: Hub, load: Callable[..., registry.Encoder]
) -> None:
    first = load()
    hub.commit(SECOND, 2)
    assert load().identity == first.identity
    assert hub.asked[-1] == ("model.safetensors", FIRST)
    newer = load(revision="main")  # another request
    assert newer.identity != first.identity
    assert load(revision=FIRST).identity == first.identity


def test_other_weights_of_the_same_revision_are_refused(
    hub: Hub, load: Callable[..., registry.Encoder]
) -> None:
    load()
    hub.commit(FIRST, 2)
    with pytest.raises(WeightsError, match=rf"first load \(commit {FIRST}\); set features.rev"):
        load()


def test_a_users_own_file_may_change(
    hub: Hub, load: Callable[..., registry.Encoder], tmp_path: Path
) -> None:
    path = hub.folder / "snapshots" / FIRST / "model.safetensors"
    first = load(weights=str(path))
    hub.commit(FIRST, 2)
    assert load(weights=str(path)).identity != first.identity
    entry = files.read_json(tmp_path / "features" / "weights.json")["encoders"][NAME]
    assert (entry["repository"], entry["commit"]) == (None, None)


def test_commits_of_several_encoders(hub: Hub, load: Callable[..., registry.Encoder]) -> None:
    names = ["color", NAME]
    first = load(encoder=names)
    hub.commit(SECOND, 2)
    assert load(encoder=names).identity == first.identity
    assert hub.asked[-1] == ("model.safetensors", FIRST)


def test_both_usual_names_are_tried(hub: Hub) -> None:
    spec = encoder_specs.find("virchow")
    assert encoder_weights.candidates(spec) == ["pytorch_model.bin", "model.safetensors"]
    assert encoder_weights.from_hub(spec, None).name == "model.safetensors"
    assert [file for file, _ in hub.asked] == ["pytorch_model.bin", "model.safetensors"]
    assert encoder_weights.candidates(encoder_specs.find("gpfm")) == ["GPFM.pth"]
    with pytest.raises(WeightsError, match=r"copy GPFM\.pth of https://huggingface"):
        encoder_weights.from_hub(encoder_specs.find("gpfm"), None)


def test_tiles_that_the_encoder_was_not_trained_on_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config.defaults("features", encoder="virchow2", weights=str(tmp_path / "none.bin"))
    with pytest.raises(WeightsError, match="no such file"):
        weights_record.load(settings, config.defaults("tiles"), tmp_path)
    assert "set tiles: {tile_px: 224, mpp: 0.5}" in caplog.text
