"""The graph that Snakemake plans, and what it says to a wrong configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from job_graph import job_counts, snakemake


def test_demo_graph(repo: Path, tmp_path: Path) -> None:
    done = snakemake(repo, tmp_path, "-n")
    assert done.returncode == 0, done.stderr
    assert job_counts(done.stdout + done.stderr) == {
        "generate": 1,
        "cohort": 1,
        "split": 1,
        "download": 2,
        "guard": 1,
        "tiles": 2,
        "weights": 1,
        "features": 2,
        "bags": 1,
        "pathways": 1,
        "train": 5,
        "sample": 5,
        "evaluate": 1,
        "shift": 5,
        "abstain": 1,
        "package": 1,
        "report": 1,
        "default": 1,
        "total": 33,
    }


def test_the_report_is_told_its_extras_and_folds(repo: Path, tmp_path: Path) -> None:
    """It shows nothing else of what may lie in the folder."""
    done = snakemake(
        repo, tmp_path, "-n", "-p", "--configfile", "tests/config/law.yaml", "--", "law"
    )
    assert "--extras leak_audit samplers --folds 5 --shards 1" in done.stdout, done.stderr
    assert "--truth" not in done.stdout
    done = snakemake(repo, tmp_path, "-n", "-p", "--", "demo")
    assert "--extras  --folds" in done.stdout, done.stderr
    assert "--truth" in done.stdout


def test_own_features_need_no_tiles(repo: Path, tmp_path: Path) -> None:
    done = snakemake(repo, tmp_path, "-n", "--configfile", "tests/config/law.yaml", "--", "law")
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout + done.stderr)
    assert not {"tiles", "weights"} & counts.keys()
    assert counts["features"] == 1


def test_weights_of_ones_own_are_taken_instead_of_lite0s(repo: Path, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    mine = tmp_path / "mine.pth"
    mine.touch()
    demo = {"source": "demo", "settings": {"features": {"weights": str(mine)}}}
    config.write_text(yaml.safe_dump({"cohorts": {"demo": demo}}))
    done = snakemake(repo, tmp_path, "-n", "-p", "--configfile", str(config), "--", "demo")
    assert "weights" not in job_counts(done.stdout + done.stderr)
    assert f'"weights": "{mine}"' in done.stdout
    features = done.stdout.partition("rule features:")[2].partition("output:")[0]
    assert str(mine) in features  # as an input: a newer file reruns what reads it


def test_shards_come_from_the_config_and_leave_other_stages_alone(
    repo: Path, tmp_path: Path
) -> None:
    config = tmp_path / "more.yaml"
    config.write_text(yaml.safe_dump({"cohorts": {"demo": {"source": "demo", "shards": 7}}}))
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config), "--", "demo")
    counts = job_counts(done.stdout + done.stderr)
    assert [counts[rule] for rule in ("download", "tiles", "features", "bags")] == [7, 7, 7, 1]


def test_throw_away_mode_is_one_job_per_shard(repo: Path, tmp_path: Path) -> None:
    config = tmp_path / "thrown.yaml"
    demo = {"source": "demo", "shards": 3, "keep_slides": False}
    config.write_text(yaml.safe_dump({"cohorts": {"demo": demo, "kept": {"source": "demo"}}}))
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config), "--", "demo", "kept")
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout + done.stderr)
    stages = ("consume_demo", "download", "tiles", "features", "bags")
    assert [counts[rule] for rule in stages] == [3, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("cohorts", "message"),
    [
        ("demo: {source: demoo}", 'cohorts.demo.source: "demoo" is not allowed; allowed are'),
        ("demo: {source: demo, shard: 2}", "unknown key 'shard'; did you mean 'shards'?"),
        ("demo: {source: demo, shards: two}", "must be of type integer"),
        ("mine: {source: sheet}", "source sheet needs the key 'sheet'"),
        ("train: {source: demo}", "cohorts.train: a rule has this name; choose another"),
        ("demo: {settings: {bags: {kk: 3}}}", "unknown key 'kk'; did you mean 'k'?"),
    ],
)
def test_wrong_configuration_gets_one_line(
    repo: Path, tmp_path: Path, cohorts: str, message: str
) -> None:
    done = snakemake(repo, tmp_path, f"cohorts={{{cohorts}}}", "-n")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_error_names_every_file_that_it_may_come_from(repo: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({"cohorts": {"demo": {"settings": {"modles": ["ridge"]}}}}))
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config))
    assert done.returncode != 0
    start = f"error: config.yaml + {config}: cohorts.demo.settings: unknown key 'modles'"
    assert [line for line in done.stderr.splitlines() if line.startswith(start)], done.stderr


def test_stain_needs_slides_to_read_again(repo: Path, tmp_path: Path) -> None:
    done = snakemake(repo, tmp_path, "-n", "--", "stain")
    assert done.returncode == 0, done.stderr
    assert job_counts(done.stdout + done.stderr)["perturb"] == 1
    config = tmp_path / "own.yaml"
    own = {"features": {"encoder": "files", "path": "mine"}, "extras": ["stain"]}
    config.write_text(yaml.safe_dump({"cohorts": {"mine": {"source": "demo", "settings": own}}}))
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config), "--", "mine")
    assert done.returncode != 0
    message = "error: extras of mine: stain: no slides to read again"
    assert [line for line in done.stderr.splitlines() if line.startswith(message)]


def test_pan_compares_each_member_with_itself_alone(repo: Path, tmp_path: Path) -> None:
    """Only the members, and only the one variant of all ablations."""
    names = {"sheet": str(tmp_path / "a.tsv"), "expression": str(tmp_path / "a.csv")}
    for name in names.values():
        Path(name).touch()
    cohorts = {name: {"source": "sheet"} | names for name in ("A", "B", "C")}
    config = tmp_path / "pan.yaml"
    config.write_text(yaml.safe_dump({"folds": {"n": 2}, "pan": ["A", "B"], "cohorts": cohorts}))
    done = snakemake(repo, tmp_path, "-n", "--configfile", str(config), "--", "pan")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    counts = job_counts(text)
    assert counts["score_partners"] == 2
    assert counts["train"] == counts["sample"] == 2 * 2 * 2
    outputs = set(re.findall(r"/pan/(\w+)/[\w.-]+/ablations\.parquet", text))
    assert outputs == {"A", "B"}
