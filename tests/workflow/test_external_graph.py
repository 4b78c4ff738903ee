"""The graph of an external validation and of the leak audit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from job_graph import job_counts, snakemake

LAW = {
    "source": "law",
    "settings": {
        "features": {"encoder": "files"},
        "folds": {"n": 3},
        "sample": {"keep": "summary"},
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    text = {"cohorts": {"A": LAW, "B": LAW}, "external": [{"train": "A", "test": "B"}]}
    path.write_text(yaml.safe_dump(text))
    return path


def test_external_samples_every_fold_model_and_trains_only_the_first_cohort(
    repo: Path, tmp_path: Path, config: Path
) -> None:
    done = snakemake(repo, tmp_path, "-n", "-p", "--configfile", str(config), "--", "external")
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout + done.stderr)
    for rule, number in {
        **{"train": 3, "sample": 3, "external_sample": 3, "cohort": 2, "bags": 2},
        **{"external_units": 1, "external_score": 1, "pathways": 1},
    }.items():
        assert counts[rule] == number, rule
    assert "evaluate" not in counts
    # 100 draws over three fold models: 34 each, kept whatever the cohort keeps of its own.
    assert '"draws": 34, "guidance": 1.0, "keep": "draws"' in done.stdout + done.stderr


def test_external_without_a_pair_is_one_line(repo: Path, tmp_path: Path) -> None:
    done = snakemake(repo, tmp_path, "-n", "--", "external")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: external: config.yaml names no pair; add one: external: [{")
    assert "Traceback" not in done.stderr


def test_everything_includes_external_pages(repo: Path, tmp_path: Path, config: Path) -> None:
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config))
    assert done.returncode == 0, done.stderr
    assert job_counts(done.stdout + done.stderr)["external_score"] == 1


def test_leak_audit_needs_neither_models_nor_gene_sets(
    repo: Path, tmp_path: Path, config: Path
) -> None:
    table = f"{tmp_path}/A/leak_audit/audit.parquet"
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config), "--", table)
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout + done.stderr)
    assert counts["audit_pairings"] == 1
    assert not {"train", "sample", "pathways"} & counts.keys()
