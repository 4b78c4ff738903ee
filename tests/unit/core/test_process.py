"""Jobs end with the process that started them: real processes, real kills."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import killed_demo
import psutil
import pytest
from slide2rna.core.process import SNAKEMAKE, ancestors, end_with_parent

SCRIPTS = str(Path(__file__).parents[3] / "scripts")
# As in the log of a job: Snakemake (this file's `parent`), a shell, and the job below it.
JOB = "import sys, time; from slide2rna.core import cli; cli.run(lambda _: time.sleep(600))"
PARENT = f"""
import os, subprocess, sys
os.environ["{SNAKEMAKE}"] = str(os.getpid())
subprocess.run(["bash", "-c", 'set -e; "$0" -c "$1"; true', sys.executable, {JOB!r}])
"""


def start(*command: str, **extra: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": SCRIPTS} | extra
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def wait_until(done: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def family() -> Iterator[list[psutil.Process]]:
    """Parent, shell and job; the job has said that it started."""
    parent = start(sys.executable, "-c", PARENT)
    assert parent.stderr is not None
    assert "started" in parent.stderr.readline()
    leader = psutil.Process(parent.pid)
    yield [leader, *leader.children(recursive=True)]
    for process in psutil.process_iter():
        # Others' processes come and go.
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if process.pid != parent.pid and os.getsid(process.pid) == parent.pid:
                process.kill()
    parent.kill()
    parent.communicate()


@pytest.mark.parametrize("place", [0, 1], ids=["snakemake", "shell"])
def test_a_job_ends_with_what_is_above_it(family: list[psutil.Process], place: int) -> None:
    assert len(family) == 3
    family[place].kill()
    wait_until(lambda: not family[2].is_running())


def test_a_job_whose_snakemake_is_gone_at_its_start_ends() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    job = start(sys.executable, "-c", JOB, **{SNAKEMAKE: str(gone.pid)})
    said = job.communicate(timeout=300)[1]
    assert job.returncode == -9
    assert f"process {gone.pid}" in said


def test_a_job_started_by_a_person_keeps_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SNAKEMAKE, raising=False)
    code = "from slide2rna.core import cli; import time; cli.run(lambda _: time.sleep(2))"
    job = start(sys.executable, "-c", code)
    assert "finished" in job.communicate(timeout=300)[1]


def test_the_pool_of_a_killed_job_ends(tmp_path: Path) -> None:
    command = ["--kind", "demo", "--out", str(tmp_path), "--workers", "2"]
    job = start(sys.executable, f"{SCRIPTS}/demo.py", *command)
    leader = psutil.Process(job.pid)
    wait_until(lambda: len(leader.children(recursive=True)) == 2)
    workers = leader.children(recursive=True)
    job.kill()
    job.communicate()
    wait_until(lambda: not any(worker.is_running() for worker in workers))


def test_an_empty_variable_names_no_snakemake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SNAKEMAKE, "")
    before = threading.active_count()
    end_with_parent()
    assert threading.active_count() == before


def test_a_process_that_has_just_gone_has_no_rule() -> None:
    """The soak tests ask for the names of processes that are being killed."""
    child = subprocess.Popen(["true"])
    process = psutil.Process(child.pid)
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert killed_demo.rule_of(process) in ("gone", "true")
    child.wait()
    assert killed_demo.rule_of(process) == "gone"


def test_ancestors_end_at_the_first_process() -> None:
    found = ancestors()
    assert found[0] == os.getppid()
    assert found[-1] in (0, 1)
    assert os.getpid() not in found
