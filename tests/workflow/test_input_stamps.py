"""What was read is what is recorded: Snakemake's plan after each kind of change of an input."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
INPUTS = ("slides", "h5", "star", "sheet.tsv", "rna.csv", "splits.tsv", "sets.gmt")
TARGETS = ("bags/{encoder}.safetensors", "guard.json", "pathways/sets.parquet")


def plan(*folders: Path, finish: bool = False) -> list[set[str]]:
    """Rules that the plan of all three cohorts has in each folder, or have all of it made up."""
    cohorts = {"own": "files", "tiled": "color", "counts": "color"}
    paths = [
        f"results/{name}/{target.format(encoder=encoder)}"
        for name, encoder in cohorts.items()
        for target in TARGETS
    ]
    args = ["-s", str(REPO / "Snakefile"), "--cores", "1", "--nolock"]
    jobs = [
        {"args": [*args, "--directory", str(folder), "--", *paths], "finish": finish}
        for folder in folders
    ]
    done = subprocess.run(
        [sys.executable, str(REPO / "tests/support/dry_runs.py")],
        input=json.dumps(jobs),
        cwd=folders[0],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["status"] for one in found] == [0] * len(folders), found
    return [set(one["jobs"]) for one in found]


def write(folder: Path) -> None:
    """A cohort with own features and a split, one of slides, and one with a folder of counts."""
    names = [f"S{number}" for number in range(6)]
    for part in ("slides", "h5", "star"):
        (folder / part).mkdir(parents=True)
    for name in names:
        (folder / f"slides/{name}.svs").write_bytes(name.encode() * 40)
        (folder / f"h5/{name}.h5").write_bytes(name.encode() * 30)
        (folder / f"star/{name}.tsv").write_text(name * 20)
    rows = [f"{name}\t{name}\tslides/{name}.svs" for name in names]
    (folder / "sheet.tsv").write_text("\n".join(["slide_id\tpatient_id\tslide", *rows]) + "\n")
    (folder / "rna.csv").write_text("sample_id,A\nS1,1.0\n")
    (folder / "splits.tsv").write_text("patient_id\tfold\tpart\n")
    (folder / "sets.gmt").write_text("a\tb\tA\n")
    sheet = {"source": "sheet", "sheet": "sheet.tsv", "expression": "rna.csv", "shards": 2}
    own = {"encoder": "files", "path": "h5"}
    color = {"encoder": "color"}
    cohorts = {
        "own": sheet | {"splits": "splits.tsv", "settings": {"features": own}},
        "tiled": sheet | {"settings": {"features": color}},
        "counts": sheet | {"expression": "star", "settings": {"features": color}},
    }
    config = {"cohorts": cohorts, "pathways": {"source": "sets.gmt"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def edit(path: Path) -> None:
    """Change one byte; size and time of modification stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    """Put a copy with another byte in its place, as `cp -p` and `mv` do, with an old time."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    content = bytearray(copy.read_bytes())
    content[-2] ^= 1
    copy.write_bytes(content)
    os.utime(copy, (1e9, 1e9))
    copy.rename(path)


# A file, and the first rule that reads it in each cohort.
READERS = {
    "slides/S1.svs": {"own": "download", "tiled": "download", "counts": "download"},
    "h5/S1.h5": {"own": "features"},
    "star/S1.tsv": {"counts": "cohort"},
    "rna.csv": {"own": "cohort", "tiled": "cohort"},
    "splits.tsv": {"own": "split"},
    "sets.gmt": {"own": "pathways", "tiled": "pathways", "counts": "pathways"},
}
ORDER = ("cohort", "split", "download", "features", "pathways")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run to its end, as far as Snakemake can tell."""
    folder = tmp_path_factory.mktemp("inputs") / "project"
    write(folder)
    assert plan(folder, finish=True)[0]
    return folder


def test_a_replaced_file_reruns_what_reads_it_whatever_its_time(
    finished: Path, tmp_path: Path
) -> None:
    copies = {}
    for change, file in itertools.product((edit, replace), READERS):
        copy = tmp_path / change.__name__ / file
        shutil.copytree(finished, copy, symlinks=True)
        change(copy / file)
        copies[change.__name__, file] = copy
    for (change, file), jobs in zip(copies, plan(*copies.values()), strict=True):
        assert {job.split()[1] for job in jobs} == set(READERS[file]), (change, file)
        for cohort, first in READERS[file].items():
            found = [rule for rule in ORDER if f"{rule} {cohort}" in jobs]
            assert found[0] == first, (change, file)


def test_another_time_or_place_reruns_nothing(finished: Path, tmp_path: Path) -> None:
    """Nor does a change that is taken back."""
    moved, back = tmp_path / "moved" / "project", tmp_path / "back"
    for copy in (moved, back):
        shutil.copytree(finished, copy, symlinks=True)
    files = [path for path in moved.rglob("*") if path.is_file()]
    inputs = [path for path in files if path.relative_to(moved).parts[0] in INPUTS]
    assert len(inputs) == 22
    for path in inputs:
        os.utime(path)
    for file in READERS:
        edit(back / file)
        shutil.copyfile(finished / file, back / file)
    assert plan(finished, moved, back) == [set(), set(), set()]
