"""A full disk, a read-only folder, clocks that jump, two runs in a folder, a slide that goes away.

Each is real. Each ends with one line that says what is wrong, and the same command finishes the
work once it is fixed: the tables are those of an undisturbed run.

python -m pytest tests/soak/test_troubles.py -s
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import killed_demo
import polars as pl
import pytest
from slide2rna.core import seeds

DAY_S, SHARDS = 86_400, 3
Tables = dict[str, pl.DataFrame]
pytestmark = pytest.mark.timeout(36_000)


@pytest.fixture
def finished(quiet: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with Snakemake's memory of it."""
    return Path(shutil.copytree(quiet, tmp_path / "slide2rna", symlinks=True))


def forget(lab: Path, *folders: str) -> None:
    """Delete what stages have left, so that they run again."""
    for name in folders:
        shutil.rmtree(lab / "results" / "demo" / name)


def mount(*arguments: str | Path) -> None:
    command = ["mount", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def errors(text: str) -> set[str]:
    """The program's own lines in the output, which has the logs of failed jobs."""
    return {line.strip() for line in text.splitlines() if line.strip().startswith("error: ")}


def wait_for(there: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not there():
        assert process.poll() is None
        time.sleep(0.005)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(quiet: Path, small_disk: Path, expected: Tables) -> None:
    lab = Path(shutil.copytree(quiet, small_disk / "slide2rna", symlinks=True))
    forget(lab, "tiles", "features", "bags", "models", "draws", "evaluation", "shift", "report")
    used = (lambda u: u.total - u.free)(shutil.disk_usage(small_disk))
    told: list[str] = []
    for free_mb in (1, 4, 10, 200):
        size = used + free_mb * 2**20
        mount("-o", f"remount,size={size}", small_disk)
        done = killed_demo.run(lab)
        killed_demo.check_whole(lab / "results", {})
        if done.returncode == 0:
            break
        # Snakemake itself complains as well, at length, when its own log can't be written.
        logs = "".join(path.read_text() for path in (lab / "results/demo/logs").iterdir())
        found = errors(logs)
        assert found, done.stdout[-6000:]
        assert all("No space left on device" in line for line in found), found
        assert "Traceback" not in logs, logs
        failed = sorted(set(re.findall(r"Error in rule (\w+):", done.stdout)))
        told.append(f"{free_mb} MB: {', '.join(failed)}")
    print("\n" + "\n".join(told))
    assert done.returncode == 0
    assert len(told) >= 3
    killed_demo.assert_same_tables(lab / "results", expected)
    assert killed_demo.temporary(lab / "results") == []


NOT_WRITABLE = (
    "error: results: nothing can be written there (Read-only file system); "
    "make it writable, or name another folder"
)


@pytest.mark.parametrize(
    ("missing", "told"),
    [(["report"], NOT_WRITABLE), (["evaluation", "report"], "Write-protected output files")],
    ids=["nothing to write over", "files to write over"],
)
def test_a_read_only_folder(
    finished: Path, expected: Tables, missing: list[str], told: str
) -> None:
    results = finished / "results"
    forget(finished, *missing)
    mount("--bind", results, results)
    try:
        mount("-o", "remount,ro,bind", results)
        done = killed_demo.run(finished)
        planned = killed_demo.run(finished, "-n")
    finally:
        subprocess.run(["umount", str(results)], check=True)
    assert done.returncode == 1
    assert told in done.stdout
    assert "Traceback" not in done.stdout
    if told == NOT_WRITABLE:
        assert planned.returncode == 0, planned.stdout[-2000:]
    assert killed_demo.run(finished).returncode == 0
    killed_demo.assert_same_tables(results, expected)


def test_two_runs_in_one_folder(finished: Path, expected: Tables) -> None:
    forget(finished, "models", "draws", "evaluation", "report")
    first = killed_demo.start(finished)
    wait_for((finished / "results/demo/models").exists, first)
    second = killed_demo.run(finished)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout
    assert "--unlock" in second.stdout
    assert first.wait() == 0
    killed_demo.assert_same_tables(finished / "results", expected)
    assert "Nothing to be done" in killed_demo.run(finished).stdout


def take_away(lab: Path, slide: Path, target: Path) -> subprocess.Popen[bytes]:
    """Start a run and move a slide after its download was checked and before its shard is tiled.

    All processes stand still meanwhile. A run that was too fast begins again.
    """
    demo = lab / "results/demo"
    shard = f"shard-{seeds.shard_of(slide.stem, SHARDS)}.parquet"
    while True:
        for name in ("slides", "tiles", "features", "bags"):
            shutil.rmtree(demo / name, ignore_errors=True)
        # It names the slides of the folder that was copied.
        (demo / "slides.parquet").unlink(missing_ok=True)
        run = killed_demo.start(lab)
        wait_for((demo / "slides" / shard).exists, run)
        with killed_demo.paused(run):
            in_time = not (demo / "tiles" / shard).exists()
            if in_time:
                slide.rename(target / slide.name)
            else:
                os.killpg(run.pid, signal.SIGKILL)
        if in_time:
            return run
        run.wait()


def test_a_slide_goes_away_in_mid_run(finished: Path, tmp_path: Path, expected: Tables) -> None:
    demo = finished / "results/demo"
    forget(finished, "models", "draws", "evaluation")
    slide = demo / "source/slides/DEMO-007-S1.svs"
    run = take_away(finished, slide, tmp_path)
    assert run.wait() == 1
    text = (finished / "snakemake.log").read_text()
    assert "Traceback" not in text
    found = errors(text)
    assert len(found) == 1
    assert "slides that were there are gone: DEMO-007-S1; bring them back" in found.pop()
    # In the tiles or, if it was being tiled, in the features: that stage did all other slides.
    done = {path: path.stat().st_mtime_ns for path in demo.glob("tiles/DEMO-*.json")}
    done |= {path: path.stat().st_mtime_ns for path in demo.glob("features/*/DEMO-*.h5")}
    others = {path.stem for path in done} - {"DEMO-007-S1"}
    assert len(others) == 128  # and one has too little tissue
    assert not list(demo.glob("features/*/DEMO-007-S1.h5"))
    (tmp_path / slide.name).rename(slide)
    again = killed_demo.run(finished)
    assert again.returncode == 0, again.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in done} == done
    killed_demo.assert_same_tables(finished / "results", expected)


# libfaketime would do, but the one that Debian has breaks the sleep of Python 3.11. Only the wall
# clock is changed; waiting goes by the monotonic one, which doesn't jump on a real machine either.
CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) {
  char text[32] = {0};
  int file = open(getenv("CLOCK_JUMP"), O_RDONLY);
  if (file < 0) return 0;
  if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
  close(file);
  return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *t) {
  int bad = syscall(SYS_clock_gettime, id, t);
  if (!bad && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += jump();
  return bad;
}
int gettimeofday(struct timeval *t, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (t) *t = now.tv_sec;
  return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_clock_that_jumps_while_jobs_run(
    finished: Path, tmp_path: Path, expected: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day ahead in mid-features, two days back in mid-training: it shows in the logs alone."""
    forget(finished, "features", "bags", "models", "draws", "evaluation", "report")
    clock, library = tmp_path / "clock", tmp_path / "clock.so"
    (tmp_path / "clock.c").write_text(CLOCK)
    made = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "clock.c")]
    subprocess.run(made, check=True)
    clock.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_JUMP", str(clock))
    tell = [sys.executable, "-c", "import time; print(int(time.time()))"]
    clock.write_text(str(-DAY_S))
    seen = int(subprocess.run(tell, capture_output=True, text=True, check=True).stdout)
    assert abs(seen + DAY_S - time.time()) < 60
    clock.write_text("0")
    run = killed_demo.start(finished)
    monkeypatch.undo()
    results = finished / "results/demo"
    for stage, jump in (("features", DAY_S), ("models", -DAY_S), ("draws", 3 * DAY_S)):
        wait_for(lambda stage=stage: any((results / stage).glob("**/*.*")), run)  # type: ignore[misc]
        clock.write_text(str(jump))
    assert run.wait() == 0, (finished / "snakemake.log").read_text()[-4000:]
    killed_demo.assert_same_tables(finished / "results", expected)
    assert "Nothing to be done" in killed_demo.run(finished).stdout


def shift(path: Path, seconds: float) -> None:
    when = path.stat().st_mtime + seconds
    os.utime(path, (when, when))


def test_files_of_a_clock_that_was_ahead(finished: Path, expected: Tables) -> None:
    """Outputs that seem to be made tomorrow: jobs after them say so, until they are touched."""
    demo = finished / "results/demo"
    forget(finished, "evaluation", "report")
    for path in demo.glob("draws/*/fold-*.parquet"):
        shift(path, DAY_S)
    for path in demo.glob("models/*/fold-*/model.json"):
        shift(path, DAY_S)
    run = killed_demo.run(finished)
    assert run.returncode == 1
    assert "could indicate a clock skew" in run.stdout
    assert "Traceback" not in run.stdout
    touched = killed_demo.run(finished, "--touch", "--forceall")
    assert touched.returncode == 0, touched.stdout[-3000:]
    again = killed_demo.run(finished)
    assert again.returncode == 0, again.stdout[-3000:]
    killed_demo.assert_same_tables(finished / "results", expected)


def test_files_of_a_clock_that_was_behind(finished: Path, expected: Tables) -> None:
    """Outputs that seem to be older than their inputs are made again, and nothing else happens."""
    for path in (finished / "results/demo/draws").glob("*/fold-*.parquet"):
        shift(path, -DAY_S)
    again = killed_demo.run(finished)
    assert again.returncode == 0, again.stdout[-3000:]
    ran = set(re.findall(r"^(?:local)?rule (\w+):", again.stdout, re.M))
    assert "sample" in ran
    assert not ran & {"generate", "cohort", "split", "download", "guard", "tiles", "features"}
    assert not ran & {"weights", "bags", "pathways", "train"}
    killed_demo.assert_same_tables(finished / "results", expected)
    assert "Nothing to be done" in killed_demo.run(finished).stdout
