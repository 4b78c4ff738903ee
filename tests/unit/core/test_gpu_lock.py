"""A GPU per job: a made-up list of GPUs, and real processes that hold them and are killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from slide2rna import DRIVER
from slide2rna.core import devices, errors, gpu_lock

pytestmark = pytest.mark.slow  # jobs are processes

# What `nvidia-smi -L` prints: of two whole GPUs and one that is cut into two.
WHOLE = "GPU 0: NVIDIA H100 (UUID: GPU-aaaa)\nGPU 1: NVIDIA H100 (UUID: GPU-bbbb)\n"
PARTS = """\
GPU 2: NVIDIA H100 (UUID: GPU-cccc)
  MIG 3g.40gb     Device  0: (UUID: MIG-c0)
  MIG 3g.40gb     Device  1: (UUID: MIG-c1)
"""
HOLD = """
import logging, sys
from pathlib import Path
from slide2rna.core import gpu_lock
logging.basicConfig(level="INFO", format="%(message)s")
print(gpu_lock.lock_gpu(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""
# Two at a time on one GPU would find the other's file.
ALONE = """
import os, sys, time
from pathlib import Path
from slide2rna.core import gpu_lock

folder = Path(sys.argv[1])
mine = folder / f"{gpu_lock.lock_gpu(folder)}.used"
os.close(os.open(mine, os.O_CREAT | os.O_EXCL))
time.sleep(0.1)
mine.unlink()
print(os.environ["CUDA_VISIBLE_DEVICES"])
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the locks, and on the PATH an nvidia-smi that lists three GPUs' names."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    third = WHOLE.splitlines()[0].replace("GPU 0", "GPU 2").replace("aaaa", "cccc")
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{WHOLE}{third}\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back as it was
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setattr(gpu_lock, "_held", [])
    locks = tmp_path / "locks"
    locks.mkdir()
    return locks


def start(code: str, locks: Path, repo: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(locks)],
        env=os.environ | {"PYTHONPATH": str(repo / "scripts")} | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_parts_of_a_gpu_stand_for_it() -> None:
    assert gpu_lock.list_gpus(WHOLE) == ["GPU-aaaa", "GPU-bbbb"]
    assert gpu_lock.list_gpus(WHOLE + PARTS) == ["GPU-aaaa", "GPU-bbbb", "MIG-c0", "MIG-c1"]
    assert gpu_lock.list_gpus("No devices were found\n") == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, {"GPU-aaaa": "GPU-aaaa", "GPU-bbbb": "GPU-bbbb"}),
        ("1,0", {"GPU-bbbb": "1", "GPU-aaaa": "0"}),
        ("GPU-bb", {"GPU-bbbb": "GPU-bb"}),
        ("0,7,1", {"GPU-aaaa": "0"}),
        ("0, GPU-aaaa", {"GPU-aaaa": "0"}),
        ("", {}),
        ("-1", {}),
    ],
)
def test_the_variable_is_the_list_to_choose_from(given: str | None, found: dict[str, str]) -> None:
    there = gpu_lock.list_gpus(WHOLE)
    environment = {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    assert gpu_lock.usable_gpus(there, environment) == found
    # CUDA takes them in this order, so that is the order in which they are tried.
    assert list(gpu_lock.usable_gpus(there, environment)) == list(found)


def test_each_process_has_its_own_and_a_killed_one_gives_its_back(
    machine: Path, repo: Path
) -> None:
    holders = [start(HOLD, machine, repo) for _ in range(3)]
    late = None
    try:
        held = [said(process) for process in holders]
        assert sorted(held) == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]
        late = start(HOLD, machine, repo)
        assert late.stderr is not None
        assert "3 GPUs" in late.stderr.readline()
        time.sleep(3 * gpu_lock.POLL_S)
        assert late.poll() is None
        holders[1].kill()
        assert said(late) == held[1]
    finally:
        for process in [*holders, *([late] if late else [])]:
            process.kill()
            process.communicate()


def test_no_two_of_many_are_ever_on_one(machine: Path, repo: Path) -> None:
    many = [start(ALONE, machine, repo, CUDA_VISIBLE_DEVICES="2,0") for _ in range(6)]
    ended = [process.communicate(timeout=300) for process in many]
    assert [process.returncode for process in many] == [0] * 6, ended
    assert {out.strip() for out, _ in ended} <= {"2", "0"}


def test_a_gpu_set_by_the_scheduler_is_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs of Slurm that see their own GPU as number 0 must not wait for each other."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_lock.lock_gpu(machine) == "0"
    assert not list(machine.iterdir())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_an_order_that_somebody_chose_stays(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    gpu_lock.lock_gpu(machine)
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    gpu_lock._held.pop().release()


def test_a_lock_on_a_file_that_was_cleared_away_doesnt_count(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted between opening and locking: the next job would lock another file of that name."""
    path, real, opened = machine / "GPU-aaaa.lock", fcntl.flock, list[int]()

    def late(handle: int, how: int) -> None:
        opened.append(handle)
        if len(opened) == 1:
            path.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    path.touch()
    os.utime(path, (0, 0))
    taken = machine / f"{gpu_lock.lock_gpu(machine)}.lock"
    assert os.fstat(opened[-1]).st_ino == taken.stat().st_ino
    gpu_lock._held.pop().release()
    # One that lies there from an earlier job is as good as new.
    path.touch()
    os.utime(path, (0, 0))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu_lock.lock_gpu(machine) == "GPU-aaaa"
    assert time.time() - path.stat().st_mtime < 60
    gpu_lock._held.pop().release()


def test_one_gpu_is_not_several(machine: Path, repo: Path) -> None:
    (machine.parent / "bin" / "nvidia-smi").write_text(
        f"#!/bin/sh\necho '{WHOLE.splitlines()[0]}'\n"
    )
    pair = [start(HOLD, machine, repo)]
    try:
        assert said(pair[0]) == "GPU-aaaa"
        pair.append(start(HOLD, machine, repo))
        assert pair[1].stderr is not None
        assert pair[1].stderr.readline().startswith("1 GPU in use")
    finally:
        for process in pair:
            process.kill()
            process.communicate()


def test_a_process_keeps_the_one_that_it_has(machine: Path) -> None:
    assert len(gpu_lock.visible_gpus()) == 3
    first = gpu_lock.lock_gpu(machine)
    assert first == os.environ["CUDA_VISIBLE_DEVICES"] == gpu_lock.lock_gpu(machine)
    assert len(list(machine.iterdir())) == 1
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    gpu_lock._held.pop().release()


def test_without_a_driver_nothing_is_asked_or_locked(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is left over on a machine without GPUs has no job wait for another."""
    (machine.parent / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho no driver\nexit 9\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_lock.lock_gpu(machine) is None
    assert not list(machine.iterdir())
    assert gpu_lock.visible_gpus() == []


def test_choosing_a_device_takes_one(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_lock, "_lock_folder", lambda: machine)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    devices.choose_device("cpu")
    assert not list(machine.iterdir())
    devices.choose_device("auto")
    assert [path.name for path in machine.iterdir()] == ["GPU-aaaa.lock"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"
    gpu_lock._held.pop().release()


def test_a_job_takes_no_gpu_that_its_snakemake_has_not_asked_for(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started on a login node without a driver, on a node whose GPUs are for others."""
    monkeypatch.setattr(gpu_lock, "_lock_folder", lambda: machine)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(DRIVER, "")
    assert devices.choose_device("auto").type == "cpu"
    assert not list(machine.iterdir())


def test_locks_in_another_users_folder_are_refused(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_294_967_000)
    folder = Path("/tmp/slide2rna-gpus-4294967000")
    try:
        folder.write_text("planted")
        with pytest.raises(errors.DeviceError, match="folder"):
            gpu_lock.lock_gpu()
    finally:
        folder.unlink()
