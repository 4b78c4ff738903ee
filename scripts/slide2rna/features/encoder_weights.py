"""Encoder weights from a local file or the hub, read without unpickling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slide2rna.core.errors import WeightsError
from slide2rna.core.files import sha256sum

if TYPE_CHECKING:
    import torch


WRAPPERS = ("state_dict", "model", "teacher")
HEADS = ("fc.", "head.", "classifier.", "head_dist.")


def from_hub(name: str, repository: str, gated: bool) -> dict[str, torch.Tensor]:
    """Load weights from the Hugging Face hub (or its local cache), with the user's token.

    Raises
    ------
    WeightsError
        The download failed; the message says how to get the weights by hand.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    file = "pytorch_model.bin" if gated else "model.safetensors"
    try:
        return read(Path(hf_hub_download(repository, file)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        access = (
            f"ask for access at https://huggingface.co/{repository} and set HF_TOKEN, or "
            if gated
            else ""
        )
        raise WeightsError(
            f"encoder {name}",
            f"its weights can't be downloaded ({type(error).__name__})",
            f"{access}copy {file} of https://huggingface.co/{repository} here and set "
            "features.weights to its path (encoder lite0 needs no download)",
        ) from error


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from a torch file without unpickling objects."""
    import pickle

    import safetensors
    import torch
    from safetensors.torch import load_file

    remedy = "give the encoder's weights as .safetensors, .pth or .bin (a plain state dict)"
    if not path.is_file():
        raise WeightsError(path, "no such file", remedy)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise WeightsError(path, f"can't be read ({str(error)[:120]})", remedy) from error
    for key in WRAPPERS:
        state = (
            state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
        )
    if not isinstance(state, dict) or not all(hasattr(value, "shape") for value in state.values()):
        raise WeightsError(path, "not a state dict", remedy)
    return {key.removeprefix("module."): value for key, value in state.items()}


def fill(model: torch.nn.Module, state: dict[str, torch.Tensor], where: object) -> None:
    """Load weights strictly, ignoring a classifier that the encoder lacks."""
    expected = model.state_dict()
    state = {k: v for k, v in state.items() if k in expected or not k.startswith(HEADS)}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or extra or wrong:
        first = (missing or extra or sorted(wrong))[0]
        raise WeightsError(
            where,
            f"{len(missing)} tensors are missing, {len(extra)} unknown, {len(wrong)} of another "
            f"shape (first: {first})",
            "give the weights of this encoder",
        )
    model.load_state_dict(state)


def digest(path: Path) -> str:
    """Return the first 16 hex digits of a weights file's SHA-256."""
    if not path.is_file():
        raise WeightsError(path, "no such file", "correct features.weights")
    return sha256sum(path)[:16]
