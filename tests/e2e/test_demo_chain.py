"""The demo cohort from nothing to its report, by the command that users type."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zarr
from running import run_demo
from slide2rna import io

RUN = "lite0-flow-go-bp"


@pytest.mark.timeout(1500)
def test_every_slide_is_accounted_for(demo: Path) -> None:
    slides = pl.read_parquet(demo / "slides.parquet")
    features = pl.read_parquet(demo / "features" / "lite0" / "shard-*.parquet")
    assert slides.height == 48
    assert slides["patient_id"].n_unique() == 40
    assert set(features["slide_id"]) == set(slides["slide_id"])
    failed = features.filter(pl.col("status") == "failed")
    assert failed.height == 1
    assert "too little tissue" in failed["reason"][0]


def test_most_slides_have_more_than_2k_tiles(demo: Path) -> None:
    tiles = pl.read_parquet(demo / "tiles" / "shard-*.parquet")
    assert (tiles["n_tiles"] > 2 * 16).sum() >= 30


def test_tiles_are_disjoint(demo: Path) -> None:
    for path in sorted((demo / "tiles").glob("DEMO-*.parquet"))[:10]:
        table = pl.read_parquet(path)
        size = table["size"][0]
        assert table.select("x", "y").is_unique().all()
        for axis in "xy":
            assert ((table[axis] - table[axis].min()) % size == 0).all()


def test_no_patient_in_two_parts(demo: Path) -> None:
    splits = pl.read_csv(demo / "splits.tsv", separator="\t")
    assert splits.group_by("unit", "fold").len()["len"].max() == 1
    tested = splits.filter(pl.col("part") == "test")
    assert tested["unit"].is_unique().all()
    assert tested["unit"].n_unique() == 40


def test_draws_cover_held_out_slides_only(demo: Path) -> None:
    splits = pl.read_csv(demo / "splits.tsv", separator="\t")
    slides = pl.read_parquet(demo / "slides.parquet")
    for fold in range(5):
        group = zarr.open_group(demo / "draws" / RUN / f"fold-{fold}.zarr", mode="r")
        train = splits.filter((pl.col("fold") == fold) & (pl.col("part") == "train"))["unit"]
        trained = set(slides.filter(pl.col("unit").is_in(train.implode()))["slide_id"])
        assert not trained & set(group.attrs["slide_ids"])
        samples, draws, genes = group["draws"].shape
        assert draws == 100
        assert genes >= 2000
        assert samples == len(group.attrs["slide_ids"])
        drawn = [row for row, part in enumerate(group.attrs["parts"]) if part != "val"]
        values = group["draws"][:]
        assert float(values[drawn].min()) >= 0
        assert np.isnan(np.delete(values, drawn, axis=0)).all()


def test_every_number_has_n_and_interval(demo: Path) -> None:
    summary = pl.read_parquet(demo / "evaluation" / RUN / "summary.parquet")
    summary = summary.filter(pl.col("protocol") == "clean")
    assert {"flow", "constant", "color-ridge", "ridge"} <= set(summary["model"])
    pcc = summary.filter((pl.col("metric") == "pcc") & (pl.col("model") == "flow"))
    assert pcc.height > 0
    assert (pcc["low"] <= pcc["value"]).all()
    assert (pcc["value"] <= pcc["high"]).all()
    assert (pcc["n_patients"] > 0).all()
    assert not pcc["value"].is_nan().any()
    constant = summary.filter((pl.col("metric") == "pcc") & (pl.col("model") == "constant"))
    assert (constant["value"].abs() < 1e-9).all()


def test_page_stands_alone(demo: Path) -> None:
    page = (demo / "report" / "index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)[^"]*//', page)
    assert "too little tissue" in page
    for figure in (demo / "report" / "figures").glob("*.png"):
        assert figure.with_suffix(".svg").exists()


def test_tables_do_not_depend_on_when_they_are_made(repo: Path, demo: Path) -> None:
    tables = sorted((demo / "evaluation" / RUN).glob("*.parquet"))
    before = {path.name: io.sha256sum(path) for path in tables}
    done = run_demo(repo, demo.parent, "--forcerun", "evaluate")
    assert done.returncode == 0, done.stderr[-4000:]
    assert {path.name: io.sha256sum(path) for path in tables} == before


def test_nothing_to_do_when_all_is_done(repo: Path, demo: Path) -> None:
    done = run_demo(repo, demo.parent)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
