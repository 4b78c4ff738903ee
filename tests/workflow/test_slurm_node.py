"""Where the soak's Slurm can't be had, its tests skip with the reason, and nothing is touched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import slurm_node


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose root may install, with no Slurm, whose configuration would be this file."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(slurm_node, "CONFIG", tmp_path / "slurm.conf")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return tmp_path / "slurm.conf"


def test_another_user_than_root(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(slurm_node.NoSlurm, match="started by root, and this is another user"):
        slurm_node.install()


def test_a_slurm_that_is_somebody_elses(bare: Path) -> None:
    bare.write_text("ClusterName=ours\n")
    with pytest.raises(slurm_node.NoSlurm, match="a Slurm of its own, which stays alone"):
        slurm_node.install()
    assert bare.read_text() == "ClusterName=ours\n"


def test_nothing_to_install_it_with(bare: Path) -> None:
    with pytest.raises(slurm_node.NoSlurm, match="no Slurm here, and no apt-get to install it"):
        slurm_node.install()


def test_packages_that_cannot_be_had(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = bare.with_name("apt-get")
    tool.write_text("#!/bin/sh\necho 'E: no network' >&2; exit 100\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tool) if name == "apt-get" else None)
    monkeypatch.setenv("PATH", f"{bare.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(slurm_node.NoSlurm, match="apt-get update failed: E: no network"):
        slurm_node.install()
