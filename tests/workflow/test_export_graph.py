"""The graph of exports: on request alone, one job per cohort, of the run that is reported."""

from __future__ import annotations

from pathlib import Path

import yaml
from job_graph import job_counts, snakemake


def test_exports_are_made_on_request_alone(repo: Path, tmp_path: Path) -> None:
    own = {"features": {"encoder": "files"}, "folds": {"n": 3}, "models": ["flow", "abmil"]}
    config = tmp_path / "a.yaml"
    config.write_text(yaml.safe_dump({"cohorts": {"A": {"source": "law", "settings": own}}}))
    done = snakemake(repo, tmp_path, "-n", "-p", "--configfile", str(config), "--", "export")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    counts = job_counts(said)
    # The demo of config.yaml, with five folds, is there as well.
    assert (counts["export_run"], counts["evaluate"], counts["shift"]) == (2, 2, 3 + 5)
    assert "report" not in counts
    assert "--run files-flow-go-bp" in said
    assert "--run files-abmil-go-bp --features" not in said
    asked = snakemake(repo, tmp_path, "-n", "--configfile", str(config), "--", "A")
    assert asked.returncode == 0, asked.stderr
    assert not {"export", "export_run"} & job_counts(asked.stdout + asked.stderr).keys()
