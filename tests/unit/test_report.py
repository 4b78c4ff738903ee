"""The report of a cohort whose law is known: whole, honest, self-contained and repeatable."""

from __future__ import annotations

import dataclasses
import re
import runpy
import shutil
from html.parser import HTMLParser
from pathlib import Path

import contract_tables
import polars as pl
import pytest
import synthetic_cohort
from slide2rna import (
    config,
    evaluate,
    figures,
    figures_compare,
    page,
    report,
    report_cohort,
    report_extras,
    report_protocols,
    verdict,
)
from slide2rna.errors import StageError

CAVEAT = "within one patient, adjacent sections: no claim about patients"


def make(folder: Path, **settings: object) -> synthetic_cohort.Synthetic:
    small = {"patients": 45, "genes": 80, "draws": 25}
    made = synthetic_cohort.make(folder, **(small | settings))  # type: ignore[arg-type]
    chosen = config.defaults("evaluate", bootstrap=50, permutations=20)
    out = folder / "evaluation" / synthetic_cohort.RUN
    evaluate.evaluate(made.inputs, synthetic_cohort.RUN, out, chosen, 1, 1)
    return made


NAMES = (synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)


def load(folder: Path, *extras: str, folds: int | None = None) -> report.Run:
    return report.load(folder, *NAMES, extras, folds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    made = make(folder, caveat=CAVEAT, failed=2)
    synthetic_cohort.add_pictures(made, 3)
    report.write(load(folder), folder / "report")
    return folder


@pytest.fixture(scope="module")
def full(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with everything that a report can show."""
    copy = tmp_path_factory.mktemp("full") / "cohort"
    shutil.copytree(folder, copy)
    contract_tables.add(copy, synthetic_cohort.RUN)
    figures.save(
        figures.pcc_histogram(load(copy).tables["genes"]), copy / "leak_audit", "leak_audit"
    )
    report.write(load(copy, *report_extras.STAGES), copy / "report")
    return copy


class Page(HTMLParser):
    """Collects tags, references, and ids; checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: set[str] = set()
        self.images = 0
        self.without_alt = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [str(given[key]) for key in ("src", "href") if key in given]
        if "id" in given:
            self.ids.add(str(given["id"]))
        if tag == "img":
            self.images += 1
            self.without_alt += not given.get("alt")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", ["plain", "full"])
def test_page_is_well_formed_and_needs_no_network(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue({"plain": "folder", "full": "full"}[kind])
    text = (folder / "report/index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.images >= 7 + 3
    assert page.without_alt == 0
    for reference in page.references:
        assert reference.startswith(("data:", "#", "../evaluation/")), reference[:60]
        if reference.startswith("#"):
            assert reference[1:] in page.ids
        if reference.startswith(".."):
            assert (folder / "report" / reference).is_file()
    for word in ("fetch(", "XMLHttpRequest", "import(", "://"):
        assert word not in text, word
    assert "url(" not in text
    assert "@import" not in text


def test_page_names_caveat_failures_counts_and_nulls(folder: Path) -> None:
    text = (folder / "report/index.html").read_text()
    assert CAVEAT[1:] in text
    assert "no claim about patients" in text
    assert text.count("broken.svs: no tissue; leave it out") == 2
    assert re.search(r"more than 2k = 8 tiles: <b>52 of 52</b>", text)
    for name in ("constant", "color-ridge", "ridge", "site-mean", "permuted", "noise floor"):
        assert f'<th scope="row">{name}</th>' in text
    assert "too few for per-gene claims" in text.lower()
    assert str(folder) not in text


def test_figures_are_png_and_svg(folder: Path) -> None:
    names = {path.stem for path in (folder / "report/figures").glob("*.png")}
    assert names == {path.stem for path in (folder / "report/figures").glob("*.svg")}
    stepped = load(folder).tables["summary"]["metric"].str.starts_with("pcc_step:").any()
    assert ("protocols" in names) == stepped
    assert names - {"protocols"} == {
        "models", "examples", "pcc_histogram", "reliability", "pit", "pathways", "pathway_bars",
        "flow", "training", "slides",
    }  # fmt: skip


def test_same_tables_same_bytes(folder: Path, tmp_path: Path) -> None:
    report.write(load(folder), tmp_path)
    for path in sorted((folder / "report").rglob("*.*")):
        again = tmp_path / path.relative_to(folder / "report")
        assert path.read_bytes() == again.read_bytes(), path.name


def test_failures_are_named_once_at_the_stage_where_they_happened(folder: Path) -> None:
    found = report_cohort.failures(load(folder))
    assert [row["stage"] for row in found] == ["tiles", "tiles"]
    assert [row["slide"] for row in found] == ["P043-A", "P044-A"]


def test_a_cohort_without_tiles_and_caveat_has_a_report_too(tmp_path: Path) -> None:
    make(tmp_path, color=False, guidance=2.0)
    for path in (tmp_path / "tiles").glob("*.parquet"):
        path.unlink()
    text = report.write(load(tmp_path), tmp_path / "report").read_text()
    assert 'id="slides"' not in text
    assert "The draws are guided: no coverage is claimed." in text
    assert "Not available (color-ridge: slides without colour statistics" in text


def test_folds_too_small_for_any_correlation_have_a_report(tmp_path: Path) -> None:
    make(tmp_path, patients=9, genes=40)
    made = load(tmp_path)
    assert made.summary.filter(pl.col("metric") == "pcc")["value"].is_null().all()
    text = report.write(made, tmp_path / "report").read_text()
    assert "folds of three or fewer are left out" in text.lower()
    assert not (tmp_path / "report" / "figures" / "models.png").exists()


def test_missing_tables_are_refused(folder: Path) -> None:
    with pytest.raises(StageError, match="run the stage evaluate first"):
        report.load(folder, "other-run", synthetic_cohort.ENCODER, synthetic_cohort.SET)


def test_verdict_says_better_worse_and_unclear() -> None:
    def row(metric: str, low: float, high: float, model: str = "flow") -> dict:
        keys = {"model": model, "gene_set": "all", "metric": metric, "n_genes": 10}
        ends = {"value": (low + high) / 2, "low": low, "high": high}
        return keys | ends | {"n_samples": 30, "note": ""}

    summary = pl.DataFrame(
        [
            row("pcc", 0.05, 0.2),
            *(row("pcc", 0.0, 0.2, name) for name in ("constant", "color-ridge", "ridge")),
            row("pcc_floor", -0.1, 0.1),
            row("rmse_minus:constant", -0.2, -0.1),
            row("pcc_minus:color-ridge", -0.1, 0.1),
            row("pcc_minus:ridge", -0.3, -0.2),
        ]
    )
    coverage = {"gene_set": "all", "quantity": "coverage", "within": "pooled", "kind": "draws"}
    calibration = pl.DataFrame(
        [coverage | {"nominal": 0.9, "covered": 0.7, "low": 0.68, "high": 0.72}]
    )
    found = verdict.sentences(summary, calibration, "flow")
    assert [(line.label, line.tone) for line in found] == [
        ("no signal", "bad"), ("worse", "bad"), ("unclear", "open"), ("better", "good"),
        ("too narrow", "bad"),
    ]  # fmt: skip
    assert found[1].text == "Worse than ridge (PCC −0.250 [−0.300, −0.200] on all genes)."
    assert found[2].text.startswith("No clear difference from color-ridge (PCC +0.000 [")
    assert "constant (RMSE −0.150)" in found[3].text
    assert "70.0 %" in found[-1].text


# The table that a section needs, and what is on the page with it alone.
SECTIONS = {
    "leak": ('id="leak"', "Leak audit"),
    "ablations": ('id="ablations"', "minus base"),
    "aspects": ("GO aspects", "r, GO-MF"),
    "search": ("What was spent on each network", "Wall time"),
}


def text_of(run: report.Run) -> str:
    """The page without its figures, which take most of the time."""
    return page.render("report.html.j2", report.context(run) | {"figure": {}})


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_is_there_only_with_its_table(name: str, full: Path) -> None:
    run, marks = load(full, *report_extras.STAGES), SECTIONS[name]
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
    assert "the point is always drawn at guidance 1" in part.lower()
    assert part.count("mean of draws, minus base") == 2
    without = re.search(r'<th scope="row">adjacent</th>(.*?)</tr>', part)
    assert without is not None
    assert without[1].count('<td class="">–</td>') == 2


def test_ablations_without_draws_are_shown_as_points_alone(full: Path) -> None:
    run = load(full, "ablations")
    table = run.extra["ablations"]
    assert table is not None
    points = table.filter(~pl.col("metric").str.contains("draw"))
    rows = report_extras.ablations(points)
    assert rows is not None
    assert len(figures_compare.ablations(rows).axes) == 2
    every = report_extras.ablations(table)
    assert every is not None
    assert [axis.get_title(loc="left") for axis in figures_compare.ablations(every).axes] == [
        "Point\nAll genes", "Point\nT50", "Mean of draws\nAll genes", "Mean of draws\nT50",
    ]  # fmt: skip
    text = text_of(dataclasses.replace(run, extra=run.extra | {"ablations": points}))
    assert "mean of draws, minus base" not in text
    assert "act on the draws alone" not in text


def test_what_the_run_does_not_name_is_not_shown(full: Path, tmp_path: Path) -> None:
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
    for stage in report_extras.STAGES:
        with pytest.raises(StageError, match=f"missing; run the stage {stage} first"):
            load(folder, stage)


def test_the_command_shows_what_it_is_told(full: Path, repo: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(repo / "scripts/report.py"))["main"]
    command = ["--cohort-dir", str(full), "--run", NAMES[0], "--features", NAMES[1]]
    command += ["--pathways", NAMES[2], "--folds", "3"]
    for told in ([], ["--extras"], ["--extras", "ablations"]):
        main([*command, *told, "--out", str(tmp_path)])
        text = (tmp_path / "index.html").read_text()
        assert ('id="ablations"' in text) == ("ablations" in told)
        assert 'id="leak"' not in text


def test_a_run_of_before_has_no_empty_sections(folder: Path) -> None:
    text = (folder / "report/index.html").read_text()
    for marks in SECTIONS.values():
        assert not any(mark in text for mark in marks)
    assert "with other seeds" not in text


def test_pathway_bars_show_the_best_network_ridge_and_the_best_null(full: Path) -> None:
    run = load(full)
    table = run.tables["pathways"]
    nulls = ("site-mean", "color-ridge", "permuted")
    best = max(nulls, key=lambda name: float(table[f"r_{name}"].mean()))
    assert report.rivals_of(run) == ["abmil", "ridge", best]


def test_full_page_says_who_is_better_and_shows_the_tables_numbers(full: Path) -> None:
    text = (full / "report/index.html").read_text()
    run = load(full)
    worse = re.search(r'<span class="tag bad">worse</span><span>(.*?)</span>', text)
    assert worse is not None
    assert worse[1].startswith("Worse than abmil (PCC −0.040 [−0.050, −0.030] on all genes")
    assert "Better than he2rna (PCC +0.050)" in text
    shown = re.findall(r'<tr class="(?:own)?(?: rule)?"><th scope="row">(.*?)</th>(.*?)</tr>', text)
    first = [name for name, _ in shown[:11]]
    assert first == [
        "flow", "he2rna", "trnasformer", "sequoia", "abmil", "ridge", "site-mean", "color-ridge",
        "permuted", "constant", "noise floor",
    ]  # fmt: skip
    cells = dict(shown[:10])
    for name, value, low, high in (
        run.summary.filter((pl.col("metric") == "pcc") & (pl.col("gene_set") == "all"))
        .select("model", "value", "low", "high")
        .iter_rows()
    ):
        bold = f"<b>{page.number(value)}</b>"
        interval = f'<span class="ci">{page.span({"low": low, "high": high})}</span>'
        assert cells[name].startswith(f"<td>{bold}{interval}</td>"), name
    for step in ("slides pooled over folds", "genes ranked by their test", "one draw scored"):
        assert step in text


def test_a_point_model_has_a_report_without_calibration(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cohort"
    shutil.copytree(folder, copy)
    evaluation = copy / "evaluation" / synthetic_cohort.RUN
    for name, columns in {
        "examples": ["low90", "high90"],
        "genes": ["crps", "covered90", "width90"],
        "pathways": ["covered90", "r_draw_mean"],
        "samples": ["crps", "covered90"],
    }.items():
        table = pl.read_parquet(evaluation / f"{name}.parquet")
        empty = [pl.lit(None, dtype=table.schema[c]).alias(c) for c in columns]
        table.with_columns(empty).write_parquet(evaluation / f"{name}.parquet")
    calibration = pl.read_parquet(evaluation / "calibration.parquet")
    calibration.clear().write_parquet(evaluation / "calibration.parquet")
    summary = pl.read_parquet(evaluation / "summary.parquet")
    drawn = pl.col("metric").str.contains("draw|crps|point_")
    summary.filter(~drawn).write_parquet(evaluation / "summary.parquet")
    text = report.write(load(copy), tmp_path / "report").read_text()
    assert "A point prediction: it says nothing about its uncertainty." in text
    assert 'id="calibration"' not in text
    assert "flow has no draws" in text
    assert Page(text).open == []


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
    numbers, summary = report_protocols.load_numbers(path), load(full).tables["summary"]
    of = {"name": "mine", "source": "TCGA-LUAD"}
    found = report_protocols.numbers(numbers, of, summary, "flow")
    assert found is not None
    assert found["matched"] == "TCGA-LUAD"
    (block,) = found["blocks"]
    assert [row["name"] for row in block["rows"]] == ["RNA-FM", "flow, ours", "flow, ours"]
    assert block["rows"][0]["cells"] == [(0.729, 0.074), (0.865, 0.05)]
    draw = verdict.pick(
        summary, protocol="published", model="flow", metric="pcc_one_draw", gene_set="T50"
    )
    assert draw is not None
    assert block["rows"][1]["cells"][1][0] == draw["value"]
    other = report_protocols.numbers(numbers, {"name": "x", "source": "sheet"}, summary, "flow")
    assert other is not None
    assert other["matched"] is None
    assert [block["cohort"] for block in other["blocks"]] == ["TCGA-LUAD", "TCGA-BRCA"]
    assert not any(row["ours"] for block in other["blocks"] for row in block["rows"])
    assert report_protocols.load_numbers(tmp_path / "none.tsv") is None


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert page.number(-0.25, 2) == "−0.25"
    assert page.number(-0.0001) == "0.000"
    assert page.number(None) == "–"
    assert page.number(float("nan")) == "–"
    assert page.span({"low": -0.5, "high": 0.5}, 1) == "−0.5 to 0.5"
