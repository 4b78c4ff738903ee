"""The report of a cohort whose law is known: whole, honest, self-contained and repeatable."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import synthetic_cohort
from slide2rna import config, evaluate, report, verdict
from slide2rna.errors import StageError

CAVEAT = "within one patient, adjacent sections: no claim about patients"


def make(folder: Path, **settings: object) -> synthetic_cohort.Synthetic:
    made = synthetic_cohort.make(folder, patients=45, genes=80, draws=25, **settings)  # type: ignore[arg-type]
    chosen = config.defaults("evaluate", bootstrap=50, permutations=20)
    out = folder / "evaluation" / synthetic_cohort.RUN
    evaluate.evaluate(made.inputs, synthetic_cohort.RUN, out, chosen, 1, 1)
    return made


def load(folder: Path) -> report.Run:
    return report.load(folder, synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    made = make(folder, caveat=CAVEAT, failed=2)
    synthetic_cohort.add_pictures(made, 3)
    report.write(load(folder), folder / "report")
    return folder


class Page(HTMLParser):
    """Collects tags, references, and ids; checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br"})

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


def test_page_is_well_formed_and_needs_no_network(folder: Path) -> None:
    text = (folder / "report/index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.images >= 8 + 3
    assert page.without_alt == 0
    for reference in page.references:
        assert reference.startswith(("data:", "#")), reference[:60]
        if reference.startswith("#"):
            assert reference[1:] in page.ids
    assert "<script" not in text
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
    assert names == {
        "models", "examples", "pcc_histogram", "reliability", "pit", "pathways", "flow",
        "training", "slides",
    }  # fmt: skip


def test_same_tables_same_bytes(folder: Path, tmp_path: Path) -> None:
    report.write(load(folder), tmp_path)
    for path in sorted((folder / "report").rglob("*.*")):
        again = tmp_path / path.relative_to(folder / "report")
        assert path.read_bytes() == again.read_bytes(), path.name


def test_failures_are_named_once_at_the_stage_where_they_happened(folder: Path) -> None:
    found = report.failures(load(folder))
    assert [row["stage"] for row in found] == ["tiles", "tiles"]
    assert [row["slide"] for row in found] == ["P043-A", "P044-A"]


def test_a_cohort_without_tiles_and_caveat_has_a_report_too(tmp_path: Path) -> None:
    make(tmp_path, color=False, guidance=2.0)
    for path in (tmp_path / "tiles").glob("*.parquet"):
        path.unlink()
    text = report.write(load(tmp_path), tmp_path / "report").read_text()
    assert 'id="slides"' not in text
    assert "The draws are guided: no coverage is claimed." in text
    assert "not available (slides without colour statistics" in text


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
    assert [line.label for line in found] == [
        "no signal", "better", "unclear", "worse", "too narrow",
    ]  # fmt: skip
    assert "70.0 %" in found[-1].text


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert report.number(-0.25, 2) == "−0.25"
    assert report.number(-0.0001) == "0.000"
    assert report.number(None) == "–"
    assert report.number(float("nan")) == "–"
    assert report.span({"low": -0.5, "high": 0.5}, 1) == "−0.5 to 0.5"
