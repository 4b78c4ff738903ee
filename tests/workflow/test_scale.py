"""8,000 slides: as many shards as the preflight proposes are planned in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from job_graph import job_counts
from slide2rna.core import config
from slide2rna.operations import doctor_config

SLIDES, SECONDS, MEGABYTES = 8000, 15.0, 300.0
# In a process of its own: seconds of CPU, children's too,
# since the machine may be busy, and its peak of memory.
MEASURED = """
import json, os, sys
from pathlib import Path
from snakemake import cli
try:
    cli.main(sys.argv[1:])
finally:
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 2**10
    print(json.dumps({"seconds": sum(os.times()[:4]), "MB": peak}), file=sys.stderr)
"""


@pytest.fixture
def cohort(tmp_path: Path) -> dict[str, object]:
    """A sheet of 8,000 slides that exist, and its block, without a number of shards."""
    names = [f"TCGA-{i:05d}-01Z-00-DX1" for i in range(SLIDES)]
    rows = {"slide_id": names, "patient_id": names, "slide": [f"{name}.svs" for name in names]}
    sheet, expression = tmp_path / "slides.tsv", tmp_path / "rna.parquet"
    pl.DataFrame(rows).write_csv(sheet, separator="\t")
    expression.touch()
    for name in names:
        (tmp_path / f"{name}.svs").write_text(name)
    return {"source": "sheet", "sheet": str(sheet), "expression": str(expression)}


def plan(repo: Path, tmp_path: Path) -> tuple[str, dict[str, float]]:
    """What Snakemake prints, and what it took."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "-n", "-s", str(repo / "Snakefile"), "--", "many"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr, json.loads(done.stderr.splitlines()[-1])


def test_eight_thousand_slides_are_planned_in_seconds(
    repo: Path, tmp_path: Path, cohort: dict[str, object]
) -> None:
    settings = config.validate({"cohorts": {"many": dict(cohort)}})
    (finding,) = doctor_config.check_shards(settings)
    assert finding.status == "warn"
    assert "shards: 125" in finding.remedy
    own = {"cohorts": {"many": cohort | {"shards": 125}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(own))
    said, took = plan(repo, tmp_path)
    counts = job_counts(said)
    assert [counts[rule] for rule in ("download", "tiles", "features")] == [125] * 3
    assert counts["total"] < 410

    # And once all of it is there: nothing to do, and that is found out as fast.
    finish = [{"args": ["-s", str(repo / "Snakefile"), "--", "many"], "finish": True}]
    planner = [sys.executable, str(repo / "tests" / "support" / "dry_runs.py")]
    done = subprocess.run(
        planner, input=json.dumps(finish), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["status"] == 0, done.stdout
    again, took_again = plan(repo, tmp_path)
    assert "Nothing to be done" in again
    for what, found in (("all", took), ("nothing", took_again)):
        print(f"{what} to do: {found['seconds']:.1f} s of CPU, {found['MB']:.0f} MB")
        assert found["seconds"] < SECONDS
        assert found["MB"] < MEGABYTES
