"""TCGA-LUAD in small, from nothing: query, pairing, freezing, download, and the whole chain.

The server is real HTTP on loopback and speaks GDC's words; slides are painted, barcodes are of the
real form. Afterwards the server goes away, and the frozen cohort must be had again without it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from gdc_server import RELEASE, GdcServer
from small_luad import GENES, PATIENTS, barcode, fill, run, split

TABLES = ("slides.parquet", "expression.parquet", "splits.tsv", "cohort.json", "guard.json")


def contents(out: Path) -> dict[str, Any]:
    return {name: (out / name).read_bytes() for name in TABLES}


@pytest.mark.timeout(3600)
def test_luad_from_nothing(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "LUAD"
    (tmp_path / "made").mkdir()
    split(tmp_path / "split.tsv")
    with GdcServer(page_limit=5) as server:
        fill(server, tmp_path / "made")
        run(repo, tmp_path, server.url, "--", "LUAD")
        asked = [path.split("/")[1].split("?")[0] for _, path, _ in server.asked]
    assert asked.count("data") == PATIENTS + PATIENTS + 1  # expression and slides, each once
    slides = pl.read_parquet(out / "slides" / "shard-*.parquet")
    assert slides["status"].to_list() == ["ok"] * (PATIENTS + 1)
    assert all((out / "slides" / path).is_file() for path in slides["path"])
    assert pl.read_parquet(out / "expression.parquet").shape == (PATIENTS, GENES + 1)
    found = json.loads((out / "cohort.json").read_text())
    assert found["acquisition"]["release"] == RELEASE
    assert found["flow"][-1] == {
        "step": "paired with expression",
        "slides": PATIENTS + 1,
        "patients": PATIENTS,
    }
    reasons = sorted(row["reason"] for row in found["dropped"])
    assert [reason.split(",")[0] for reason in reasons] == [
        "another file was taken: TCGA-05-4000-01A-11R-0946-07",
        "normal tissue",
        "the patient has no expression of sample type 01",
        "the project has no expression of this patient",
    ]
    assert json.loads((out / "guard.json").read_text())["slides_with_md5"] == PATIENTS + 1
    page = (out / "report" / "index.html").read_text()
    assert "TCGA-05-9999" in page
    draws = pl.read_parquet(out / "draws" / "color-flow-adjacent" / "fold-*.parquet")
    tested = slides.filter(pl.col("patient_id").is_in([barcode(i) for i in range(4)]))
    assert set(draws.filter(pl.col("part") == "test")["slide_id"]) == set(tested["slide_id"])
    folds = pl.read_csv(out / "splits.tsv", separator="\t")
    assert folds.filter(pl.col("part") == "cal").height == 1

    # The server is gone: whatever would still ask it, fails.
    before = contents(out)
    run(repo, tmp_path, server.url, "--forcerun", "cohort", "--", str(out / "guard.json"))
    assert contents(out) == before
