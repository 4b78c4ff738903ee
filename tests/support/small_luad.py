"""TCGA-LUAD in small: a dozen patients on a local GDC, and settings that take seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from gdc_server import GdcServer
from slide2rna.core import seeds
from slide2rna.simulate.ground_truth import load_law
from slide2rna.simulate.paint import Plan, paint
from slide2rna.slides import aperio_writer

SETTINGS = {
    "folds": {"n": 2, "val_share": 0.2, "cal_share": 0.1},
    "features": {"encoder": "color"},
    "bags": {"k": 4},
    "pathways": {"source": "adjacent"},
    "model": {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 1},
    "train": {"epochs": 3, "batch": 4},
    "sample": {"draws": 20, "steps": 2, "mean_pairs": 1},
    "evaluate": {"bootstrap": 20, "permutations": 5, "top": [20]},
}
PATIENTS, GENES = 12, 60
TUMOUR, NORMAL = "Primary Tumor", "Solid Tissue Normal"


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
        "settings": SETTINGS | {"folds": {"n": 1}},
    }
    config = folder / "gdc.yaml"
    config.write_text(yaml.safe_dump({"results": str(folder / "out"), "cohorts": {"LUAD": cohort}}))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", "--configfile"]
    done = subprocess.run(
        [*command, str(config), *args],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
