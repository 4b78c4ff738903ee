"""The report of a cohort whose law is known: whole, honest, self-contained and repeatable."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import synthetic_cohort
from slide2rna.core.errors import StageError
from slide2rna.pages import numbers
from slide2rna.report import report
from slide2rna.report.figures import vega
from slide2rna.report.sections import run_tables, verdict
from slide2rna.slides import failures
from written_reports import CAVEAT, folder, full, load, make

__all__ = ["folder", "full"]  # the fixtures


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
        # A work to cite may be followed; nothing may be loaded.
        if tag != "a" or not str(given.get("href")).startswith("https://"):
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
    # The charts' library can load data; the page's policy keeps it, and all else, from doing so.
    own = text.replace(vega.library(), "")
    assert len(own) < len(text) - 500_000
    assert re.search(r'http-equiv="Content-Security-Policy" content="default-src \'none\';', own)
    for word in ("fetch(", "XMLHttpRequest", "import("):
        assert word not in own, word
    assert "url(" not in own
    assert "@import" not in own


def test_page_names_caveat_failures_counts_and_nulls(folder: Path) -> None:
    text = (folder / "report/index.html").read_text()
    assert CAVEAT[1:] in text
    assert text.count("broken.svs: no tissue; leave it out") == 2
    assert re.search(r"more than 2k = 8 tiles: <b>52 of 52</b>", text)
    for name in ("constant", "color-ridge", "ridge", "site-mean", "permuted", "noise floor"):
        assert f'<th scope="row">{name}</th>' in text
    assert 'class="warn"' in text
    assert str(folder) not in text


def test_figures_are_png_and_svg(folder: Path) -> None:
    names = {path.stem for path in (folder / "report/figures").glob("*.png")}
    assert names == {path.stem for path in (folder / "report/figures").glob("*.svg")}
    stepped = load(folder).tables["summary"]["metric"].str.starts_with("pcc_step:").any()
    assert ("protocols" in names) == stepped
    assert names - {"protocols"} == {
        "models", "examples", "gene_nulls", "pcc_histogram", "reliability", "pit", "pathways",
        "pathway_bars", "flow", "training", "slides", "conformal", "pathway_intervals",
        "coexpression",
    }  # fmt: skip


def test_same_tables_same_bytes(folder: Path, tmp_path: Path) -> None:
    report.write(load(folder), tmp_path)
    for path in sorted((folder / "report").rglob("*.*")):
        again = tmp_path / path.relative_to(folder / "report")
        assert path.read_bytes() == again.read_bytes(), path.name


def test_failures_are_named_once_at_the_stage_where_they_happened(folder: Path) -> None:
    found = load(folder).failed
    assert [row["stage"] for row in found] == ["tiles", "tiles"]
    assert [row["slide"] for row in found] == ["P043-A", "P044-A"]


def test_shards_that_the_cohort_no_longer_has_are_not_read(tmp_path: Path) -> None:
    """A slide that failed in seven shards may be fixed since then, or belong to another."""

    def table(stage: str, shard: int, slide: str) -> None:
        row = {"slide_id": [slide], "status": ["failed"], "reason": ["no tissue"]}
        path = tmp_path / stage / f"shard-{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(row).write_parquet(path)

    table("tiles", 1, "now")
    table("slides", 6, "then")
    table("features/lite0", 10, "then-too")
    assert [row["slide"] for row in failures.failed_slides(tmp_path, "lite0", 2)] == ["now"]
    assert [path.stem for path in failures.manifests(tmp_path / "tiles", 2)] == ["shard-1"]
    assert len(failures.failed_slides(tmp_path, "lite0")) == 3
    (tmp_path / "tiles" / "shard-old.parquet").write_text("a copy that somebody put aside")
    assert len(failures.failed_slides(tmp_path, "lite0")) == 3


def test_tiles_of_an_earlier_configuration_fail_no_features_of_ones_own(tmp_path: Path) -> None:
    """Encoder files tiles nothing, so these tables are never rebuilt."""
    for stage in ("slides", "tiles", "features/files"):
        row = {"slide_id": [stage], "status": ["failed"], "reason": ["no tissue"]}
        path = tmp_path / stage / "shard-0.parquet"
        path.parent.mkdir(parents=True)
        pl.DataFrame(row).write_parquet(path)
    found = failures.failed_slides(tmp_path, "files", 1)
    assert [row["slide"] for row in found] == ["features/files", "slides"]


def test_more_failed_slides_than_allowed_make_no_report(folder: Path) -> None:
    """The key may have been lowered since the bags were made."""
    names = (synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)
    assert run_tables.load(folder, *names, settings={"max_failed_slides": 2}).failed
    with pytest.raises(StageError, match=r"2 slides .*P043-A, P044-A.: .* 1"):
        run_tables.load(folder, *names, settings={"max_failed_slides": 1})


def test_a_cohort_without_tiles_and_caveat_has_a_report_too(tmp_path: Path) -> None:
    make(tmp_path, color=False, guidance=2.0)
    for path in (tmp_path / "tiles").glob("*.parquet"):
        path.unlink()
    text = report.write(load(tmp_path), tmp_path / "report").read_text()
    assert 'id="slides"' not in text
    assert '<span class="tag open">not claimed</span>' in text
    assert "(color-ridge: slides without colour statistics" in text


def test_folds_too_small_for_any_correlation_have_a_report(tmp_path: Path) -> None:
    make(tmp_path, patients=9, genes=40)
    made = load(tmp_path)
    assert made.summary.filter(pl.col("metric") == "pcc")["value"].is_null().all()
    text = report.write(made, tmp_path / "report").read_text()
    assert 'class="warn"' in text
    assert not (tmp_path / "report" / "figures" / "models.png").exists()


def test_missing_tables_are_refused(folder: Path) -> None:
    with pytest.raises(StageError, match="stage evaluate"):
        run_tables.load(folder, "other-run", synthetic_cohort.ENCODER, synthetic_cohort.SET)


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
        ("no signal", "bad"), ("worse", "bad"), ("too narrow", "bad"),
        ("unclear", "open"), ("better", "good"),
    ]  # fmt: skip
    assert "ridge (PCC −0.250 [−0.300, −0.200] on all genes)" in found[1].text
    assert "70.0 %" in found[2].text
    assert "color-ridge (PCC +0.000 [" in found[3].text
    assert "constant (RMSE −0.150)" in found[4].text


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
    assert '<span class="tag open">absent</span>' in text
    assert 'id="calibration"' not in text
    assert Page(text).open == []


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert numbers.format_number(-0.25, 2) == "−0.25"
    assert numbers.format_number(-0.0001) == "0.000"
    assert numbers.format_number(None) == "–"
    assert numbers.format_number(float("nan")) == "–"
    assert numbers.format_interval({"low": -0.5, "high": 0.5}, 1) == "−0.5 to 0.5"
