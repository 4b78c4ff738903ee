"""The small demo as a process that can be killed, and what must hold of its results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import openslide
import polars as pl
import psutil
import zarr
from PIL import Image
from polars.testing import assert_frame_equal
from safetensors import safe_open
from slide2rna.core import files

COMMAND = ["--cores", "2", "--configfile", "tests/config/soak.yaml"]
# In the order of the flow; a fold's or a shard's first log stands for its stage.
STAGES = {
    "generate": "demo.log",
    "cohort": "cohort.log",
    "split": "split.log",
    "download": "download-0.log",
    "guard": "guard.log",
    "tiles": "tiles-0.log",
    "features": "features-lite0-0.log",
    "bags": "bags-lite0.log",
    "pathways": "pathways-go-bp.log",
    "train": "train-lite0-flow-go-bp-0.log",
    "sample": "sample-lite0-flow-go-bp-0.log",
    "evaluate": "evaluate-lite0-flow-go-bp.log",
    "shift": "shift-lite0-flow-go-bp-0.log",
    "abstain": "abstain-lite0-flow-go-bp.log",
    "package": "package-lite0-flow-go-bp.log",
    "report": "report.log",
}
# Seconds that a search took, and the folder that a run has for itself.
OF_THE_RUN = {"seconds", "path"}


def snakemake(*arguments: str, results: str | Path = "results") -> list[str]:
    """The command that is given again and again; `arguments` come before the cohort."""
    config = ["--config", f"results={results}"]
    return [sys.executable, "-m", "snakemake", *COMMAND, *config, *arguments, "--", "demo"]


def run(
    lab: Path, *arguments: str, results: str | Path = "results", timeout: float = 30_000
) -> subprocess.CompletedProcess[str]:
    """Run to the end, whatever it is; both streams as one text in `stdout`."""
    return subprocess.run(
        snakemake(*arguments, results=results),
        cwd=lab,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(lab: Path, *arguments: str, results: str | Path = "results") -> subprocess.Popen[bytes]:
    """As the documentation says after a kill: unlock, then the same command, in the background."""
    run(lab, "--unlock", results=results)
    with open(lab / "snakemake.log", "ab") as log:
        return subprocess.Popen(
            snakemake(*arguments, results=results),
            cwd=lab,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def state(log: Path) -> str:
    """How far the job of a log is: `waiting`, `started` or `finished`."""
    text = log.read_text() if log.exists() else ""
    return "finished" if ": finished" in text else "started" if ": started" in text else "waiting"


def logs_under_way(results: Path) -> dict[str, list[Path]]:
    """Logs of jobs that have started and not finished, by stage."""
    logs = results / "demo" / "logs"
    found = {
        stage: [log for log in logs.glob(first.replace("-0.", "-*.")) if state(log) == "started"]
        for stage, first in STAGES.items()
    }
    return {stage: own for stage, own in found.items() if own}


@contextmanager
def paused(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hold every process of a run still for a while."""
    while moving := [one for one in members(process.pid) if status(one) != psutil.STATUS_STOPPED]:
        for one in moving:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        time.sleep(0.01)
    try:
        yield
    finally:
        for one in members(process.pid):
            one.resume()


def status(process: psutil.Process) -> str:
    """The state of a process; of one that has just gone, "stopped"."""
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_STOPPED


def members(session: int) -> list[psutil.Process]:
    """All processes that live in a session, its leader first."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return sorted(found, key=lambda process: (process.pid != session, process.pid))


def rule_of(process: psutil.Process) -> str:
    """The script that a process runs, or its program's name; of one that has just gone, "gone"."""
    try:
        words = [word for word in process.cmdline() if "scripts/" in word]
        return Path(words[0].partition("scripts/")[2].split()[0]).stem if words else process.name()
    except psutil.NoSuchProcess:  # ZombieProcess is one of these
        return "gone"


def wait_for_nobody(session: int, seconds: float) -> float:
    """Wait until no process is left in a session; the seconds that it took."""
    began = time.monotonic()
    while left := members(session):
        told = [(process.pid, rule_of(process)) for process in left]
        assert time.monotonic() - began < seconds, f"orphans: {told}"
        time.sleep(0.05)
    return time.monotonic() - began


def check_whole(folder: Path, seen: dict[Path, tuple[int, int]]) -> int:
    """Read every file that has its final name and is new since `seen`; how many there were.

    A reader of a half-written file raises.
    """
    count = 0
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if any(part.startswith(".") or ".partial" in part for part in inside.parts):
            continue
        if any(part.endswith(".zarr") for part in inside.parts[:-1]):
            continue
        stat = path.stat()
        if seen.get(path) == (stat.st_ino, stat.st_mtime_ns):
            continue
        seen[path] = (stat.st_ino, stat.st_mtime_ns)
        count += _read(path)
    return count


def _read(path: Path) -> bool:
    match path.suffix:
        case ".parquet":
            pl.read_parquet(path)
        case ".json":
            files.read_json(path)
        case ".h5":
            with h5py.File(path, "r") as file:
                file["features"][()]
        case ".svs":
            with openslide.OpenSlide(path) as slide:
                slide.read_region((0, 0), slide.level_count - 1, slide.level_dimensions[-1])
        case ".safetensors":
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    tensors.get_tensor(name)
        case ".zarr":
            zarr.open_group(path, mode="r")["point"][:]
        case ".jpg" | ".png":
            with Image.open(path) as picture:
                picture.load()
        case ".tsv" if path.parent.name != "benchmarks":
            assert path.read_text().endswith("\n"), path
        case ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        case _:
            return False
    return True


def tables(results: Path) -> dict[str, pl.DataFrame]:
    """Every Parquet table of the demo by its path."""
    return {
        str(path.relative_to(results)): pl.read_parquet(path)
        for path in sorted((results / "demo").rglob("*.parquet"))
    }


def assert_same_tables(results: Path, expected: dict[str, pl.DataFrame]) -> None:
    """As `assert_same`, of all tables in a results folder."""
    assert_same(tables(results), expected)


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    """The same tables with the same columns: texts and counts alike, floats within 1e-5."""
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        columns = [column for column in table.columns if column not in OF_THE_RUN]
        assert_frame_equal(found[name].select(columns), table.select(columns), rel_tol=1e-5)


def temporary(results: Path) -> list[Path]:
    """What is only there while a job writes."""
    return [path for path in results.rglob("*.partial*")]
