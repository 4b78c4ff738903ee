"""Folds: each unit once per fold, tested once, whatever the order; given splits as they are."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slide2rna.cohort import splits
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, SheetError

FOLDS = config.defaults("folds")


def units_of(count: int, sites: int = 1) -> pl.DataFrame:
    site = [f"s{i % sites}" if sites > 1 else None for i in range(count)]
    unit = [f"P{i:03d}" for i in range(count)]
    return pl.DataFrame({"unit": unit, "site": pl.Series(site, dtype=pl.String)})


def parts_of(table: pl.DataFrame, fold: int, part: str) -> set[str]:
    return set(table.filter((pl.col("fold") == fold) & (pl.col("part") == part))["unit"])


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(4, 60),
    n=st.integers(2, 6),
    sites=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    shuffle=st.randoms(),
)
def test_drawn_folds(count: int, n: int, sites: int, seed: int, shuffle) -> None:
    units = units_of(count, sites)
    if n > count:
        with pytest.raises(ConfigError):
            splits.draw(units, FOLDS | {"n": n}, seed)
        return
    table = splits.draw(units, FOLDS | {"n": n}, seed)
    assert table.height == count * n
    assert not table.select("unit", "fold").is_duplicated().any()
    tested = table.filter(pl.col("part") == "test")["unit"].to_list()
    assert sorted(tested) == units["unit"].to_list()
    for fold in range(n):
        assert parts_of(table, fold, "train")
        assert parts_of(table, fold, "val")
    order = list(range(count))
    shuffle.shuffle(order)
    assert splits.draw(units[order], FOLDS | {"n": n}, seed).equals(table)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(8, 40),
    val=st.floats(0.01, 0.9),
    cal=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@example(count=8, val=0.05, cal=0.9, seed=0)
def test_any_shares_leave_something_to_each_part(
    count: int, val: float, cal: float, seed: int
) -> None:
    if val + cal >= 1:
        return
    table = splits.draw(units_of(count), FOLDS | {"n": 4, "val_share": val, "cal_share": cal}, seed)
    for fold in range(4):
        sizes = {part: len(parts_of(table, fold, part)) for part in splits.PARTS}
        assert min(sizes["train"], sizes["val"], sizes["test"]) >= 1
        assert bool(sizes["cal"]) == bool(cal)


def test_shares_and_seed() -> None:
    table = splits.draw(units_of(100), FOLDS, 1)
    for fold in range(5):
        sizes = {part: len(parts_of(table, fold, part)) for part in splits.PARTS}
        assert sizes == {"train": 64, "val": 8, "cal": 8, "test": 20}
    assert not splits.draw(units_of(100), FOLDS, 2).equals(table)


def test_sites_are_shared_out_evenly() -> None:
    units = units_of(90, 3)
    table = splits.draw(units, FOLDS | {"n": 5}, 3).join(units, on="unit")
    counts = table.group_by("fold", "part", "site").len()
    for part in ("test", "val", "cal"):
        per_site = counts.filter(pl.col("part") == part)["len"]
        assert per_site.max() - per_site.min() <= 1


def test_small_cohorts() -> None:
    table = splits.draw(units_of(8), FOLDS | {"n": 4}, 1)
    assert [len(parts_of(table, 0, part)) for part in splits.PARTS] == [3, 2, 1, 2]
    table = splits.draw(units_of(8), FOLDS | {"n": 4, "cal_share": 0}, 1)
    assert parts_of(table, 0, "cal") == set()


def test_leave_one_section_out() -> None:
    units = pl.DataFrame(
        {"unit": ["C3", "C2", "C5", "C4"], "site": pl.Series([None] * 4, dtype=pl.String)}
    )
    table = splits.draw(units, FOLDS | {"n": 4}, 1)
    for fold, (test, val) in enumerate([("C2", "C3"), ("C3", "C4"), ("C4", "C5"), ("C5", "C2")]):
        assert parts_of(table, fold, "test") == {test}
        assert parts_of(table, fold, "val") == {val}
        assert len(parts_of(table, fold, "train")) == 2


@pytest.mark.parametrize(
    ("count", "changes", "cause"),
    [
        (4, {}, "5 folds can't be made of 4 split units"),
        (1, {}, "5 folds can't be made of 1 split unit"),
        (2, {"n": 2}, "train"),
        (10, {"n": 1}, "one fold can't be drawn"),
        (10, {"val_share": 0.6, "cal_share": 0.5}, "train"),
    ],
)
def test_impossible_draws(count: int, changes: dict[str, float], cause: str) -> None:
    with pytest.raises(ConfigError) as caught:
        splits.draw(units_of(count), FOLDS | changes, 1)
    assert cause in caught.value.cause


def given_split(path: Path, drop_cal: bool = False) -> pl.DataFrame:
    table = splits.draw(units_of(20), FOLDS, 1)
    if drop_cal:
        part = pl.when(pl.col("part") == "cal").then(pl.lit("train")).otherwise("part")
        table = table.with_columns(part.alias("part"))
    table.rename({"unit": "patient_id"}).write_csv(path, separator="\t")
    return table


def test_given_split_is_used_as_it_is(tmp_path: Path) -> None:
    table = given_split(tmp_path / "s.tsv")
    assert splits.from_file(tmp_path / "s.tsv", units_of(20), FOLDS, 1).equals(table)


def test_missing_cal_is_taken_from_train(tmp_path: Path) -> None:
    before = given_split(tmp_path / "s.tsv", drop_cal=True)
    after = splits.from_file(tmp_path / "s.tsv", units_of(20), FOLDS, 1)
    for fold in range(5):
        for part in ("val", "test"):
            assert parts_of(after, fold, part) == parts_of(before, fold, part)
        assert len(parts_of(after, fold, "cal")) == 1
        assert parts_of(after, fold, "cal") < parts_of(before, fold, "train")
    none = splits.from_file(tmp_path / "s.tsv", units_of(20), FOLDS | {"cal_share": 0}, 1)
    assert none.equals(before)


def test_units_that_are_not_in_the_cohort_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given_split(tmp_path / "s.tsv")
    with caplog.at_level("INFO", logger="slide2rna"):
        table = splits.from_file(tmp_path / "s.tsv", units_of(18), FOLDS, 1)
    assert table["unit"].n_unique() == 18
    assert "2 units" in caplog.text


HEAD = "patient_id\tfold\tpart\n"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("patient_id\tpart\nP000\ttest\n", "column 'fold' is missing"),
        ("name\tfold\tpart\nP000\t0\ttest\n", "column 'patient_id' is missing"),
        (HEAD + "P000\t0\tdev\n", "part 'dev' is unknown"),
        (HEAD + "P000\tone\ttest\n", "fold is not a whole number"),
        (HEAD + "P000\t0\ttest\nP000\t0\ttrain\n", "P000 in fold 0 has more than one row"),
        (HEAD + "P000\t1\ttest\nP001\t1\tval\nP002\t1\ttrain\n", "folds are numbered [1]"),
        (HEAD + "P000\t0\ttest\nP001\t0\tval\n", "P002"),
        (HEAD + "P000\t0\ttest\nP001\t0\ttrain\nP002\t0\ttrain\n", "fold 0 has no val unit"),
    ],
)
def test_bad_given_splits(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "s.tsv").write_text(text)
    with pytest.raises(SheetError) as caught:
        splits.from_file(tmp_path / "s.tsv", units_of(3), FOLDS | {"n": 1}, 1)
    assert cause in caught.value.cause


def test_number_of_folds_must_agree(tmp_path: Path) -> None:
    given_split(tmp_path / "s.tsv")
    with pytest.raises(ConfigError, match=r"\{n: 5\}"):
        splits.from_file(tmp_path / "s.tsv", units_of(20), FOLDS | {"n": 4}, 1)


def with_split(values: list[list[str | None]]) -> pl.DataFrame:
    return units_of(len(values)).with_columns(pl.Series("split", values, dtype=pl.List(pl.String)))


def test_split_column_with_parts() -> None:
    units = with_split([["train"]] * 3 + [["val"], ["cal"], ["test"]])
    table = splits.from_column("sheet", units, FOLDS | {"n": 1}, 1)
    assert table["part"].to_list() == ["train"] * 3 + ["val", "cal", "test"]


def test_split_column_with_test_folds() -> None:
    units = with_split([[str(i % 2)] for i in range(10)])
    table = splits.from_column("sheet", units, FOLDS | {"n": 2}, 1)
    assert parts_of(table, 0, "test") == {f"P{i:03d}" for i in range(0, 10, 2)}
    assert parts_of(table, 1, "test") == {f"P{i:03d}" for i in range(1, 10, 2)}
    assert all(parts_of(table, fold, part) for fold in (0, 1) for part in ("train", "val"))


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ([["train", "test"], ["val"], ["test"]], "P000 has several or missing"),
        ([[None], ["val"], ["test"]], "P000 has several or missing"),
        ([["train"], ["1"], ["test"]], "mixes parts and fold numbers"),
        ([["0"], ["2"], ["0"]], "folds [0, 2]"),
        ([["train"], ["train"], ["test"]], "no val unit"),
    ],
)
def test_bad_split_columns(values: list[list[str | None]], cause: str) -> None:
    with pytest.raises(SheetError) as caught:
        splits.from_column("sheet", with_split(values), FOLDS | {"n": 1}, 1)
    assert cause in caught.value.cause


@pytest.mark.parametrize("name", ["TCGA-LUAD", "TCGA-BRCA", "TCGA-COAD"])
def test_published_splits_load(shared_data: Path, name: str) -> None:
    path = shared_data / "splits" / f"{name}.tsv"
    names = pl.read_csv(path, separator="\t")["patient_id"].unique().sort()
    units = pl.DataFrame({"unit": names}).with_columns(site=pl.lit(None, pl.String))
    table = splits.from_file(path, units, FOLDS, 1)
    assert table.filter(pl.col("part") == "test").height == len(names)
    assert (table.filter(pl.col("part") == "cal").group_by("fold").len()["len"] > 20).all()


def test_by_patient_looks_at_no_site() -> None:
    chosen = config.defaults("folds", by="patient")
    sites = pl.DataFrame(
        {"unit": [f"P{i:03d}" for i in range(30)], "site": ["a"] * 10 + ["b"] * 20}
    )
    other = sites.with_columns(pl.lit("c").alias("site"))
    assert splits.draw(sites, chosen, 1).equals(splits.draw(other, chosen, 1))
    assert not splits.draw(sites, FOLDS, 1).equals(splits.draw(sites, chosen, 1))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=5, max_size=20), st.integers(0, 9))
def test_leave_site_out(sizes: list[int], seed: int) -> None:
    rows = [(f"S{site}-{i}", f"S{site}") for site, size in enumerate(sizes) for i in range(size)]
    sites = pl.DataFrame(rows, schema=["unit", "site"], orient="row")
    chosen = config.defaults("folds", by="leave-site-out")
    table = splits.draw(sites, chosen, seed)
    assert table.equals(splits.draw(sites.sample(fraction=1, shuffle=True, seed=1), chosen, seed))
    tested = table.filter(pl.col("part") == "test").join(sites, on="unit")
    assert tested["unit"].is_unique().all()
    assert tested.height == sites.height
    assert tested.group_by("site").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert tested["fold"].n_unique() == 5
    load = tested["fold"].value_counts()["count"]
    assert load.max() - load.min() <= max(sizes)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["a", None, "b", "c", "d", "e"], "P001"),
        (["a", "a", "b", "b", "c", "d"], "5 folds.* 4"),
        (["a"] * 20 + ["b", "c", "d", "e"], None),
    ],
)
def test_leave_site_out_refuses(sites: list[str | None], message: str | None) -> None:
    units = pl.DataFrame({"unit": [f"P{i:03d}" for i in range(len(sites))], "site": sites})
    chosen = config.defaults("folds", by="leave-site-out")
    if message is None:
        assert splits.draw(units, chosen, 1)["fold"].n_unique() == 5
        return
    with pytest.raises(ConfigError, match=message):
        splits.draw(units, chosen, 1)


@pytest.mark.parametrize("project", ["BRCA", "COAD", "LUAD"])
def test_a_published_split_gets_a_calibration_part(shared_data: Path, project: str) -> None:
    path = shared_data / "splits" / f"TCGA-{project}.tsv"
    given_parts = pl.read_csv(path, separator="\t").rename({"patient_id": "unit"})
    units = (
        given_parts.select("unit")
        .unique()
        .with_columns(pl.col("unit").str.slice(5, 2).alias("site"))
    )
    table = splits.from_file(path, units, FOLDS, 1)
    assert table["fold"].n_unique() == 5
    both = table.join(given_parts, on=["unit", "fold"], suffix="_given")
    moved = both.filter(pl.col("part") != pl.col("part_given"))
    assert moved.select("part_given", "part").unique().rows() == [("train", "cal")]
    share = moved.height / given_parts.filter(pl.col("part") == "train").height
    assert 0.08 < share < 0.12
