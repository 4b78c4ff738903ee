"""The graph of samplers: what it trains and draws, and when there is nothing to sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from job_graph import job_counts, snakemake

SHORT = [{"solver": "exponential", "steps": 2}, {"solver": "euler", "steps": 3}]


def write(path: Path, **settings: Any) -> str:
    own = {"features": {"encoder": "files"}, "folds": {"n": 3}} | settings
    path.write_text(yaml.safe_dump({"cohorts": {"A": {"source": "law", "settings": own}}}))
    return str(path)


@pytest.mark.parametrize(("one_step", "students"), [(True, 3), (False, None)])
def test_samplers_are_drawn_in_one_job_per_fold(
    repo: Path, tmp_path: Path, one_step: bool, students: int | None
) -> None:
    own = {"variants": SHORT, "reference": "exponential-2", "draws": 19, "one_step": one_step}
    config = write(tmp_path / "a.yaml", samplers=own)
    table = f"{tmp_path}/A/samplers/files-flow-go-bp/samplers.parquet"
    done = snakemake(repo, tmp_path, "-n", "-p", "--configfile", config, "--", table)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    counts = job_counts(said)
    assert (counts["train"], counts["sample_variants"], counts["score_samplers"]) == (3, 3, 1)
    assert counts.get("distil") == students
    # The run's own draws, 100 per slide, aren't needed.
    assert not {"sample", "evaluate"} & counts.keys()
    assert ("--student" in said) == one_step
    folder = f"{tmp_path}/A/samplers/files-flow-go-bp/draws"
    files = [f"{folder}/fold-{fold}/exponential-2.zarr" for fold in range(3)]
    assert f"--draws {' '.join(files)} --models" in said
    assert said.count(f"Would remove temporary output {folder}/fold-") == 3


def test_the_report_waits_for_them_where_extras_say_so(repo: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "a.yaml", extras=["samplers"])
    done = snakemake(repo, tmp_path, "-n", "--configfile", config, "--", "A")
    assert done.returncode == 0, done.stderr
    assert job_counts(done.stdout + done.stderr)["score_samplers"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": ["abmil"], "extras": ["samplers"]}, "its first model isn't the flow"),
        ({"samplers": {"reference": "euler-7"}}, "samplers.reference: euler-7: variants are"),
        ({"samplers": {"variants": [{"solver": "rk4", "steps": 2}]}}, "allowed are exponential"),
    ],
)
def test_wrong_settings_get_one_line(
    repo: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    config = write(tmp_path / "a.yaml", **settings)
    done = snakemake(repo, tmp_path, "-n", "--configfile", config)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
