"""torch.compile with the machine's own compiler: the same weights and draws as without it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import flow_cohort
from slide2rna import config, devices, fit, sample

CPU = torch.device("cpu")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_compiled_equals_eager(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cohort = flow_cohort.make(tmp_path / "cohort", {"train": 12, "val": 3, "cal": 2, "test": 3})
    eager, compiled = (
        fit.run(
            cohort.inputs, tmp_path / mode, flow_cohort.settings(epochs=3, compile=mode), 1, CPU
        )
        for mode in ("none", "graphs")
    )
    assert "CUDA graphs need a GPU; compiled without them" in caplog.text
    for one, two in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5)

    x0, image = torch.randn(2, 5, eager.pathways.n_genes), torch.randn(2, eager.null.numel())
    settings = config.defaults("sample", steps=4, guidance=2.0)
    plain = sample.draw(eager, image, x0, settings)
    devices.compile_model(eager, "compile", CPU)
    assert torch.allclose(sample.draw(eager, image, x0, settings), plain, atol=1e-5)
