"""Networks of the encoders, as modules that turn normalised tiles into one vector each.

Networks of timm and transformers are built without weights, which are filled in strictly. Packages
and code of repositories bring the weights along.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slide2rna.core.errors import ConfigError, WeightsError
from slide2rna.features import encoder_specs, encoder_weights
from slide2rna.features.encoder_specs import EncoderSpec
from slide2rna.features.torchvision_fix import ensure_torchvision

KEEP_DIM = 768
State = dict[str, torch.Tensor]


class Pooled(nn.Module):
    """A network and its vector of a tile: what it pools itself, or its class token and patches."""

    def __init__(self, network: nn.Module, embedding: str) -> None:
        super().__init__()
        self.network, self.embedding = network, embedding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.embedding == "pooled":
            return self.network(x)
        tokens, prefix = self.tokens(x)
        if self.embedding == "cls":
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], 1)

    def tokens(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return tokens (n, t, d), and the number of those before the patches."""
        network: Any = self.network
        if hasattr(network, "forward_features"):
            return network.forward_features(x), network.num_prefix_tokens
        return network(pixel_values=x).last_hidden_state, 1


class ImageVector(nn.Module):
    """A network of transformers that projects an image to one vector, as CLIP does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=x).image_embeds


class Call(nn.Module):
    """A network with the call that gives its vector."""

    def __init__(self, network: nn.Module, call: Callable[[Any, torch.Tensor], torch.Tensor]):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self.network, x)


class Keep(nn.Module):
    """KEEP's image side: a ViT-L/16, two linear layers, and vectors of length 1.

    Source: https://huggingface.co/Astaxanthin/KEEP
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        width: Any = visual.num_features
        self.visual_head = nn.Sequential(
            nn.Linear(width, KEEP_DIM), nn.GELU(), nn.Linear(KEEP_DIM, KEEP_DIM)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.visual_head(self.visual(x)), dim=-1)


def build(spec: EncoderSpec, embedding: str, folder: Path | None = None) -> nn.Module:
    """Build the network of a row without its weights; `folder` may hold a config.json.

    Raises
    ------
    ConfigError
        timm has no such architecture, transformers isn't installed, or the rule doesn't fit.
    """
    if spec.loader == "transformers":
        return _transformers(spec, embedding, folder)
    network = _timm(spec, folder)
    if spec.loader == "keep":
        return Keep(network)
    tokens = hasattr(network, "num_prefix_tokens")
    if (embedding != "pooled" and not tokens) or embedding == "own":
        cause = f"features.embedding is {embedding}, but the network has no class token"
        raise ConfigError(f"encoder {spec.name}", cause, "leave out features.embedding")
    if embedding == "pooled" and tokens and not network.global_pool:
        cause = "its network gives a vector per patch"
        raise ConfigError(f"encoder {spec.name}", cause, "set features.embedding: cls or cls+mean")
    return Pooled(network, embedding)


def _timm(spec: EncoderSpec, folder: Path | None) -> Any:
    ensure_torchvision()
    import timm

    # A row's vision transformer gets every weight from its file.
    skip: dict[str, Any] = {"weight_init": "skip"} if spec.model.startswith("vit_") else {}
    if spec.loader == "timm-hub":
        return timm.create_model(f"local-dir:{folder}", pretrained=False, num_classes=0)
    layers = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": nn.SiLU}
    arguments: dict[str, Any] = {
        key: layers.get(value, value) if isinstance(value, str) else value
        for key, value in spec.arguments.items()
    }
    return timm.create_model(spec.model, pretrained=False, num_classes=0, **arguments, **skip)


def _transformers(spec: EncoderSpec, embedding: str, folder: Path | None) -> nn.Module:
    kind: Any = getattr(package("transformers", spec), spec.model)
    if folder is not None and (folder / "config.json").is_file():
        config = kind.config_class.from_pretrained(folder)
    else:
        config = kind.config_class(**spec.arguments)
    network = kind(config, **_without_pooler(spec))
    return ImageVector(network) if embedding == "own" else Pooled(network, embedding)


def _without_pooler(spec: EncoderSpec) -> dict[str, bool]:
    """Return the option that leaves out ViTModel's pooler, whose output isn't used."""
    return {"add_pooling_layer": False} if spec.model == "ViTModel" else {}


def fill(module: nn.Module, spec: EncoderSpec, state: State, where: object) -> nn.Module:
    """Fill in weights, whose names may be those of the encoder's publishers.

    Raises
    ------
    WeightsError
        They aren't this network's.
    """
    network: Any = getattr(module, "network", module)
    if spec.loader == "transformers":
        network, found = type(network).from_pretrained(
            None,
            config=network.config,
            state_dict=state,
            output_loading_info=True,
            **_without_pooler(spec),
        )
        missing = sorted(found["missing_keys"]) + sorted(map(str, found["mismatched_keys"]))
        if missing:
            cause = f"{len(missing)} tensors are missing or of another shape (first: {missing[0]})"
            raise WeightsError(where, cause, "give the weights of this encoder")
        module.network = network
        return module
    if spec.keys == "dinov2":
        from timm.models.vision_transformer import checkpoint_filter_fn

        state = checkpoint_filter_fn(state, network)
    if spec.loader == "keep":
        # Of KEEP's two sides only the image is read; transformers renames the scale of a layer.
        state = {
            re.sub(r"(\.ls[12])\.weight$", r"\1.gamma", key): value
            for key, value in state.items()
            if key.startswith(("visual.", "visual_head."))
        }
    encoder_weights.fill(network, state, where)
    return module


def package(name: str, spec: EncoderSpec) -> Any:
    """Import the package that an encoder needs.

    Raises
    ------
    ConfigError
        It isn't installed; the message has the line that installs it.
    """
    ensure_torchvision()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        cause = f"it needs the package {name.partition('.')[0]}, which can't be imported"
        raise ConfigError(f"encoder {spec.name}", cause, f"run {spec.install_line}") from error


def adapted(spec: EncoderSpec, path: Path | None, commit: str | None) -> nn.Module:
    """Load an encoder by its package, or by the code of its repository at a pinned commit.

    Parameters
    ----------
    path : file with the weights, for the encoders of a package.
    commit : revision of the repository.

    Raises
    ------
    ConfigError
        The package is missing, or no commit is pinned for code of a repository.
    """
    if spec.loader == "files":
        raise ConfigError(f"encoder {spec.name}", spec.note, encoder_specs.FROM_FILES)
    if spec.loader == "package":
        return _of_package(spec, path)
    if commit is None or not encoder_specs.COMMIT.fullmatch(commit):
        cause = "it runs code of its repository, which must be of one commit"
        remedy = f"set features.revision to a commit of {spec.url}/commits/main that you trust"
        raise ConfigError(f"encoder {spec.name}", cause, remedy)
    transformers = package("transformers", spec)
    network = transformers.AutoModel.from_pretrained(
        spec.hub, revision=commit, trust_remote_code=True
    )
    if spec.model == "conch15":
        return network.return_conch()[0]
    return Call(network, lambda model, x: model(pixel_values=x).pooler_output)


def _of_package(spec: EncoderSpec, path: Path | None) -> nn.Module:
    """Load CONCH (https://github.com/mahmoodlab/CONCH) or MUSK (https://github.com/lilab-stanford/MUSK)."""
    if spec.model == "conch":
        conch = package("conch.open_clip_custom", spec)
        network, _ = conch.create_model_from_pretrained("conch_ViT-B-16", checkpoint_path=str(path))
        return Call(
            network, lambda model, x: model.encode_image(x, proj_contrast=False, normalize=False)
        )
    utils = package("musk.utils", spec)
    package("musk.modeling", spec)  # registers the architecture in timm
    import timm

    network = timm.create_model("musk_large_patch16_384")
    utils.load_model_and_may_interpolate(str(path), network, "model|module", "")
    options = {"with_head": False, "out_norm": False, "ms_aug": False, "return_global": True}
    return Call(network, lambda model, x: model(image=x, **options)[0])
