"""Weights and bags read piece by piece are what was written."""

from __future__ import annotations

from pathlib import Path

import flow_cohort
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from slide2rna.core import config
from slide2rna.core.errors import StageError, WeightsError
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.pathways.membership import Pathways


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = config.defaults("model", hidden=16, blocks=1, heads=2, graph_heads=2)
    sets = Pathways(["a", "b"], [np.arange(9), np.arange(5, 17)], 20)
    model = RNAFM(sets, 10, 5, settings)
    meta = {"model": "flow", "genes": [f"G{i}" for i in range(20)], "features": 10, "clusters": 5}
    meta |= {"interpolant": "linear", "settings": {"model": settings}}
    checkpoint.save_model(tmp_path / "model", model, meta)
    return tmp_path / "model"


@pytest.mark.parametrize("piece", [1, 700, 2**26])
def test_weights_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", piece)
    model, _ = checkpoint.load_model(folder)
    stored = load_file(folder / "model.safetensors")
    assert model.state_dict().keys() == stored.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name])
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {name for name in stored if name.startswith("mean.")}


def test_weights_that_do_not_fit(folder: Path) -> None:
    path = folder / "model.safetensors"
    stored = load_file(path)
    without = {name: value for name, value in stored.items() if name != "gene_mean"}
    for changed, cause in (
        (without, r"gene_mean .*\[20\]"),
        (stored | {"more": torch.zeros(2)}, r"more .*\[2\]"),
        (stored | {"null": torch.zeros(7)}, r"null .*\[7\].*\[16\]"),
    ):
        save_file(changed, path)
        with pytest.raises(WeightsError, match=rf"model\.json .*{cause}"):
            checkpoint.load_model(folder)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no model"):
        checkpoint.load_model(folder)


def test_bags_by_row(tmp_path: Path) -> None:
    made = flow_cohort.make(tmp_path, {"train": 4, "val": 1, "test": 2})
    whole = bag_file.load(made.inputs.bags)
    ids, means, sizes = bag_file.open_bags(made.inputs.bags)
    assert ids == whole.slide_ids
    for stored, array in ((means, whole.means), (sizes, whole.sizes)):
        assert stored.shape == array.shape
        assert np.array_equal(stored[np.array([3, 0, 3])], array[[3, 0, 3]])
        assert np.array_equal(stored[np.int64(2)], array[2])
        assert stored[[1]].dtype == np.float32
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    for path in (broken, tmp_path / "absent"):
        with pytest.raises(StageError, match="bags file"):
            bag_file.open_bags(path)
