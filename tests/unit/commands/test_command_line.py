"""The command `slide2rna`: its help, its list of commands, closed pipes, cohorts by name."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import polars as pl
import pytest
import yaml
from slide2rna import __main__ as app
from slide2rna import commands
from slide2rna.commands import cohort
from slide2rna.core import cli
from slide2rna.core.errors import ConfigError, UserError


def slide2rna(*arguments: str, closed: bool = False) -> subprocess.Popen[str]:
    """Start the command in a process of its own; `closed`: nobody reads what it prints."""
    code = (
        f"import sys; sys.argv = {['slide2rna', *arguments]}; from slide2rna.__main__ import main"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; main()"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if closed:
        process.stdout.close()
        process.stdout = None
    return process


def test_help_lists_every_command_on_a_line() -> None:
    text = app.help_text()
    there = {path.stem for path in Path(commands.__file__).parent.glob("[a-z]*.py")}
    assert there <= set(app.NAMES)
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert listed == [name for name in app.NAMES if name in there]
    assert max(map(len, text.splitlines())) <= 100


def test_a_closed_pager_is_no_traceback() -> None:
    process = slide2rna("doctor", closed=True)
    _, stderr = process.communicate(timeout=300)
    assert stderr == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_no_such_command_is_one_line() -> None:
    process = slide2rna("predikt")
    out, err = process.communicate(timeout=300)
    assert (out, process.returncode) == ("", 2)
    assert err == "error: slide2rna predikt: no such command; see slide2rna --help\n"


def test_only_stages_announce_themselves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="slide2rna")
    cli.run(lambda _: None, stage=False)
    assert not caplog.records
    cli.run(lambda _: None)
    assert [record.message.split(": ")[1] for record in caplog.records] == ["started", "finished"]


def no_table(_: object) -> None:
    pl.read_parquet("/nowhere/x.parquet")


def no_features(_: object) -> None:
    h5py.File("/nowhere/x.h5")


def no_file(_: object) -> None:
    Path("/nowhere/x.json").read_text()


def no_room(_: object) -> None:
    pl.DataFrame({"a": [1]}).write_parquet("/dev/full")


def no_room_for_features(_: object) -> None:
    """HDF5 puts a line break between the hour and what happened."""
    with tempfile.TemporaryDirectory() as folder:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            file = h5py.File(Path(folder) / "x.h5", "w")
            file["features"] = [0.0] * 100_000
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            file.close()


@pytest.mark.parametrize(
    ("main", "named"),
    [
        (no_table, "/nowhere/x.parquet"),
        (no_features, "/nowhere/x.h5"),
        (no_file, "/nowhere/x.json"),
        (no_room, "No space left on device"),
        (no_room_for_features, "File too large"),
    ],
)
def test_an_error_of_the_system_is_a_line_that_names_the_file(
    main: Callable[[object], None], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Python, polars and HDF5 pass it on, each in its own way."""
    with pytest.raises(SystemExit) as ended:
        cli.run(main, stage=False)
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"error: .*; fix this, then rerun the same command\n", line)
    assert named in line


def test_a_mistake_that_quotes_such_an_error_keeps_its_traceback() -> None:
    def main(_: object) -> None:
        raise ValueError("no table: No such file or directory (os error 2)")

    with pytest.raises(ValueError, match="no table"):
        cli.run(main, stage=False)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six patients with a sheet without slides, their expression, and a configuration."""
    monkeypatch.chdir(tmp_path)
    names = [f"P{i}" for i in range(6)]
    sheet = pl.DataFrame({"slide_id": names, "patient_id": names, "slide": [None] * 6})
    sheet.write_csv("slides.tsv", separator="\t")
    table = {"sample_id": names, "A": [1.0] * 6, "B": [2.0, 3, 4, 5, 6, 7]}
    pl.DataFrame(table).write_csv("rna.csv")
    block = {"source": "sheet", "sheet": "slides.tsv", "expression": "rna.csv"}
    settings = {"folds": {"n": 3}, "features": {"encoder": "files", "path": "features"}}
    config = {"seed": 4, "cohorts": {"mine": block | {"settings": settings}}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_cohort_by_name_is_what_the_rule_makes(own: Path) -> None:
    cohort.main(["mine"])
    block = {"source": "sheet", "sheet": "slides.tsv", "expression": "rna.csv"}
    theirs = ["--name", "mine", "--out", "rule", "--source", json.dumps(block)]
    cohort.main([*theirs, "--no-folds"])
    made = ["--slides", "rule/slides.parquet", "--seed", "4", "--folds", '{"n": 3}']
    script = [sys.executable, Path(cohort.__file__).parents[2] / "split.py", "draw"]
    subprocess.run([*script, *made, "--out", "rule/splits.tsv"], check=True)
    for name in ("slides.parquet", "expression.parquet", "splits.tsv", "cohort.json"):
        assert (own / "results/mine" / name).read_bytes() == (own / "rule" / name).read_bytes()
    assert pl.read_csv("rule/splits.tsv", separator="\t")["fold"].n_unique() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "config.yaml .*mine"),
        (["other"], "config.yaml: .*'other'.*mine"),
        (["mine", "--config", "none.yaml"], "none.yaml: "),
        (["mine", "--name", "x"], "--name, --folds, --needs-slides and --no-folds"),
        (["mine", "--source", "{}", "--out", "o"], "--source .*--name and --out"),
        (["--name", "x", "--out", "o", "--source", "{"], "--source: .*JSON object"),
    ],
)
def test_wrong_calls_are_one_line(own: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cohort.main(arguments)
    assert not (own / "results").exists()


def test_a_bad_sheet_leaves_nothing(own: Path) -> None:
    text = Path("slides.tsv").read_text()
    Path("slides.tsv").write_text(text.replace("P5", "P4"))
    with pytest.raises(UserError, match=r"slide_id 'P4'.*twice"):
        cohort.main(["mine"])
    assert not (own / "results/mine/cohort.json").exists()


def test_a_generated_cohort_names_what_generates_it(own: Path) -> None:
    Path("config.yaml").write_text("cohorts: {demo: {source: demo}}\n")
    with pytest.raises(ConfigError, match=r"generated.*snakemake --cores 2 demo"):
        cohort.main(["demo"])
