"""Encoders: lite0 against timm's network and across back ends; weights; every wrong setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, WeightsError
from slide2rna.features import encoder_weights, lite0, registry, torch_encoders
from slide2rna.features.torchvision_fix import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def lite() -> registry.Encoder:
    return registry.load(config.defaults("features"))


@pytest.fixture(scope="module")
def whole_network() -> torch.nn.Module:
    """timm's EfficientNet-Lite0 with the same weights; both list their tensors in one order."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = torch.load(lite0.weights_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model


def normalised(tiles: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(tiles.copy()).permute(0, 3, 1, 2).float() - 127) / 128


def test_lite0_is_timms_network_up_to_block_11(
    lite: registry.Encoder, whole_network: torch.nn.Module
) -> None:
    tiles = noise(3, 256, 256)
    color = np.arange(18, dtype=np.float32).reshape(3, 6)
    found = lite.encode(tiles, color)
    with torch.inference_mode():
        x = whole_network.bn1(whole_network.conv_stem(normalised(tiles)))
        x = whole_network.blocks[:5](x).flatten(2)
        want = torch.cat([x.mean(2), x.std(2, unbiased=False)], 1).numpy()
    assert found.shape == (3, 230)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, :224], want, atol=1e-4)
    np.testing.assert_array_equal(found[:, 224:], color)


def test_weights_know_a_cat(whole_network: torch.nn.Module) -> None:
    """The package's weights with this preprocessing call scikit-image's cat a cat (ImageNet 281
    to 285), so neither the order of the tensors nor the normalisation is wrong."""
    from PIL import Image
    from skimage import data

    picture = np.asarray(Image.fromarray(data.chelsea()).resize((224, 224)))
    with torch.inference_mode():
        scores = whole_network(normalised(picture[None]))
    assert 281 <= int(scores.argmax()) <= 285


@pytest.mark.parametrize("shape", [(256, 256), (224, 224), (97, 131)])
def test_lite0_onnx_equals_torch(lite: registry.Encoder, shape: tuple[int, int]) -> None:
    model = lite0.torch_model(lite0.layers(lite0.weights_path()))
    tiles = noise(2, *shape)
    with torch.inference_mode():
        want = model(torch.from_numpy(tiles).permute(0, 3, 1, 2).float()).numpy()
    found = lite.encode(tiles, np.zeros((2, 6), np.float32))[:, :224]
    np.testing.assert_allclose(found, want, atol=1e-4)


def test_batches_do_not_matter(lite: registry.Encoder) -> None:
    tiles, color = noise(5, 128, 128), np.zeros((5, 6), np.float32)
    alone = np.concatenate([lite.encode(tiles[i : i + 1], color[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(lite.encode(tiles, color), alone, rtol=1e-5, atol=1e-5)


def test_color_passes_through() -> None:
    encoder = registry.load(config.defaults("features", encoder="color"))
    color = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(encoder.encode(noise(4, 8, 8), color), color)
    assert encoder.dim == 6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Seeded weights of a small timm network, in every form that a user may have."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("w")
    state = timm.create_model("test_vit", pretrained=False).state_dict()
    save_file(state, folder / "a.safetensors")
    torch.save(state, folder / "a.pth")
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    torch.save(wrapped, folder / "wrapped.bin")
    return {path.name: path for path in folder.iterdir()}


def small_encoder(path: Path) -> torch_encoders.TorchEncoder:
    settings = config.defaults("features", encoder="test_vit", weights=str(path))
    encoder = registry.load(settings)
    assert isinstance(encoder, torch_encoders.TorchEncoder)
    return encoder


def test_all_forms_of_weights_agree(small: dict[str, Path]) -> None:
    tiles, color = noise(2, 200, 200), np.zeros((2, 6), np.float32)
    found = [small_encoder(path).encode(tiles, color) for path in small.values()]
    assert found[0].shape == (2, 64)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    torch.manual_seed(0)  # the same network, called plainly
    plain = timm.create_model("test_vit", pretrained=False).eval()
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float()
    size = plain.pretrained_cfg["input_size"][1]
    pixels = torch.nn.functional.interpolate(
        pixels, (size, size), mode=plain.pretrained_cfg["interpolation"], antialias=True
    ).clamp(0, 255)
    mean, sd = (torch.tensor(plain.pretrained_cfg[k])[:, None, None] for k in ("mean", "std"))
    with torch.inference_mode():
        features = plain.forward_head(
            plain.forward_features((pixels / 255 - mean) / sd), pre_logits=True
        )
    np.testing.assert_allclose(found[0], features.numpy(), atol=1e-4)


def test_identity_follows_the_weights(small: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    state = torch.load(small["a.pth"], weights_only=True)
    torch.save({key: value + 0.01 for key, value in state.items()}, path)
    one, other = small_encoder(small["a.pth"]), small_encoder(path)
    assert one.identity != other.identity


def test_reduced_precision_agrees(small: dict[str, Path]) -> None:
    encoder = small_encoder(small["a.pth"])
    tiles = noise(4, 160, 160)
    assert torch_encoders.agreement(encoder, tiles) == pytest.approx(1, abs=1e-6)
    encoder.autocast = torch.bfloat16
    assert 0.999 <= torch_encoders.agreement(encoder, tiles) < 1
    assert encoder.autocast is torch.bfloat16


def test_a_row_with_seeded_weights(tmp_path: Path) -> None:
    """The published weights can't be fetched here; the architecture and the way there can."""
    model = timm.create_model("resnet50", pretrained=False, num_classes=0)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = registry.load(
        config.defaults("features", encoder="resnet50", weights=str(tmp_path / "w.safetensors"))
    )
    found = encoder.encode(noise(1, 256, 256), np.zeros((1, 6), np.float32))
    assert found.shape == (1, 2048) == (1, encoder.dim)
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_the_rule_of_the_vector_is_part_of_the_identity(small: dict[str, Path]) -> None:
    tiles, color = noise(2, 160, 160), np.zeros((2, 6), np.float32)
    settings = config.defaults("features", encoder="test_vit", weights=str(small["a.pth"]))
    plain = registry.load(settings)
    both = registry.load(settings | {"embedding": "cls+mean"})
    assert both.dim == 2 * plain.dim == 128
    np.testing.assert_array_equal(both.encode(tiles, color)[:, :64], plain.encode(tiles, color))
    assert plain.identity != both.identity
    for changes, encoder in (({}, plain), ({"embedding": "cls+mean"}, both)):
        assert registry.identity(settings | changes) == encoder.identity
    with pytest.raises(ConfigError, match="its own vector"):
        registry.load(config.defaults("features", encoder="keep", embedding="cls"))


def test_several_encoders_are_one_after_the_other(small: dict[str, Path]) -> None:
    tiles, color = noise(3, 96, 96), np.random.default_rng(0).random((3, 6)).astype(np.float32)
    weights = {"test_vit": str(small["a.pth"])}
    names = ["test_vit", "color", "lite0"]
    joint = registry.load(config.defaults("features", encoder=names, weights=weights))
    alone = [
        registry.load(config.defaults("features", encoder=name, weights=weights.get(name)))
        for name in names
    ]
    want = np.concatenate([part.encode(tiles, color) for part in alone], 1)
    np.testing.assert_array_equal(joint.encode(tiles, color), want)
    assert (joint.name, joint.dim) == ("test-vit-color-lite0", 64 + 6 + 230)
    assert joint.identity == " + ".join(part.identity for part in alone)
    assert not joint.parallel
    joined = config.defaults("features", encoder=names, weights=weights)
    assert registry.identity(joined) == joint.identity


def hub_folder(folder: Path) -> Path:
    """A repository of timm as it lies in the cache: config.json next to the weights."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False, num_classes=0)
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    return folder / "model.safetensors"


def test_a_repository_of_the_hub(tmp_path: Path) -> None:
    path = hub_folder(tmp_path)
    settings = config.defaults("features", encoder="hf-hub:lab/net", weights=str(path))
    encoder = registry.load(settings)
    assert encoder.dim == 64
    assert encoder.identity.startswith("hf-hub:lab/net ")
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        registry.load(settings)


def test_wrong_weights(small: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(small["a.pth"], weights_only=True)
    first = next(iter(state))
    torch.save({key: value for key, value in state.items() if key != first}, tmp_path / "less.pth")
    torch.save(state | {"more.weight": torch.zeros(1)}, tmp_path / "more.pth")
    torch.save(state | {first: torch.zeros(1, 2, 3)}, tmp_path / "shape.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    expected = {
        "less.pth": f"1 tensors .*{first}",
        "more.pth": "1 unknown",
        "shape.pth": "1 of another shape",
        "list.pth": "state dict",
        "text.pth": "read",
        "text.safetensors": "read",
        "none.pth": "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(WeightsError, match=message):
            small_encoder(tmp_path / name)


class Evil:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("unpickled",))


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="read"):
        encoder_weights.read(tmp_path / "evil.pth")
    assert "unpickled" not in capsys.readouterr().out


def test_lite0_with_other_weights(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="EfficientNet-Lite0"):
        registry.load(config.defaults("features", weights=str(tmp_path / "x.pth")))
    with pytest.raises(WeightsError, match="no such file"):
        registry.load(config.defaults("features", weights=str(tmp_path / "none.pth")))


@pytest.mark.parametrize("name", ["uni", "resnet50"])
def test_no_hub_says_how_to_get_the_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(repository: str, file: str, **options: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(WeightsError, match=r"huggingface\.co/.*features\.weights") as caught:
        registry.load(config.defaults("features", encoder=name))
    assert ("HF_TOKEN" in str(caught.value)) == (name == "uni")


def test_unknown_encoder() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        registry.load(config.defaults("features", encoder="no_such_net"))
    with pytest.raises(ConfigError, match="files"):
        registry.load(config.defaults("features", encoder="files"))
