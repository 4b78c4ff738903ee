"""Draws of a fold by every sampler: one noise for all, none drawn twice after an interruption."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import flow_cohort
import numpy as np
import pytest
import torch
import zarr
from slide2rna.core import config
from slide2rna.core.errors import StageError
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.plan.runs import PlannedSampler
from slide2rna.sampling import draw, fold_draws
from slide2rna.studies.samplers import sampler_draws
from training_cohort import CPU, cohort
from untrained_flow import build

torch.set_num_threads(1)
__all__ = ["cohort"]  # the fixture

BASE = config.defaults("sample", draws=19)
LISTED = [
    PlannedSampler("exponential-3", BASE | {"steps": 3}),
    PlannedSampler("euler-2", BASE | {"solver": "euler", "steps": 2}),
    PlannedSampler("one-step", BASE | {"steps": 1}, True),
]


@pytest.fixture(scope="module")
def model(cohort: flow_cohort.FlowCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(cohort, tmp_path_factory.mktemp("model"), 0.1)


def run(
    cohort: flow_cohort.FlowCohort,
    model: Path,
    out: Path,
    listed: list[PlannedSampler] = LISTED,
    student: bool = True,
) -> None:
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    given = model if student else None
    sampler_draws.draw_samplers(
        model, given, listed, bagged, rows.of("val", "test"), 1, 0, "flow", out, CPU
    )


def read(folder: Path, name: str, array: str) -> np.ndarray:
    return np.asarray(zarr.open_group(folder / f"{name}.zarr", mode="r")[array])


def test_samplers_share_their_noise_and_their_slides(
    cohort: flow_cohort.FlowCohort, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fold-0"
    run(cohort, model, out)
    assert {path.name for path in out.glob("*.zarr")} == {f"{s.name}.zarr" for s in LISTED}
    # The student is the flow itself here, so its single step is the flow's own.
    points = [read(out, sampler.name, "point") for sampler in LISTED]
    assert np.array_equal(points[0], points[1])
    store = zarr.open_group(out / "euler-2.zarr", mode="r")
    assert store.attrs["model"] == "flow.euler-2"
    assert (store.attrs["solver"], store.attrs["steps"]) == ("euler", 2)
    assert set(store.attrs["parts"]) == {"val", "test"}
    rows = np.array(store.attrs["parts"]) == "test"
    draws = [read(out, sampler.name, "draws")[rows].astype(float) for sampler in LISTED]
    assert draws[0].shape[1] == 19
    # Other noise would make them unrelated; another solver moves them a little.
    off = [float(np.abs(other - draws[0]).mean()) for other in (draws[1], draws[0][:, ::-1])]
    assert 0 < off[0] < 0.6 * off[1]


def test_an_interrupted_fold_goes_on_with_the_next_sampler(
    cohort: flow_cohort.FlowCohort, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other = tmp_path / "a" / "fold-0", tmp_path / "b" / "fold-0"
    asked: list[str] = []
    plain = fold_draws.sample_fold

    def watched(*args: object, **more: object) -> None:
        asked.append(str(args[7]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        plain(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fold_draws, "sample_fold", watched)
    with pytest.raises(KeyboardInterrupt):
        run(cohort, model, out)
    assert not out.exists()
    run(cohort, model, out)
    assert asked == [f"flow.{name}" for name in ("exponential-3", "euler-2", "euler-2", "one-step")]
    run(cohort, model, other)
    for sampler in LISTED:
        assert np.array_equal(
            read(out, sampler.name, "draws"), read(other, sampler.name, "draws"), equal_nan=True
        )
    assert list(out.parent.iterdir()) == [out]


def test_changed_inputs_are_sampled_again(
    cohort: flow_cohort.FlowCohort, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "fold-0"
    run(cohort, model, out)
    out.rename(tmp_path / "fold-0.partial")  # as if killed before the last step
    (tmp_path / "fold-0.partial" / "heun-3.zarr.partial").mkdir()
    shutil.rmtree(tmp_path / "fold-0.partial" / "exponential-3.zarr")  # once not listed any more
    asked: list[str] = []
    plain = fold_draws.sample_fold

    def watched(*args: object, **more: object) -> None:
        asked.append(str(args[7]))
        plain(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fold_draws, "sample_fold", watched)
    changed = PlannedSampler("euler-2", LISTED[1].settings | {"guidance": 1.5})
    run(cohort, model, out, [LISTED[0], changed])
    assert asked == ["flow.exponential-3", "flow.euler-2"]
    kept = {path.name for path in out.iterdir()}
    assert kept == {"exponential-3.zarr", "euler-2.zarr", "done.json"}
    assert zarr.open_group(out / "euler-2.zarr", mode="r").attrs["guidance"] == 1.5


def test_a_student_must_be_given(
    cohort: flow_cohort.FlowCohort, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"sampler one-step: .*student"):
        run(cohort, model, tmp_path / "fold-0", LISTED[2:], student=False)


def test_seconds_follow_the_evaluations_whatever_the_load(
    cohort: flow_cohort.FlowCohort, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that ticks with every evaluation, and stands still or jumps in the first round."""
    now, calls = [0.0], [0]
    plain = draw.draw

    def ticking(*args: object, **more: object) -> torch.Tensor:
        settings = args[3]
        calls[0] += 1
        load = 50.0 if calls[0] <= len(LISTED) else 1.0
        now[0] += load * settings["steps"]  # type: ignore[index]
        return plain(*args, **more)  # type: ignore[arg-type]

    out = tmp_path / "fold-0"
    run(cohort, model, out)
    out.rename(tmp_path / "fold-0.partial")  # so that only the clock runs again
    monkeypatch.setattr(draw, "draw", ticking)
    monkeypatch.setattr(sampler_draws.time, "perf_counter", lambda: now[0])
    run(cohort, model, out)
    assert calls[0] == sampler_draws.ROUNDS * len(LISTED)
    found = [sampler_draws.seconds(out / f"{sampler.name}.zarr") for sampler in LISTED]
    slides = 5  # of test, all in one chunk
    wanted = [sampler.settings["steps"] / slides * 100 / 19 for sampler in LISTED]
    assert found == pytest.approx(wanted)


def test_the_command_line(
    repo: Path, cohort: flow_cohort.FlowCohort, model: Path, tmp_path: Path
) -> None:
    files, out = cohort.inputs, tmp_path / "fold-0"
    paths = {"bags": files.bags, "slides": files.slides, "splits": files.splits, "model": model}
    given = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    listed = [["one-step", {"steps": 1, "draws": 4}, True]]
    given += ["--student", str(model), "--fold", "0", "--device", "cpu", "--label", "abc"]
    given += ["--samplers", json.dumps(listed), "--out", str(out)]
    runpy.run_path(str(repo / "scripts" / "samplers.py"))["main"](["draw", *given])
    assert zarr.open_group(out / "one-step.zarr", mode="r").attrs["model"] == "abc.one-step"
