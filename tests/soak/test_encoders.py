"""Each network of the registry at its full size, with seeded random weights, on two tiles."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from slide2rna.features import encoder_specs, networks
from slide2rna.features.encoder_specs import EncoderSpec
from slide2rna.features.torch_encoders import TorchEncoder

pytestmark = pytest.mark.slow
NO_TRANSFORMERS = importlib.util.find_spec("transformers") is None
SPECS = [
    pytest.param(
        spec,
        id=spec.name,
        marks=pytest.mark.skipif(
            spec.loader == "transformers" and NO_TRANSFORMERS, reason="transformers isn't installed"
        ),
    )
    for spec in encoder_specs.encoders().values()
    if spec.loader in ("timm", "keep", "transformers")
]


def random_encoder(spec: EncoderSpec) -> TorchEncoder:
    """The row's network with up to 1.1 billion weights, in bfloat16: half the memory."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        module = networks.build(spec, spec.embedding).eval()
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for value in module.parameters():
            # Layer scales start at 1e-5, and would hide the blocks.
            value.normal_(0, 0.02) if value.ndim > 1 else value.fill_(1)
    half = networks.Call(module, lambda network, x: network(x.bfloat16()))
    return TorchEncoder(
        *(half, spec.name, spec.dim or 0, "random", torch.device("cpu"), 2, spec.input_px),
        *(spec.interpolation, spec.mean, spec.sd),
    )


@pytest.mark.parametrize("spec", SPECS)
def test_a_network_encodes_tiles(spec: EncoderSpec) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (2, spec.tile_px, spec.tile_px, 3), np.uint8)
    color = np.zeros((2, 6), np.float32)
    encoder = random_encoder(spec)
    found = encoder.encode(tiles, color)
    assert found.shape == (2, spec.dim)
    assert np.isfinite(found).all()
    assert found.std(0).max() > 0  # the two tiles differ
    if spec.embedding == "cls+mean":
        cls, mean = np.split(found, 2, axis=1)
        assert not np.allclose(cls, mean, atol=1e-2)
    # A tile of the mean colour is zero after the normalisation, up to the rounding to bytes.
    flat = np.broadcast_to(np.rint(255 * np.array(spec.mean)), tiles.shape).astype(np.float32)
    pixels = torch.from_numpy(flat.copy()).permute(0, 3, 1, 2)
    encoder.model = torch.nn.Identity()
    assert encoder.forward(pixels).abs().max() < 0.51 / 255 / min(spec.sd)
