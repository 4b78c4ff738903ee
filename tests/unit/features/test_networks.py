"""Networks of the registry's rows on torch's meta device: shapes, inputs, vectors."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from slide2rna.core.errors import ConfigError, WeightsError
from slide2rna.features import encoder_specs, networks
from slide2rna.features.encoder_specs import EncoderSpec
from torch import nn

NEEDS = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers isn't installed"
)
SPECS = encoder_specs.encoders().values()
BUILT = [
    pytest.param(spec, id=spec.name, marks=[NEEDS] * (spec.loader == "transformers"))
    for spec in SPECS
    if spec.loader in ("timm", "keep", "transformers")
]
# Parameters in millions, from the pages on the hub and the papers.
MILLIONS = {
    **dict.fromkeys(("resnet50", "lunit-bt", "lunit-swav", "lunit-mocov2"), 23.5),
    **dict.fromkeys(("kaiko-vits8", "kaiko-vits16", "lunit-vits8", "lunit-vits16"), 21.7),
    **dict.fromkeys(("kaiko-vitb8", "kaiko-vitb16", "h0-mini", "phikon"), 86),
    **dict.fromkeys(("uni", "gpfm", "mstar", "pathorchestra", "kaiko-vitl14", "phikon2"), 304),
    **dict.fromkeys(("virchow", "virchow2"), 631),
    **dict.fromkeys(("hoptimus0", "hoptimus1", "gigapath", "openmidnight", "midnight"), 1135),
    **{"uni2": 681, "keep": 304.7, "plip": 87.8},
}


@cache
def on_meta(**row: str) -> tuple[float, tuple[int, ...]]:
    """Millions of parameters, and the shape of two vectors; rows with the same network share it."""
    arguments, edge = json.loads(row.pop("arguments")), int(row.pop("input_px"))
    spec = EncoderSpec("row", licence="", arguments=arguments, **row)  # type: ignore[arg-type]
    with torch.device("meta"), torch.inference_mode():
        module = networks.build(spec, spec.embedding)
        count = sum(value.numel() for value in module.parameters())
        return count / 1e6, tuple(shortened(module)(torch.empty(2, 3, edge, edge)).shape)


def shortened(module: nn.Module) -> nn.Module:
    """The network with its first block alone: width and tokens stay, and meta is quick."""
    network: Any = getattr(module, "network", getattr(module, "visual", None))
    for owner, name in ((network, "blocks"), (getattr(network, "encoder", None), "layer")):
        if isinstance(getattr(owner, name, None), nn.Sequential | nn.ModuleList):
            setattr(owner, name, getattr(owner, name)[:1])
    return module


@pytest.mark.parametrize("spec", BUILT)
def test_a_row_is_its_network(spec: EncoderSpec) -> None:
    row = {key: getattr(spec, key) for key in ("loader", "model", "embedding")}
    found, shape = on_meta(**row, arguments=json.dumps(spec.arguments), input_px=str(spec.input_px))
    assert found == pytest.approx(MILLIONS[spec.name], rel=0.015)
    assert shape == (2, spec.dim)


def tiny(**changes: Any) -> EncoderSpec:
    spec = EncoderSpec("tiny", "timm", "MIT", "test_vit", input_px=160)
    return replace(spec, **changes)


@pytest.mark.parametrize("name", ["test_vit", "test_vit3"])
def test_vectors_are_the_class_token_and_the_mean_of_the_patches(name: str) -> None:
    torch.manual_seed(0)
    spec = tiny(model=name)
    module = networks.build(spec, "cls+mean").eval()
    network: Any = module.network
    x = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        tokens = network.forward_features(x)
        found = module(x)
        patches = network.patch_embed.num_patches
        torch.testing.assert_close(found[:, : tokens.shape[2]], tokens[:, 0])
        torch.testing.assert_close(found[:, tokens.shape[2] :], tokens[:, -patches:].mean(1))
        cls = networks.Pooled(network, "cls")(x)
    torch.testing.assert_close(cls, tokens[:, 0])


def test_a_rule_that_does_not_fit_the_network() -> None:
    with pytest.raises(ConfigError, match="no class token"):
        networks.build(tiny(model="test_resnet"), "cls")
    with pytest.raises(ConfigError, match="a vector per patch"):
        networks.build(tiny(arguments={"global_pool": ""}), "pooled")


def test_dinov2s_names_become_timms() -> None:
    """A row with keys dinov2 takes registers, positions and gates as DINOv2's code saves them."""
    arguments = {"reg_tokens": 4, "no_embed_class": True, "img_size": 32, "depth": 1}
    arguments |= {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU", "patch_size": 16}
    spec = tiny(arguments=arguments, keys="dinov2")
    module = networks.build(spec, "cls")
    torch.manual_seed(0)
    network: Any = module.network
    want = {key: torch.randn_like(value) for key, value in network.state_dict().items()}
    place = torch.randn(1, 1, want["cls_token"].shape[2])
    theirs = {
        key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value
        for key, value in want.items()
    }
    theirs["register_tokens"] = theirs.pop("reg_token")
    theirs["cls_token"] = want["cls_token"] - place
    theirs["pos_embed"] = torch.cat([place, want["pos_embed"]], 1)
    theirs["mask_token"] = torch.zeros(1, 8)
    networks.fill(module, spec, theirs, "w.pt")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, want[key])


def test_keep_reads_the_image_side_and_gives_vectors_of_length_1() -> None:
    spec = tiny(loader="keep", embedding="own", arguments={"init_values": 1e-5})
    module = networks.build(spec, "own").eval()
    torch.manual_seed(0)
    want = {key: torch.randn_like(value) for key, value in module.state_dict().items()}
    theirs = {re.sub(r"(ls[12])\.gamma", r"\1.weight", key): v for key, v in want.items()}
    networks.fill(module, spec, theirs | {"text.embeddings.weight": torch.zeros(1)}, "w")
    with torch.inference_mode():
        x = torch.randn(2, 3, 160, 160)
        found = module(x)
        lines = module.visual_head
        plain = lines[2](torch.nn.functional.gelu(lines[0](module.visual(x))))
    torch.testing.assert_close(found, plain / plain.norm(dim=1, keepdim=True))
    assert found.shape == (2, 768)


@NEEDS
@pytest.mark.parametrize("kind", ["Dinov2Model", "ViTModel", "CLIPVisionModelWithProjection"])
def test_weights_of_transformers_are_filled_in_strictly(kind: str, tmp_path: Path) -> None:
    import transformers
    from safetensors.torch import load_file

    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
    small |= {"patch_size": 16, "intermediate_size": 48, "projection_dim": 8}
    own = kind.startswith("CLIP")
    spec = tiny(loader="transformers", model=kind, arguments=small)
    rule = "own" if own else "cls"
    torch.manual_seed(0)
    options = {} if kind != "ViTModel" else {"add_pooling_layer": False}
    model = getattr(transformers, kind)
    theirs = model(model.config_class(**small), **options).eval()
    theirs.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    # Of the two descriptions the file next to the weights counts.
    module = networks.build(replace(spec, arguments={}), rule, tmp_path)
    module = networks.fill(module, spec, state, "w").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        out = theirs(pixel_values=x)
        want = out.image_embeds if own else out.last_hidden_state[:, 0]
        torch.testing.assert_close(module(x), want)
    state.pop(next(key for key in state if "patch" in key))
    with pytest.raises(WeightsError, match="1 tensors are missing"):
        networks.fill(networks.build(spec, rule), spec, state, "w")


def test_a_missing_package_gives_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conch", "musk", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, line in (
        ("conch", "run pip install git"),
        ("musk", "run pip install fairscale"),
        ("hibou-l", r"run pip install 'slide2rna\[transformers\]' einops"),
    ):
        with pytest.raises(ConfigError, match=line):
            networks.adapted(encoder_specs.find(name), Path("w.bin"), "0" * 40)
    with pytest.raises(ConfigError, match=r"run pip install 'slide2rna\[transformers\]'"):
        networks.build(encoder_specs.find("phikon"), "cls")


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    """A module, and the packages above it, with these contents."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
    vars(sys.modules[name]).update(contents)


class Network(nn.Module):
    """Stand-in for the network of a package; `calls` are the options of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def encode_image(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        self.calls.append(options)
        return x.mean((2, 3))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=pixel_values.amax((2, 3)))

    def return_conch(self) -> tuple[nn.Module, None]:
        return nn.Flatten(), None


def test_conch_gives_vectors_before_the_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = Network(), []

    def create(model: str, checkpoint_path: str) -> tuple[Network, None]:
        asked.append((model, checkpoint_path))
        return network, None

    stand_in(monkeypatch, "conch.open_clip_custom", create_model_from_pretrained=create)
    module = networks.adapted(encoder_specs.find("conch"), Path("w.bin"), None)
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(module(x), x.mean((2, 3)))
    assert asked == [("conch_ViT-B-16", "w.bin")]
    assert network.calls == [{"proj_contrast": False, "normalize": False}]


def test_code_of_a_repository_runs_only_at_a_pinned_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(hub: str, **options: Any) -> Network:
        asked.append((hub, options))
        return Network()

    stand_in(monkeypatch, "transformers", AutoModel=SimpleNamespace(from_pretrained=load))
    hibou, conch15 = encoder_specs.find("hibou-l"), encoder_specs.find("conch15")
    for revision in (None, "main", "0" * 39):
        with pytest.raises(ConfigError, match=r"features\.revision"):
            networks.adapted(hibou, None, revision)
    assert asked == []
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(networks.adapted(hibou, None, "0" * 40)(x), x.amax((2, 3)))
    torch.testing.assert_close(networks.adapted(conch15, None, "a" * 40)(x), x.flatten(1))
    assert [hub for hub, _ in asked] == ["histai/hibou-L", "MahmoodLab/TITAN"]
    assert asked[0][1] == {"revision": "0" * 40, "trust_remote_code": True}


def test_encoders_without_a_loader_say_where_their_features_come_from() -> None:
    with pytest.raises(ConfigError, match="use encoder: files"):
        networks.adapted(encoder_specs.find("ctranspath"), None, None)
