"""The demo cohort from nothing to its report, by the command that users type."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
import zarr
from demo_run import run_demo
from slide2rna.core import files
from slide2rna.operations import costs

RUN = "lite0-flow-go-bp"


@pytest.mark.timeout(3600)
def test_every_slide_is_accounted_for(demo: Path) -> None:
    slides = pl.read_parquet(demo / "slides.parquet")
    features = pl.read_parquet(demo / "features" / "lite0" / "shard-*.parquet")
    assert slides.height == 130
    assert slides["patient_id"].n_unique() == 120
    assert set(features["slide_id"]) == set(slides["slide_id"])
    failed = features.filter(pl.col("status") == "failed")
    assert failed.height == 1
    assert "too little tissue" in failed["reason"][0]


def described(column: str) -> re.Pattern[str]:
    """A column of the reference: {a,b} are several, {model} any name, and so is an ellipsis."""
    parts = []
    for part in re.split(r"(\{.*?\})", column):
        if not part.startswith("{"):
            parts.append(re.escape(part))
        elif "," in part and "…" not in part:
            parts.append(f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})")
        else:
            parts.append(".+")
    return re.compile("".join(parts))


def test_the_reference_names_every_column(repo: Path, demo: Path) -> None:
    told = yaml.safe_load((repo / "docs/reference/tables.yaml").read_text())
    shared, seen = set(told["shared"]["columns"]), 0
    for table in told["tables"]:
        path = table["path"].replace("<run>", RUN).replace("<encoder>", "lite0")
        path = path.replace("<set>", "go-bp").replace("<slide>", "DEMO-001-S1")
        path = path.replace("<k>", "0").replace("<i>", "0")
        if "columns" not in table or not (demo / path).is_file():
            continue  # samplers and leak_audit are no part of this run
        seen += 1
        columns = table["columns"]
        if path == "slides/shard-0.parquet":
            columns = columns | told["tables"][0]["columns"]
        names = {name: described(name) for name in columns}
        written = set(pl.read_parquet_schema(demo / path)) - shared
        untold = {c for c in written if not any(n.fullmatch(c) for n in names.values())}
        absent = {
            name
            for name, pattern in names.items()
            if name not in shared and not any(pattern.fullmatch(column) for column in written)
        }
        assert not untold, (path, untold)
        assert not absent, (path, absent)
    assert seen >= 21


def test_what_it_has_cost_is_read_from_what_the_run_left(demo: Path) -> None:
    """Snakemake's benchmark files and logs: every stage, and no GPU on a machine without one."""
    found = costs.measure(demo)
    assert (found.slides, found.bag_gb > 0, found.profile_gb > 0) == (130, True, True)
    assert {"cohort", "download", "tiles", "features", "bags", "train"} <= set(found.stages)
    assert {"sample", "evaluate", "shift", "package", "report"} <= set(found.stages)
    for name in ("features", "train", "sample"):
        stage = found.stages[name]
        assert 0 < stage.cpu < 1, name
        assert 0.1 < stage.memory < 8, name
        assert costs.cost(stage, "disk") > 0, name
    assert torch.cuda.is_available() or not any(stage.gpu for stage in found.stages.values())


def test_most_slides_have_more_than_2k_tiles(demo: Path) -> None:
    tiles = pl.read_parquet(demo / "tiles" / "shard-*.parquet")
    assert (tiles["n_tiles"] > 2 * 16).sum() >= 110


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
    assert tested["unit"].n_unique() == 120


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
        assert genes == 1222
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


def test_it_shows_the_method_at_work(demo: Path) -> None:
    """Beyond every null's paired interval, and below what the painted tissue attains."""
    summary = pl.read_parquet(demo / "evaluation" / RUN / "summary.parquet")
    flow = summary.filter(protocol="clean", gene_set="all", model="flow")
    ends = {metric: (low, high) for metric, low, high in flow["metric", "low", "high"].iter_rows()}
    for null in ("constant", "site-mean", "color-ridge", "permuted"):
        assert ends[f"pcc_minus:{null}"][0] > 0, null
    assert ends["crps_minus:constant"][1] < 0
    attainable = pl.read_parquet(demo / "source" / "truth_genes.parquet")["attainable"].mean()
    assert flow.filter(metric="pcc")["value"].item() < attainable


def test_page_stands_alone(demo: Path) -> None:
    page = (demo / "report" / "index.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(?:src="|<link[^>]*href=")(?!data:)', markup)
    assert "too little tissue" in page
    for figure in (demo / "report" / "figures").glob("*.png"):
        assert figure.with_suffix(".svg").exists()


def test_tables_do_not_depend_on_when_they_are_made(repo: Path, demo: Path) -> None:
    tables = sorted((demo / "evaluation" / RUN).glob("*.parquet"))
    before = {path.name: files.sha256sum(path) for path in tables}
    done = run_demo(repo, demo.parent, "--forcerun", "evaluate")
    assert done.returncode == 0, done.stderr[-4000:]
    assert {path.name: files.sha256sum(path) for path in tables} == before


def test_nothing_to_do_when_all_is_done(repo: Path, demo: Path) -> None:
    done = run_demo(repo, demo.parent)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
