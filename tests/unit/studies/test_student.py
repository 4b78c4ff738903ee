"""The one-step student: what it is taught, that it learns it, and what it may be asked for."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import flow_cohort
import numpy as np
import pytest
import torch
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.flow import one_step
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.sampling import draw, fold_draws
from slide2rna.studies.samplers import student as samplers_student
from training_cohort import CPU, cohort
from untrained_flow import build

torch.set_num_threads(1)
__all__ = ["cohort"]  # the fixture

STUDENT = config.defaults(
    "samplers", student={"pairs": 4, "epochs": 16, "learning_rate": 0.002, "steps": 12}
)["student"]


@pytest.fixture(scope="module")
def teacher(cohort: flow_cohort.FlowCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(cohort, tmp_path_factory.mktemp("teacher"), 0.1)


@pytest.fixture(scope="module")
def student(
    cohort: flow_cohort.FlowCohort, teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("student")
    samplers_student.distil(of(cohort, teacher), out, STUDENT, 1, CPU)
    return out


def of(cohort: flow_cohort.FlowCohort, folder: Path) -> samplers_student.DistillationInputs:
    files = cohort.inputs
    return samplers_student.DistillationInputs(folder, files.bags, files.slides, files.splits, 0)


def draws(cohort: flow_cohort.FlowCohort, folder: Path, part: str, steps: int) -> torch.Tensor:
    model, _ = checkpoint.load_model(folder)
    assert isinstance(model, RNAFM)
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(
        bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0
    ).of(part)
    means, sizes = (torch.from_numpy(a[rows.bag]) for a in (bagged.means, bagged.sizes))
    white = torch.randn(len(means), 40, model.noise_width, generator=torch.manual_seed(8))
    settings = config.defaults("sample", steps=steps)
    with torch.inference_mode():
        return draw.draw(model, model.encode_image(means, sizes), white, settings)


def test_one_step_is_the_samplers_own(cohort: flow_cohort.FlowCohort, teacher: Path) -> None:
    model, _ = checkpoint.load_model(teacher)
    assert isinstance(model, RNAFM)
    means, sizes = torch.randn(3, 6, 12), torch.ones(3, 6)
    white = torch.randn(3, 5, model.noise_width)
    with torch.inference_mode():
        image = model.encode_image(means, sizes)
        wanted = draw.draw(model, image, white, config.defaults("sample", steps=1))
        found = samplers_student.one_step(model, white.flatten(0, 1), image)
    assert torch.allclose(found.view_as(wanted), wanted, atol=1e-6)


def test_a_gaussian_teacher_has_nothing_to_teach(
    cohort: flow_cohort.FlowCohort, tmp_path: Path
) -> None:
    """With a constant F the law is Gaussian, and one step is exact: ends are F + sd x0."""
    folder = build(cohort, tmp_path / "gauss", 0.0)
    model, _ = checkpoint.load_model(folder)
    assert isinstance(model, RNAFM)
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(
        bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0
    ).of("val")
    pairs = samplers_student.teach(model, rows, bagged, 3, 7, 1, 0)
    white = torch.stack([pairs.white(1, m) for m in range(3)])
    sd, active = model.residual_sd().detach(), model.active
    wanted = sd * model.color(white) * active
    assert torch.allclose(pairs.ends[1].float(), wanted, atol=2e-3)
    meta = distil_facts(cohort, folder, tmp_path / "student", epochs=1)
    assert meta["val_loss_undistilled"] < 1e-6
    assert meta["best_epoch"] == 0  # the start is kept


def distil_facts(
    cohort: flow_cohort.FlowCohort, folder: Path, out: Path, **changes: float
) -> dict[str, float]:
    samplers_student.distil(of(cohort, folder), out, STUDENT | changes, 1, CPU)
    return json.loads((out / "model.json").read_text())


def test_the_student_lands_where_its_teacher_does(
    cohort: flow_cohort.FlowCohort, teacher: Path, student: Path
) -> None:
    meta = json.loads((student / "model.json").read_text())
    assert meta["one_step"] is True
    assert meta["teacher"]["steps"] == 12
    assert meta["val_loss"] < 0.5 * meta["val_loss_undistilled"]
    # Slides and noise that it has never seen.
    wanted, plain = draws(cohort, teacher, "test", 12), draws(cohort, teacher, "test", 1)
    taught = draws(cohort, student, "test", 1)
    errors = [float((found - wanted).square().mean()) for found in (plain, taught)]
    assert errors[1] < 0.6 * errors[0]


def test_an_interrupted_student_goes_on_to_the_same_weights(
    cohort: flow_cohort.FlowCohort, teacher: Path, student: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: int) -> None:
        if epoch == 7:
            raise Killed

    with pytest.raises(Killed):
        samplers_student.distil(of(cohort, teacher), tmp_path, STUDENT, 1, CPU, kill)
    assert not (tmp_path / "model.json").exists()
    seen: list[int] = []
    samplers_student.distil(of(cohort, teacher), tmp_path, STUDENT, 1, CPU, seen.append)
    assert seen[0] == 8
    same = [(folder / "model.safetensors").read_bytes() for folder in (student, tmp_path)]
    assert same[0] == same[1]


def test_test_slides_teach_nothing(
    cohort: flow_cohort.FlowCohort, teacher: Path, student: Path, tmp_path: Path
) -> None:
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    other = bagged.means.copy()
    other[rows.of("test", "cal").bag] += 5
    bag_file.save(replace(bagged, means=other), tmp_path / "bags.safetensors")
    inputs = replace(of(cohort, teacher), bags=tmp_path / "bags.safetensors")
    samplers_student.distil(inputs, tmp_path / "student", STUDENT, 1, CPU)
    found = (tmp_path / "student" / "model.safetensors").read_bytes()
    assert found == (student / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes", [{"steps": 2}, {"solver": "euler"}, {"guidance": 2.0}], ids=lambda c: next(iter(c))
)
def test_a_student_is_asked_for_one_step_alone(
    cohort: flow_cohort.FlowCohort, student: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    model, meta = checkpoint.load_model(student)
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    settings = config.defaults("sample", draws=4) | one_step.ONE_STEP | changes
    arrays = (bagged.means, bagged.sizes)
    out = (tmp_path / "draws.zarr", tmp_path / "summary.parquet")
    with pytest.raises(ConfigError, match="student"):
        fold_draws.sample_fold(
            model, meta, arrays, rows.of("test"), settings, 1, 0, "flow", *out, CPU
        )
    assert not out[0].exists()


def test_only_flows_can_be_distilled(
    cohort: flow_cohort.FlowCohort, teacher: Path, student: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="student"):
        samplers_student.distil(of(cohort, student), tmp_path, STUDENT, 1, CPU)
    bagged = bag_file.load(cohort.inputs.bags)
    narrow = replace(bagged, means=np.ascontiguousarray(bagged.means[:, :, :5]))
    bag_file.save(narrow, tmp_path / "bags.safetensors")
    inputs = replace(of(cohort, teacher), bags=tmp_path / "bags.safetensors")
    with pytest.raises(StageError, match=r"\(6, 12\)"):
        samplers_student.distil(inputs, tmp_path, STUDENT, 1, CPU)


@pytest.mark.slow
def test_the_command_line(
    repo: Path, cohort: flow_cohort.FlowCohort, teacher: Path, tmp_path: Path
) -> None:
    main = runpy.run_path(str(repo / "scripts" / "samplers.py"))["main"]
    files = cohort.inputs
    paths = {"bags": files.bags, "slides": files.slides, "splits": files.splits}
    given = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    given += ["--model", str(teacher), "--out", str(tmp_path / "s"), "--fold", "0"]
    given = ["student", *given]
    main([*given, "--settings", '{"epochs": 1, "pairs": 1, "steps": 2}', "--device", "cpu"])
    assert json.loads((tmp_path / "s" / "model.json").read_text())["teacher"]["pairs"] == 1
