"""The report's section on shift: there with its tables, and with the tables' own numbers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import shift_tables
import synthetic_cohort
import written_reports
from scipy import stats
from slide2rna.pages import html, numbers
from slide2rna.report import report
from slide2rna.report.figures import shift as shift_figures
from slide2rna.report.sections import page_sections, run_tables
from slide2rna.report.sections import shift as shift_section
from written_reports import NAMES, load

SITES = {"slide_id": ["a", "b", "c", "d"], "site": ["east", "east", "west", None]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    made = written_reports.make(folder)
    shift_tables.add_shift(made)
    shift_tables.add_abstention(made, folder / "evaluation" / synthetic_cohort.RUN)
    shift_tables.add_stain(folder, NAMES[0], load(folder).tables["genes"]["gene"].to_list())
    return folder


def text_of(run: run_tables.RunTables) -> str:
    return html.render(
        "pages/report.html.j2", report.context(run, page_sections.build(run)) | {"figure": {}}
    )


def judged(**columns: object) -> pl.DataFrame:
    base = {"slide_id": ["a", "b", "c", "d"], "unit": ["P", "P", "Q", "R"], "part": ["test"] * 4}
    base |= {"fold": [0] * 4, "bag_p": [0.01, 0.9, 0.2, 0.03], "bag_p_train": [0.5, 0.5, 0.01, 0.5]}
    base |= {"expression_p": [None] * 4, "expression_distance": [None] * 4}
    base |= {"bag_distance": [1.0, 2, 3, 4], "profiles": ["draws"] * 4}
    base |= {"alpha": [0.05] * 4, "n_cal": [99] * 4, "n_train": [200] * 4}
    schema = dict.fromkeys(("expression_p", "expression_distance"), pl.Float64)
    return pl.DataFrame(base | columns, schema_overrides=schema)


def test_shares_count_a_patients_first_slide_and_name_the_sites() -> None:
    found = shift_section.shift(judged(), pl.DataFrame(SITES))
    assert found is not None
    shares = {
        row["name"]: [c and (c["value"], c["n"]) for c in row["cells"]] for row in found["rows"]
    }
    assert shares == {
        "all sites": [(pytest.approx(2 / 3), 3), (pytest.approx(1 / 3), 3), None],
        "east": [(1.0, 1), (0.0, 1), None],
        "unknown": [(1.0, 1), (0.0, 1), None],
        "west": [(0.0, 1), (1.0, 1), None],
    }
    cell = found["rows"][0]["cells"][0]
    # 3 units against 99: k = 5 of 100, P(none), P(at most 1) and P(at most 2) by Beta(5, 95).
    chances = stats.betabinom.cdf([0, 1, 2], 3, 5, 95)
    assert (chances >= 0.975).tolist() == [False, True, True]
    assert (cell["null_low"], cell["null_high"]) == (0, pytest.approx(1 / 3))
    assert (cell["tone"], found["rows"][0]["cells"][1]["tone"]) == ("bad", "open")
    assert [row["slide_id"] for row in found["farthest"]] == ["c", "d", "b", "a"]
    assert not found["unattainable"]


@pytest.mark.parametrize("held", [19, 40, 99])
def test_expected_share_holds_what_no_shift_gives(held: int) -> None:
    """Folds of 80 test patients whose p-values share their cal patients."""
    rng, runs, folds = np.random.default_rng(0), 400, 5
    cal, own = rng.normal(size=(runs, folds, held)), rng.normal(size=(runs, folds, 80))
    beyond = (cal[:, :, None] >= own[..., None]).sum(axis=-1)
    shares = ((1 + beyond) / (held + 1) <= 0.05).mean(axis=(1, 2))
    low, high = shift_section.null_range([(80, held)] * folds, 0.05)
    inside = ((shares >= low) & (shares <= high)).mean()
    assert 0.92 <= inside <= 1
    k = shift_section.critical_rank(held, 0.05)
    assert low < k / (held + 1) < high
    # Of independent p-values it would be narrower.
    ends = stats.binom.ppf([0.025, 0.975], 400, k / (held + 1)) / 400
    assert high - low > 1.2 * (ends[1] - ends[0])


def test_expected_share_of_reaching_and_other_folds() -> None:
    assert shift_section.null_range([(80, 18), (9, 0)], 0.05) == (0, 0)
    one = shift_section.null_range([(10, 19)], 0.05)[1] * 10
    assert shift_section.null_range([(10, 19), (90, 18)], 0.05)[1] == pytest.approx(one / 100)
    assert [shift_section.critical_rank(n, 0.29) for n in (99, 98)] == [29, 28]


def test_held_out_sites_are_named(folder: Path) -> None:
    sites = pl.DataFrame(SITES | {"site": ["east", "east", "west", "west"]})
    parts = {"part": ["test", "test", "cal", "cal"]}
    left_out = shift_section.shift(judged(**parts), sites)
    assert left_out is not None
    assert left_out["apart"]
    mixed = shift_section.shift(judged(part=["test", "cal", "test", "cal"]), sites)
    assert mixed is not None
    assert not mixed["apart"]
    by_val = shift_section.shift(judged(part=["test", "test", "val", "val"]), sites)
    assert by_val is not None
    assert by_val["apart"]
    # The same sites, but in different folds: each is left out of its own.
    folds = {"part": ["test", "cal", "cal", "test"], "fold": [0, 1, 0, 1]}
    crossed = shift_section.shift(judged(**folds), sites)
    assert crossed is not None
    assert crossed["apart"]
    run = load(folder)
    assert "over all sites together" in text_of(run)
    assert "Test sites" not in text_of(run)
    slides = run.slides.with_columns(pl.col("slide_id").alias("site"))
    text = text_of(dataclasses.replace(run, slides=slides))
    assert "Test sites" in text
    assert "over all sites together" not in text


def test_units_below_the_patient_are_named(folder: Path) -> None:
    run = load(folder, "stain")
    start, end = '<h2 id="shift">', 'id="abstention"'
    text = text_of(run).split(start)[1].split(end)[0]
    assert "against train patients" in text
    sections = text_of(dataclasses.replace(run, cohort=run.cohort | {"split_unit": "section"}))
    own = sections.split(start)[1]
    assert "patient" not in own.split(end)[0]
    assert "Bag, against cal sections" in own
    assert re.search("test slides of <b>6</b> sections|test slides of 6 sections", own)
    assert "95 % over sections" in own


def test_the_page_judges_shares_by_the_band(folder: Path) -> None:
    run = load(folder)
    tested = run.extra["shift"].with_columns(n_cal=pl.lit(99), n_train=pl.lit(99))
    for p, label in ((0.01, "shift"), (0.5, "as expected")):
        far = tested.with_columns(bag_p=pl.lit(p), bag_p_train=pl.lit(p), expression_p=pl.lit(p))
        text = text_of(dataclasses.replace(run, extra=run.extra | {"shift": far}))
        assert text.count(f">{label}</span>") >= 3


def test_too_few_cal_patients_are_said_to_be() -> None:
    found = shift_section.shift(judged(n_cal=[3, 3, 4, 4]), pl.DataFrame(SITES))
    assert found is not None
    assert found["unattainable"]
    assert (found["held"]["n_cal"], found["least"]["n_cal"]) == ("3 to 4", 0.25)
    none = shift_section.shift(judged(n_cal=[0] * 4, bag_p=[None] * 4), pl.DataFrame(SITES))
    assert none is not None
    assert none["rows"][0]["cells"][0] is None


def test_the_page_shows_the_section_only_with_its_table(folder: Path) -> None:
    run = load(folder, "stain")
    text = text_of(run)
    for mark in ('id="shift"', 'href="#shift"', 'id="abstention"', 'id="stain"'):
        assert mark in text
    less = text_of(dataclasses.replace(run, extra=run.extra | {"stain": None, "abstention": None}))
    assert 'id="shift"' in less
    assert 'id="abstention"' not in less
    assert 'id="stain"' not in less
    none = text_of(dataclasses.replace(run, extra=run.extra | {"shift": None}))
    assert 'id="shift"' not in none
    assert 'href="#shift"' not in none


def test_the_page_has_the_tables_numbers(folder: Path) -> None:
    run, text = load(folder, "stain"), text_of(load(folder, "stain"))
    gains = run.extra["abstention"].filter(pl.col("share").is_null(), pl.col("gene_set") == "all")
    for order in ("bag", "expression", "spread"):
        row = re.search(rf'<th scope="row">{shift_section.WORDS[order]}</th>(.*?)</tr>', text)
        assert row is not None
        for metric in ("crps", "rmse", "pcc"):
            of = gains.filter(pl.col("order") == order, pl.col("metric") == metric)
            assert f"<b>{numbers.format_number(of['value'][0], 4, True)}</b>" in row[1]
            assert f"p = {numbers.format_probability(of['p'][0])}" in row[1]
    tested = run.extra["shift"].filter(pl.col("part") == "test")
    assert (
        tested.sort("bag_p_train", "bag_distance", descending=[False, True])["slide_id"][0] in text
    )


def test_shift_of_other_folds_is_not_read(folder: Path) -> None:
    assert load(folder).extra["shift"]["fold"].n_unique() == 3
    assert load(folder, folds=2).extra["shift"]["fold"].n_unique() == 2
    assert load(folder, folds=4).extra["shift"] is None
    assert run_tables.load_shift(folder, "another", 3) == {"shift": None, "abstention": None}


def test_figures_stand_for_draws_points_and_few_cal_patients(folder: Path) -> None:
    run = load(folder, "stain")
    judged_run, answered = run.extra["shift"], run.extra["abstention"]
    axes = shift_figures.shift(judged_run).axes
    assert axes[0].get_title("left") == "Bag, against train"  # two cal patients make no histogram
    bars = [bar.get_height() * bar.get_width() / 0.92 for bar in axes[1].patches]
    assert sum(bars) == pytest.approx(1)
    many = shift_figures.shift(judged_run.with_columns(n_cal=pl.lit(99)))
    assert many.axes[0].get_title("left") == "Bag, against cal"
    assert len(shift_figures.abstention(answered).axes) == 3
    points = answered.filter(pl.col("metric") != "crps", pl.col("order") != "spread")
    assert len(shift_figures.abstention(points).axes) == 2
    found = shift_section.stain(run.extra["stain"], run.extra["stain_genes"])
    assert found is not None
    labels = [text.get_text() for text in shift_figures.stain(found).axes[0].get_yticklabels()]
    assert labels[0] == "contrast × 0.7"
    assert "as they are" not in labels


def test_verdict_follows_the_band_of_random_orders() -> None:
    keys = {"gene_set": "all", "metric": "crps", "p": 0.5, "of_oracle": 0.2, "n_patients": 9}
    ends = {"low": 0.0, "high": 1.0, "null_low": -0.1, "null_high": 0.1, "n_genes": 5}
    for value, label in ((0.2, "helps"), (0.0, "unclear"), (-0.2, "harms")):
        rows = [
            keys | ends | {"order": order, "share": share, "value": value}
            for order in ("bag", "random")
            for share in (None, 1.0, 0.8)
        ]
        found = shift_section.abstention(pl.DataFrame(rows, infer_schema_length=None))
        assert found is not None
        assert [line["label"] for line in found["verdict"]] == [label]
        assert " 20 % of " in found["verdict"][0]["text"]
