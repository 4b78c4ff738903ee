"""TCGA-LUAD in small, from nothing: query, pairing, freezing, download, and the whole chain.

The server is real HTTP on loopback and speaks GDC's words; slides are painted, barcodes are of the
real form. Afterwards the server goes away, and the frozen cohort must be had again without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from slide2rna.core import seeds
from slide2rna.simulate.ground_truth import load_law
from slide2rna.simulate.paint import Plan, paint
from slide2rna.slides import aperio_writer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gdc_server import RELEASE, GdcServer
from test_sheet_chain import SETTINGS as SMALL

PATIENTS, GENES = 12, 60
TUMOUR, NORMAL = "Primary Tumor", "Solid Tissue Normal"
SETTINGS = SMALL | {"folds": {"n": 1}}
TABLES = ("slides.parquet", "expression.parquet", "splits.tsv", "cohort.json", "guard.json")


def barcode(i: int) -> str:
    return f"TCGA-{('05', '44', '55')[i % 3]}-{4000 + i}"


def fill(server: GdcServer, folder: Path) -> None:
    """Slides of twelve tumours, two of one; beside them a normal, a second aliquot, tissue."""
    law, rng = load_law(), seeds.rng_for(1, "gdc test")
    pi, sites = law.patients(PATIENTS, rng)
    values = law.draw(pi, np.array(sites), 1, rng)[:, 0, :GENES]
    genes = list(law.genes[:GENES])
    for i, (shares, site) in enumerate(zip(pi, sites, strict=True)):
        patient = barcode(i)
        for number in (1, 2) if i == 0 else (1,):
            name = f"{patient}-01Z-00-DX{number}.{i:08X}-26FF-45B4-8DF9-46D40AD8ED79.svs"
            rgb = paint(Plan(name, 1280, 1280, tuple(shares), site), seed=number)[0]
            aperio_writer.write(folder / name, rgb)
            server.add_slide(name, (folder / name).read_bytes(), "TCGA-LUAD", TUMOUR)
        linear = dict(zip(genes, (2.0 ** values[i] - 1).round(4).tolist(), strict=True))
        server.add_star(f"{patient}-01A-11R-0946-07", linear, "TCGA-LUAD", TUMOUR)
    first = "TCGA-05-4000"
    server.add_slide(f"{first}-01A-01-TS1.A.svs", b"never asked for", "TCGA-LUAD", TUMOUR)
    server.add_slide("TCGA-05-9999-01Z-00-DX1.B.svs", b"no RNA", "TCGA-LUAD", TUMOUR)
    server.add_star(f"{first}-11A-11R-0946-07", dict.fromkeys(genes, 9.0), "TCGA-LUAD", NORMAL)
    server.add_star(f"{first}-01B-11R-0946-07", dict.fromkeys(genes, 9.0), "TCGA-LUAD", TUMOUR)


def split(path: Path) -> None:
    """Four patients are tested and two stop; the file has no cal part."""
    parts = ["test"] * 4 + ["val"] * 2 + ["train"] * (PATIENTS - 6)
    rows = [f"{barcode(i)}\t0\t{part}" for i, part in enumerate(parts)]
    path.write_text("\n".join(["patient_id\tfold\tpart", *rows, ""]))


def run(repo: Path, folder: Path, api: str, *args: str) -> None:
    cohort = {
        "source": "gdc",
        "project": "TCGA-LUAD",
        "api": api,
        "manifest": str(folder / "manifests" / "LUAD.tsv"),
        "splits": str(folder / "split.tsv"),
        "shards": 1,
        "settings": SETTINGS,
    }
    config = folder / "gdc.yaml"
    config.write_text(yaml.safe_dump({"results": str(folder / "out"), "cohorts": {"LUAD": cohort}}))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", "--configfile"]
    done = subprocess.run(
        [*command, str(config), *args],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def contents(out: Path) -> dict[str, Any]:
    return {name: (out / name).read_bytes() for name in TABLES}


@pytest.mark.timeout(600)
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
    assert all(Path(path).is_file() for path in slides["path"])
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
