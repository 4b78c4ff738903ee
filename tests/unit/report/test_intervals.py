"""The report's section on intervals, pathway scores and co-expression."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import evaluated
import polars as pl
import pytest
import synthetic_cohort
import zarr
from slide2rna.evaluation.uncertainty import coexpression_table, conformal_table
from slide2rna.evaluation.uncertainty.calibration import SCHEMA as CALIBRATION
from slide2rna.report import report
from slide2rna.report.sections import intervals, page_sections, run_tables

NAMES = (synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)
FIGURES = ("conformal", "pathway_intervals", "coexpression")


def written(folder: Path, made: synthetic_cohort.Synthetic, **settings: object) -> str:
    out = folder / "evaluation" / synthetic_cohort.RUN
    evaluated.run(made, out, bootstrap=30, permutations=3, **settings)
    report.write(run_tables.load(folder, *NAMES), folder / "report")
    return (folder / "report/index.html").read_text(encoding="utf-8")


def section(page: str) -> str:
    found = re.search(r'<section aria-labelledby="intervals">.*?</section>', page, re.S)
    assert found
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cohort")


@pytest.fixture(scope="module")
def made(folder: Path) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(folder, patients=60, genes=60, draws=25, cal=20)


@pytest.fixture(scope="module")
def page(folder: Path, made: synthetic_cohort.Synthetic) -> str:
    return written(folder, made, conformal={"by": "site"})


def test_all_of_it_is_on_the_page(page: str, folder: Path) -> None:
    shown = section(page)
    for heading in ("Conformal intervals", "Sharpness", "Pathway scores", "Co-expression"):
        assert heading in shown
    for name in FIGURES:
        for suffix in ("png", "svg"):
            assert (folder / f"report/figures/{name}.{suffix}").stat().st_size > 4000
        assert f"figures/{name}.png" in shown
    assert 'href="#intervals"' in page
    assert "By site: answered" in shown


def test_the_table_shows_what_was_measured(page: str, folder: Path) -> None:
    table = pl.read_parquet(
        folder / "evaluation" / synthetic_cohort.RUN / "conformal.parquet"
    ).filter(gene_set="all", within="pooled", level=0.9)
    for kind in ("draws", "conformal", "conformal-site"):
        row = table.filter(kind=kind).row(0, named=True)
        assert f"{row['covered']:.3f}" in section(page)


def test_no_coverage_is_claimed_across_sites(page: str, folder: Path) -> None:
    run = run_tables.load(folder, *NAMES)
    assert not page_sections.build(run).intervals["across"]
    assert "not claimed across sites" not in page
    # Each fold tests a site of its own, as leave-site-out does.
    tested = run.splits.filter(pl.col("part") == "test").select(
        "unit", site=pl.format("S{}", "fold")
    )
    apart = replace(run, slides=run.slides.drop("site").join(tested, on="unit"))
    shown = page_sections.build(apart).intervals
    assert shown["across"]
    (said,) = [line for line in shown["sentences"] if "onformal" in line.text]
    assert (said.tone, said.label) == ("open", "not claimed across sites")


def test_kept_in_summary_the_page_says_what_is_missing(
    folder: Path, made: synthetic_cohort.Synthetic, page: str
) -> None:
    for path in made.inputs.draws:
        del zarr.open_group(path, mode="r+")["draws"]
    bare = written(folder, made)
    assert "sample.keep: summary" in section(bare)
    assert "sample.keep: summary" not in section(page)

    assert "Sharpness" in section(bare)
    assert "Pathway scores with intervals" not in section(bare)
    calibration = re.search(r'<section aria-labelledby="calibration">.*?</section>', bare, re.S)
    assert calibration
    assert "Spearman" in calibration[0]
    assert 'id="figure-reliability"' not in bare
    assert 'id="figure-reliability"' in page
    for path in made.inputs.draws:
        for name in ("mean", "sd"):
            del zarr.open_group(path, mode="r+")[name]
    assert 'id="calibration"' not in written(folder, made)


def test_guided_draws_claim_no_coverage(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=45, genes=40, draws=25, guidance=2.0)
    shown = section(written(tmp_path, made))
    assert '<span class="tag open">not claimed</span>' in shown

    tables = run_tables.load(tmp_path, *NAMES).tables
    for name, quantity in (("calibration", "coverage"), ("conformal", None)):
        own = tables[name].filter(pl.col("kind") == "draws")
        own = own.filter(quantity=quantity) if quantity else own
        assert own.height
        assert own["note"].str.ends_with("; guided: no coverage is claimed").all()
    rest = tables["conformal"].filter(pl.col("kind") == "conformal")
    assert not rest["note"].str.contains("guided").any()


def test_sites_are_compared_within_a_fold() -> None:
    splits = pl.DataFrame(
        {"unit": list("abcd"), "fold": [0, 0, 1, 1], "part": ["cal", "test", "cal", "test"]}
    )

    def across(*sites: str | None) -> bool:
        slides = pl.DataFrame({"unit": list("abcd"), "site": pl.Series(sites, dtype=pl.String)})
        return intervals.across_sites(slides, splits)

    assert across("x", "y", "y", "x")
    assert not across("x", "x", "y", "z")
    assert not across(None, None, None, None)


def coexpression(draws: float, point: float, half: float) -> pl.DataFrame:
    """Two gene sets: on all genes as said, on T50 with draws far ahead."""
    rows = []
    for name, ours in (("all", draws), ("T50", 0.9)):
        base = {"gene_set": name, "n_patients": 40, "n_genes": 50, "note": ""}
        for model, kind, metric, value in (
            ("flow", "draws", "gsc", ours),
            ("ridge", "point", "gsc", point),
            ("site-mean", "point", "gsc", 0.01),
            ("flow", "draws", "gsc_minus:ridge/point", ours - point),
            ("flow", "draws", "gsc_minus:site-mean/point", ours - 0.01),
        ):
            ends = {"value": value, "low": value - half, "high": value + half}
            rows.append(base | {"model": model, "kind": kind, "metric": metric} | ends)
    return pl.DataFrame(rows, schema=coexpression_table.SCHEMA)


@pytest.mark.parametrize(
    ("draws", "label"), [(0.8, "better"), (0.52, "unclear"), (0.2, "partly worse")]
)
def test_the_page_says_whether_draws_win_and_against_whom(draws: float, label: str) -> None:
    tables = {
        "coexpression": coexpression(draws, 0.5, 0.05),
        "conformal": pl.DataFrame(schema=conformal_table.SCHEMA),
        "calibration": pl.DataFrame(schema=CALIBRATION),
    }
    measured, against = intervals.sentences(tables, "flow", ["all", "T50"])
    assert measured.label == "measured"
    assert against.label == label
    assert "(ridge, point)" in against.text
    assert "+0.400 [+0.350, +0.450] on T50: better" in against.text


@pytest.mark.parametrize(
    ("covered", "label"), [(0.9, "as promised"), (0.82, "too narrow"), (0.97, "too wide")]
)
def test_the_page_says_whether_conformal_intervals_keep_their_promise(
    covered: float, label: str
) -> None:
    row = {"gene_set": "all", "kind": "conformal", "within": "pooled", "level": 0.9}
    row |= {"attainable": 0.9, "n_cal": 99, "covered": covered, "low": covered - 0.01}
    row |= {"high": covered + 0.01, "width_ratio": 1.1, "answered": 1.0, "note": ""}
    (found,) = intervals._conformal(pl.DataFrame([row], schema=conformal_table.SCHEMA))
    assert found.label == label
    assert "1.10 times" in found.text


def test_a_refused_level_is_said_to_be(page: str, tmp_path: Path) -> None:
    few = synthetic_cohort.make(tmp_path, patients=45, genes=40, draws=25, cal=2)
    shown = section(written(tmp_path, few))
    assert re.search("9 calibration patients.* 2", shown)
    assert shown.count("refused<span") == 4  # two levels, two gene sets
    assert "refused<span" not in section(page)
