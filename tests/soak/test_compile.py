"""torch.compile with the machine's own compiler: the same weights and draws as without it."""

from __future__ import annotations

import shutil
from pathlib import Path

import flow_cohort
import pytest
import torch
from slide2rna.core import config, devices
from slide2rna.sampling import draw
from slide2rna.training import fit
from torch._dynamo.utils import counters

CPU = torch.device("cpu")


def graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_compiled_equals_eager(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = flow_cohort.make(tmp_path / "cohort", {"train": 12, "val": 3, "cal": 2, "test": 3})
    trainers = flow_cohort.remembered(monkeypatch)
    made = []
    for mode in ("none", "graphs"):
        before = graphs()
        settings = flow_cohort.settings(epochs=3, compile=mode)
        fit.fit_fold(cohort.inputs, tmp_path / mode, settings, 1, CPU)
        made.append(graphs() - before)
    assert made[0] == 0 < made[1]
    assert "CUDA graphs need a GPU; compiled without them" in caplog.text
    eager, compiled = (trainer.model for trainer in trainers)
    for one, two in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5)

    eager.eval()
    white, image = torch.randn(2, 5, eager.noise_width), eager.null_condition(2)
    settings = config.defaults("sample", steps=4, guidance=2.0)
    plain, before = draw.draw(eager, image, white, settings), graphs()
    devices.compile_model(eager, "compile", CPU)
    assert torch.allclose(draw.draw(eager, image, white, settings), plain, atol=1e-5)
    assert graphs() > before
