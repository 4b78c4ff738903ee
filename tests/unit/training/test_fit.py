"""Training: statistics, early stopping, ways to the same weights, and what the fit must reach."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
from slide2rna.core import config, devices
from slide2rna.core.errors import ConfigError, DeviceError, StageError, WeightsError
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.pathways import membership
from slide2rna.sampling import draw
from slide2rna.training import build, fit, loop, objective
from training_cohort import CPU, cohort

torch.set_num_threads(1)
__all__ = ["cohort"]  # the fixture


def test_early_stopping_keeps_the_best_epoch(
    cohort: flow_cohort.FlowCohort, tmp_path: Path
) -> None:
    settings = flow_cohort.settings(epochs=60, patience=3, learning_rate=0.03)
    fit.fit_fold(cohort.inputs, tmp_path, settings, 1, CPU)
    log, meta = (
        pl.read_parquet(tmp_path / "log.parquet"),
        json.loads((tmp_path / "model.json").read_text()),
    )
    best = int(np.argmin(log["val_loss"].to_numpy())) + 1
    assert meta["best_epoch"] == best
    assert meta["epochs"] == len(log) == best + 3
    assert meta["val_loss_before_scaling"] == log["val_loss"].min()
    assert meta["val_loss"] <= meta["val_loss_before_scaling"]


def test_folder_is_self_contained(cohort: flow_cohort.FlowCohort, tmp_path: Path) -> None:
    fitted = fit.fit_fold(cohort.inputs, tmp_path, flow_cohort.settings(epochs=1), 1, CPU)
    model, meta = checkpoint.load_model(tmp_path)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            model.state_dict().values(), fitted.state_dict().values(), strict=True
        )
    )
    assert meta["samples"] == {"train": 14, "val": 4}
    assert meta["slides"] == {"train": 15, "val": 5}
    assert meta["constant_genes"] == 1
    train_rows = cohort.expression[:14].astype(np.float64)
    assert np.allclose(model.gene_mean.numpy(), train_rows.mean(0), atol=1e-5)
    assert np.allclose(model.gene_sd.numpy()[:-1], train_rows.std(0, ddof=1)[:-1], atol=1e-5)
    assert model.gene_sd[-1] == 0
    z = model.standardise(torch.from_numpy(cohort.expression))
    assert z.isfinite().all()
    assert not z[:, -1].any()
    assert torch.allclose(model.restore(z), torch.from_numpy(cohort.expression), atol=1e-4)
    (tmp_path / "model.json").write_text(json.dumps(meta | {"clusters": 3, "features": 4}))
    with pytest.raises(WeightsError, match=r"model\.json"):
        checkpoint.load_model(tmp_path)
    with pytest.raises(WeightsError, match="no model"):
        checkpoint.load_model(tmp_path / "absent")


def test_val_points_are_stratified_and_fixed() -> None:
    times, noise = objective.val_points(5, 3, 8, 1)
    assert times.shape == (5, 8)
    assert noise.shape == (5, 8, 3)
    assert ((times * 8).floor() == torch.arange(8)).all()
    assert torch.allclose(times.flatten().sort().values, (torch.arange(40) + 0.5) / 40, atol=1e-6)
    again, _ = objective.val_points(5, 3, 8, 1)
    assert torch.equal(times, again)


def test_ema_ramp() -> None:
    steps = [0, 80, 890, 100_000]
    assert [round(loop.ema_decay(n), 3) for n in steps] == [0.85, 0.9, 0.99, 0.999]


def test_condition_dropout_is_per_sample(cohort: flow_cohort.FlowCohort) -> None:
    """With all conditions dropped, the loss doesn't depend on the slides; with none, it does."""
    settings = flow_cohort.settings()
    sets = membership.read_pathways(
        cohort.inputs.pathways, fold_rows.gene_names(cohort.inputs.expression)
    )
    torch.manual_seed(0)
    model = RNAFM(sets, 12, 6, settings["model"]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    z = torch.randn(4, 60)
    losses = {}
    for drop in (0.0, 1.0):
        for seed in (0, 1):
            means = torch.randn(4, 6, 12, generator=torch.Generator().manual_seed(seed))
            batch = objective.TensorPart(means, torch.ones(4, 6), z)
            generator = torch.Generator().manual_seed(7)
            losses[drop, seed] = objective.train_step_loss(model, batch, drop, generator).item()
    assert losses[1.0, 0] == losses[1.0, 1]
    assert losses[0.0, 0] != losses[0.0, 1]


def test_not_finite_loss_stops(cohort: flow_cohort.FlowCohort, tmp_path: Path) -> None:
    settings = flow_cohort.settings(learning_rate=1e30)
    with pytest.raises(StageError, match=r"loss.*finite"):
        fit.fit_fold(cohort.inputs, tmp_path, settings, 1, CPU)
    assert not (tmp_path / "model.json").exists()


def test_empty_part_is_an_error(tmp_path: Path) -> None:
    cohort = flow_cohort.make(tmp_path, {"train": 4, "test": 2})
    with pytest.raises(StageError, match="part val"):
        fit.fit_fold(cohort.inputs, tmp_path / "out", flow_cohort.settings(), 1, CPU)


def test_heads_must_divide() -> None:
    with pytest.raises(ConfigError, match=r"3 heads.*model\.hidden 16"):
        build.check_heads(config.defaults("model", hidden=16, heads=3))


def test_cuda_without_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="GPU"):
        devices.choose_device("cuda")
    assert devices.choose_device("auto") == CPU
    assert devices.autocast_dtype("auto", CPU) is None
    assert devices.autocast_dtype("bfloat16", CPU) == torch.bfloat16


def test_bfloat16_trains(cohort: flow_cohort.FlowCohort, tmp_path: Path) -> None:
    settings = flow_cohort.settings(precision="bfloat16", epochs=2)
    model = fit.fit_fold(cohort.inputs, tmp_path, settings, 1, CPU)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("change", [{"fused": False}, {"recompute": True}], ids=str)
def test_other_ways_give_the_same_weights(
    cohort: flow_cohort.FlowCohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, bool],
) -> None:
    trainers = flow_cohort.remembered(monkeypatch)
    for name, changes in (("one", {}), ("two", change)):
        fit.fit_fold(
            cohort.inputs, tmp_path / name, flow_cohort.settings(epochs=3, **changes), 1, CPU
        )
    usual, other = trainers
    assert (usual.optimiser.defaults["fused"], usual.model.recompute) == (True, False)
    assert other.optimiser.defaults["fused"] is change.get("fused", True)
    assert other.model.recompute is change.get("recompute", False)
    for one, two in zip(usual.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5)
    for trainer in trainers:  # an average that kept its history would grow with every step
        assert all(mean.grad_fn is None for mean in trainer.ema.parameters())


def test_recompute_keeps_no_activations(cohort: flow_cohort.FlowCohort, tmp_path: Path) -> None:
    model = fit.fit_fold(cohort.inputs, tmp_path, flow_cohort.settings(epochs=1), 1, CPU)
    model.requires_grad_()
    g, k, d = model.pathways.n_genes, 4, len(model.condition.feature_mean)
    kept = []
    for recompute in (False, True):
        model.recompute = recompute
        saved: list[int] = []

        def note(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            image = model.encode_image(torch.randn(8, k, d), torch.ones(8, k))
            model(torch.randn(8, g), torch.rand(8), image)
        kept.append(sum(saved))
    assert kept[1] < 0.7 * kept[0]


def test_compiling_without_a_compiler_is_left_out(
    cohort: flow_cohort.FlowCohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    fit.fit_fold(cohort.inputs, tmp_path, flow_cohort.settings(epochs=1, compile="graphs"), 1, CPU)
    assert "no-such-compiler" in caplog.text


@pytest.mark.slow
def test_command_needs_the_guard(
    cohort: flow_cohort.FlowCohort, tmp_path: Path, repo: Path
) -> None:
    main = runpy.run_path(str(repo / "scripts" / "train.py"))["main"]
    inputs = cohort.inputs
    settings = flow_cohort.settings(epochs=1)
    argv = [
        *("--bags", str(inputs.bags), "--expression", str(inputs.expression)),
        *("--splits", str(inputs.splits), "--slides", str(inputs.slides)),
        *("--pathways", str(inputs.pathways), "--fold", "0", "--out", str(tmp_path / "model")),
        *("--model", json.dumps(settings["model"]), "--settings", json.dumps(settings["train"])),
    ]
    with pytest.raises(StageError, match=r"run scripts/split\.py guard first"):
        main([*argv, "--guard", str(tmp_path / "guard.json")])
    main([*argv, "--guard", str(cohort.guard), "--device", "cpu"])
    assert (tmp_path / "model" / "model.json").is_file()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """200 patients of a linear-Gaussian law, with and without the gaussian skip."""
    folder = tmp_path_factory.mktemp("law")
    cohort = flow_cohort.make(folder, {"train": 130, "val": 30, "test": 40}, genes=120, seed=3)
    models = {}
    for skip in ("ridge", "gaussian", "none"):
        settings = flow_cohort.settings(epochs=60, patience=12, learning_rate=2e-3, val_noise=8)
        settings["model"]["skip"] = skip
        fit.fit_fold(cohort.inputs, folder / skip, settings, 1, CPU)
        models[skip] = checkpoint.load_model(folder / skip)
    return cohort, models


@pytest.mark.parametrize("skip", ["ridge", "gaussian"])
def test_flow_beats_constant_and_covers(fitted, skip: str) -> None:  # type: ignore[no-untyped-def]
    cohort, models = fitted
    model, _ = models[skip]
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    rows = rows.of("test")
    truth = model.standardise(
        torch.from_numpy(
            fold_rows.read_expression_matrix(cohort.inputs.expression, rows.sample_ids)
        )
    )
    with torch.inference_mode():
        image = model.encode_image(
            torch.from_numpy(bagged.means[rows.bag]), torch.from_numpy(bagged.sizes[rows.bag])
        )
    x0 = torch.randn(len(truth), 99, model.noise_width, generator=torch.Generator().manual_seed(1))
    options = config.defaults("sample", solver="exponential", steps=8)
    z = draw.draw(model, image, x0, options).sort(dim=1).values
    varying = slice(0, 119)
    inside = (z[:, 4] <= truth) & (truth <= z[:, 94])
    assert 0.85 <= float(inside[:, varying].float().mean()) <= 0.95
    error = float((z.mean(dim=1) - truth).square().mean())
    constant = float(truth.square().mean())
    assert error < 0.9 * constant
    best = torch.from_numpy(cohort.mean).float()[[int(s[1:]) for s in rows.sample_ids]]
    attainable = float((model.standardise(best) - truth).square().mean())
    assert (error - attainable) < 0.5 * (constant - attainable)


def test_gaussian_skip_has_the_lower_val_loss(fitted) -> None:  # type: ignore[no-untyped-def]
    _, models = fitted
    losses = {name: meta["val_loss"] for name, (_, meta) in models.items()}
    assert losses["gaussian"] < losses["none"] - 0.05
