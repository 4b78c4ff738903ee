"""The whole chain on real slides with measured expression; `make real` makes the results."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

RUN = "lite0-flow-go-bp"
CAVEAT = "within one patient, adjacent sections: no claim about patients"


@pytest.fixture(scope="module")
def her2st(repo: Path) -> Path:
    path = repo / "results" / "her2st"
    if not (path / "report" / "index.html").exists():
        pytest.skip("no results of the her2st cohort; make real HER2ST=<folder>")
    return path


def test_every_table_and_the_page_carry_the_caveat(her2st: Path) -> None:
    for path in sorted((her2st / "evaluation" / RUN).glob("*.parquet")):
        assert pl.read_parquet(path)["caveat"].unique().to_list() == [CAVEAT], path.name
    assert CAVEAT[1:] in (her2st / "report" / "index.html").read_text()


def test_a_section_is_left_out_whole(her2st: Path) -> None:
    slides = pl.read_parquet(her2st / "slides.parquet")
    splits = pl.read_csv(her2st / "splits.tsv", separator="\t")
    assert slides["unit"].unique().sort().to_list() == ["C2", "C3", "C4", "C5"]
    for (_,), fold in splits.group_by("fold"):
        parts = {part: set(own["unit"]) for (part,), own in fold.group_by("part")}
        assert (len(parts["test"]), len(parts["val"]), len(parts["train"])) == (1, 1, 2)
        assert not parts["test"] & parts["train"]


def test_nulls_stand_beside_the_model(her2st: Path) -> None:
    summary = pl.read_parquet(her2st / "evaluation" / RUN / "summary.parquet")
    summary = summary.filter(pl.col("protocol") == "clean")
    pcc = summary.filter((pl.col("metric") == "pcc") & (pl.col("gene_set") == "all"))
    for row in pcc.iter_rows(named=True):
        print(f"{row['model']}: PCC {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    assert {"flow", "constant", "color-ridge", "ridge", "permuted"} <= set(pcc["model"])
