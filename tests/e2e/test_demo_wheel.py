"""A wheel of the package, installed outside the checkout, with no file of the repository near."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

RUN = "lite0-flow-go-bp"


@pytest.fixture(scope="module")
def installed(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment with the wheel and this one's dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", python]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, repo]
    subprocess.run([*pip[:5], *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", wheel], check=True)
    # The packages of this environment without its link to the checkout: no .pth there is read.
    packages = Path(sysconfig.get_paths(vars={"base": str(folder / "venv")})["purelib"])
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def run(installed: Path, *command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(installed / command[0]), *map(str, command[1:])],
        cwd=cwd,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_package_is_the_wheels_and_answers(installed: Path, repo: Path, tmp_path: Path) -> None:
    code = "import slide2rna; from slide2rna.core.root import ROOT; print(slide2rna.__file__, ROOT)"
    told = run(installed, "python", "-c", code, cwd=tmp_path).stdout
    assert str(installed.parent) in told
    assert str(repo) not in told
    helped = run(installed, "slide2rna", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "predict" in helped.stdout
    checked = run(installed, "slide2rna", "doctor", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "packages" in checked.stdout


@pytest.mark.timeout(1500)
def test_a_prediction_is_that_of_the_checkout(
    installed: Path, repo: Path, demo: Path, tmp_path: Path
) -> None:
    slide = next((demo / "source" / "new").glob("*.svs"))
    options = [slide, "--model", demo / "models" / RUN, "--threads", 2]
    done = run(installed, "slide2rna", "predict", *options, "--out", "wheel", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = [sys.executable, repo / "scripts" / "predict.py", *options, "--out", tmp_path / "repo"]
    subprocess.run([str(part) for part in script], check=True, capture_output=True)
    ours, theirs = (tmp_path / name / slide.stem for name in ("wheel", "repo"))
    tables = sorted(path.name for path in theirs.glob("*.parquet"))
    assert tables
    for name in tables:
        assert_frame_equal(pl.read_parquet(ours / name), pl.read_parquet(theirs / name))
    records = [json.loads((path / "prediction.json").read_text()) for path in (ours, theirs)]
    assert records[0]["shift"] == records[1]["shift"]
