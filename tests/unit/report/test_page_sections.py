"""Sections of the report: there only with their table, and with the table's own numbers."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import runpy
import shutil
from pathlib import Path

import chart_data
import polars as pl
import pytest
import yaml
from slide2rna.core.errors import StageError
from slide2rna.evaluation.scoring import labels
from slide2rna.pages.numbers import format_interval, format_number
from slide2rna.report.figures import ablations_chart
from slide2rna.report.sections import ablations, page_sections, protocols, run_tables
from written_reports import NAMES, folder, full, load, text_of

__all__ = ["folder", "full"]  # the fixtures

# The table that a section needs, and what is on the page with it alone.
SECTIONS = {
    "leak": ('id="leak"', "Leak audit"),
    "ablations": ('id="ablations"', "minus base"),
    "samplers": ('id="samplers"', 'href="#samplers"'),
    "aspects": ("GO aspects", "r, GO-MF"),
    "search": ("Wall time", "Chosen (folds)"),
}


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_is_there_only_with_its_table(name: str, full: Path) -> None:
    run, marks = load(full, *run_tables.STAGES), SECTIONS[name]
    text = (full / "report/index.html").read_text()
    assert all(mark in text for mark in marks)
    less = text_of(dataclasses.replace(run, extra=run.extra | {name: None}))
    assert not any(mark in less for mark in marks)


def test_variants_that_only_sample_otherwise_differ_in_their_draws(full: Path) -> None:
    text = (full / "report/index.html").read_text()
    part = text[text.index('id="ablations"') :]
    part = part[: part.index("</section>")]
    row = re.search(r'<th scope="row">s-3</th>(.*?)</tr>', part)
    assert row is not None
    shown = re.findall(r'<td class="(\w*)"><b>([^<]*)</b>', row[1])
    assert shown[:4] == [("open", "+0.000"), ("good", "+0.030")] * 2
    assert "guidance 1" in part
    assert part.count("mean of draws, minus base") == 2
    assert '<span class="ci">guided</span>' in row[1]
    assert "too few patients" not in part
    without = re.search(r'<th scope="row">adjacent</th>(.*?)</tr>', part)
    assert without is not None
    assert without[1].count('<td class="">–</td>') == 2


def test_ablations_without_draws_are_shown_as_points_alone(full: Path) -> None:
    run = load(full, "ablations")
    table = run.extra["ablations"]
    assert table is not None
    points = table.filter(~pl.col("metric").str.contains("draw"))
    rows = ablations.ablations(points)
    assert rows is not None
    assert len(ablations_chart.files(rows)["hconcat"]) == 2
    every = ablations.ablations(table)
    assert every is not None
    assert list(chart_data.panels(ablations_chart.files(every), "variant")) == [
        "Point\nAll genes", "Point\nT50", "Mean of draws\nAll genes", "Mean of draws\nT50",
    ]  # fmt: skip
    text = text_of(dataclasses.replace(run, extra=run.extra | {"ablations": points}))
    assert "mean of draws, minus base" not in text


def test_extras_that_the_run_does_not_name_are_hidden(full: Path, tmp_path: Path) -> None:
    """Tables and folds of an earlier configuration may still lie in the folder."""
    copy = tmp_path / "cohort"
    shutil.copytree(full, copy)
    shutil.copytree(copy / "models" / NAMES[0] / "fold-0", copy / "models" / NAMES[0] / "fold-7")
    run = load(copy, folds=3)
    assert [name for name, table in run.extra.items() if table is not None] == ["search"]
    assert run.leak_picture is None
    assert sorted(run.models) == sorted(run.logs) == [0, 1, 2]
    assert sorted(load(copy).models) == [0, 1, 2, 7]
    audited = load(copy, "leak_audit")
    assert (audited.extra["ablations"], audited.extra["aspects"]) == (None, None)
    assert audited.extra["leak"] is not None
    assert audited.leak_picture is not None


def test_a_table_that_is_named_must_be_there(folder: Path) -> None:
    for stage in run_tables.STAGES:
        with pytest.raises(StageError, match=f"stage {stage}"):
            load(folder, stage)


def test_the_command_shows_the_extras_it_is_given(full: Path, repo: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(repo / "scripts/report.py"))["main"]
    command = ["--cohort-dir", str(full), "--run", NAMES[0], "--features", NAMES[1]]
    command += ["--pathways", NAMES[2], "--folds", "3"]
    for record in ([], ["--extras"], ["--extras", "ablations"]):
        main([*command, *record, "--out", str(tmp_path)])
        text = (tmp_path / "index.html").read_text()
        assert ('id="ablations"' in text) == ("ablations" in record)
        assert 'id="leak"' not in text


def test_a_run_of_before_has_no_empty_sections(folder: Path) -> None:
    text = (folder / "report/index.html").read_text()
    for marks in SECTIONS.values():
        assert not any(mark in text for mark in marks)


def test_pathway_bars_show_the_best_network_ridge_and_the_best_null(full: Path) -> None:
    run = load(full)
    table = run.tables["pathways"]
    nulls = ("site-mean", "color-ridge", "permuted")
    best = max(nulls, key=lambda name: float(table[f"r_{name}"].mean()))
    assert page_sections.build(run).rivals == ["abmil", "ridge", best]


def test_full_page_says_who_is_better_and_shows_the_tables_numbers(full: Path) -> None:
    text = (full / "report/index.html").read_text()
    run = load(full)
    worse = re.search(r'<span class="tag bad">worse</span><span>(.*?)</span>', text)
    assert worse is not None
    assert "abmil (PCC −0.040 [−0.050, −0.030] on all genes" in worse[1]
    assert "he2rna (PCC +0.050)" in text
    shown = re.findall(r'<tr class="(?:own)?(?: rule)?"><th scope="row">(.*?)</th>(.*?)</tr>', text)
    first = [name for name, _ in shown[:12]]
    assert first == [
        "flow", "he2rna", "trnasformer", "sequoia", "abmil", "ridge", "ridge-lowrank",
        "site-mean", "color-ridge", "permuted", "constant", "noise floor",
    ]  # fmt: skip
    cells = dict(shown[:11])
    for name, value, low, high in (
        run.summary.filter((pl.col("metric") == "pcc") & (pl.col("gene_set") == "all"))
        .select("model", "value", "low", "high")
        .iter_rows()
    ):
        bold = f"<b>{format_number(value)}</b>"
        interval = f'<span class="ci">{format_interval({"low": low, "high": high})}</span>'
        assert cells[name].startswith(f"<td>{bold}{interval}</td>"), name
    for step in protocols.STEPS.values():
        assert step in text


def test_published_numbers_stand_beside_ours_only_for_their_cohort(
    full: Path, tmp_path: Path
) -> None:
    table = pl.DataFrame(
        {
            "table": ["1", "1", "4", "1"],
            "cohort": ["TCGA-LUAD"] * 3 + ["TCGA-BRCA"],
            "method": ["RNA-FM", "RNA-FM", "w/o graph", "RNA-FM"],
            "encoder": ["UNI"] * 4,
            "gene_set": ["T1000", "T50", "T50", "T50"],
            "pcc": [0.729, 0.865, 0.8, 0.856],
            "nrmse": [0.074, 0.05, 0.06, 0.048],
        }
    )
    path = tmp_path / "numbers.tsv"
    table.write_csv(path, separator="\t")
    numbers, summary = protocols.load_numbers(path), load(full).tables["summary"]
    of = {"name": "mine", "source": "TCGA-LUAD"}
    found = protocols.numbers(numbers, of, summary, "flow")
    assert found is not None
    assert found["matched"] == "TCGA-LUAD"
    (block,) = found["blocks"]
    assert [row["name"] for row in block["rows"]] == ["RNA-FM", "flow, ours", "flow, ours"]
    assert block["rows"][0]["cells"] == [(0.729, 0.074), (0.865, 0.05)]
    draw = labels.pick(
        summary, protocol="published", model="flow", metric="pcc_one_draw", gene_set="T50"
    )
    assert draw is not None
    assert block["rows"][1]["cells"][1][0] == draw["value"]
    other = protocols.numbers(numbers, {"name": "x", "source": "sheet"}, summary, "flow")
    assert other is not None
    assert other["matched"] is None
    assert [block["cohort"] for block in other["blocks"]] == ["TCGA-LUAD", "TCGA-BRCA"]
    assert not any(row["ours"] for block in other["blocks"] for row in block["rows"])
    assert protocols.load_numbers(tmp_path / "none.tsv") is None


def test_every_extra_of_the_config_is_known_to_the_report(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = yaml.safe_load((repo / "workflow/schemas/config.schema.yaml").read_text())
    named = set(schema["$defs"]["extras"]["items"]["enum"])
    assert named == set(run_tables.STAGES)
    spec = importlib.util.spec_from_file_location("report_command", repo / "scripts/report.py")
    assert spec is not None
    assert spec.loader is not None
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    with pytest.raises(SystemExit):
        command.main(["--extras", "no-such-extra"])
    record = capsys.readouterr().err
    assert all(f"'{name}'" in record for name in named)
