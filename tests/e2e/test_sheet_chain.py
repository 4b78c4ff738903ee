"""A user's own cohort: a CSV sheet, plain images with mpp from the sheet, expression as CSV.

One of the files is no slide: it must be named in the report, and the others must not be lost.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image
from slide2rna.core import seeds
from slide2rna.simulate.ground_truth import load_law
from slide2rna.simulate.paint import Plan, paint
from slide2rna.slides import aperio_writer
from small_luad import SETTINGS

SUFFIXES = (".jpg", ".png", ".tif", ".svs")
BROKEN = "S-07"


def make_cohort(folder: Path) -> dict[str, object]:
    """Twelve small slides of as many patients in four file formats, and 60 genes."""
    law, rng = load_law(), seeds.rng_for(1, "sheet test")
    pi, sites = law.patients(12, rng)
    rows = []
    for i, (shares, site) in enumerate(zip(pi, sites, strict=True)):
        slide_id, suffix = f"S-{i:02d}", SUFFIXES[i % len(SUFFIXES)]
        path = folder / f"{slide_id}{suffix}"
        rgb = paint(Plan(slide_id, 1280, 1280, tuple(shares), site), seed=1)[0]
        if slide_id == BROKEN:
            path.write_bytes(b"this is no slide")
        elif suffix == ".svs":
            aperio_writer.write(path, rgb)
        else:
            Image.fromarray(rgb).save(path)
        mpp = None if suffix == ".svs" else 0.5
        rows.append({"slide_id": slide_id, "patient_id": f"P{i}", "slide": path.name, "mpp": mpp})
    pl.DataFrame(rows).write_csv(folder / "slides.csv")
    values = law.draw(pi, np.array(sites), 1, rng)[:, 0, :60]
    table = pl.DataFrame(values, schema=list(law.genes[:60]))
    table.insert_column(0, pl.Series("sample", [f"P{i}" for i in range(12)]))
    table.write_csv(folder / "expression.csv")
    return {
        "source": "sheet",
        "sheet": str(folder / "slides.csv"),
        "expression": str(folder / "expression.csv"),
        "shards": 2,
        "settings": SETTINGS,
    }


def run(repo: Path, folder: Path, cohort: dict[str, object]) -> subprocess.CompletedProcess[str]:
    config = folder / "own.yaml"
    config.write_text(yaml.safe_dump({"results": str(folder / "out"), "cohorts": {"own": cohort}}))
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config, "--", "own"],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


@pytest.mark.timeout(3600)
def test_own_slides(repo: Path, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path)
    refused = run(repo, tmp_path, cohort)
    assert refused.returncode != 0
    assert BROKEN in refused.stderr + refused.stdout
    assert "max_failed_slides" in refused.stderr + refused.stdout

    cohort["settings"] = SETTINGS | {"max_failed_slides": 1}
    done = run(repo, tmp_path, cohort)
    assert done.returncode == 0, done.stderr[-4000:]
    out = tmp_path / "out" / "own"
    tiles = pl.read_parquet(out / "tiles" / "shard-*.parquet")
    good = tiles.filter(pl.col("status") == "ok")
    assert good.height == 11
    assert good["mpp"].to_list() == [0.5] * 11
    page = (out / "report" / "index.html").read_text()
    assert BROKEN in page
    draws = pl.read_parquet(out / "draws" / "color-flow-adjacent" / "fold-*.parquet")
    tested = draws.filter(pl.col("part") == "test")
    assert set(tested["slide_id"]) == set(good["slide_id"])
    assert tested.select(pl.col("q05") <= pl.col("q95")).to_series().all()
