"""Ten slides more: in a finished cohort of 48 those ten alone are tiled and encoded.

And however many shards there are, and however they came to be, the tables are the same.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image
from polars.testing import assert_frame_equal
from slide2rna.core import seeds
from slide2rna.simulate.ground_truth import load_law
from slide2rna.simulate.paint import Plan, paint

FIRST, ALL, EDGE = 48, 58, 640
SETTINGS = {
    "folds": {"n": 2, "val_share": 0.2, "cal_share": 0.1},
    "features": {"encoder": "color"},
    "bags": {"k": 3},
    "pathways": {"source": "adjacent"},
    "model": {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 1},
    "train": {"epochs": 2, "batch": 8},
    "sample": {"draws": 20, "steps": 2, "mean_pairs": 1},
    "evaluate": {"bootstrap": 10, "permutations": 2, "top": [10]},
    "shift": {"bootstrap": 10, "permutations": 10},
}
# Files of a slide; the manifests of shards are rebuilt.
OF_SLIDES = ("tiles/S-*.*", "features/color/S-*.h5", "slides/measured/*.json")


def picture(tissue: np.ndarray, number: int) -> Image.Image:
    """A piece of painted tissue, another one for each number."""
    x, y = divmod(number * 37, tissue.shape[0] - EDGE)
    piece = np.roll(tissue[y : y + EDGE, :EDGE], x * 53 + number, axis=1)
    return Image.fromarray(np.rot90(piece, number % 4))


def write_sheet(folder: Path, slides: int) -> None:
    names = [f"S-{i:02d}" for i in range(slides)]
    patients = [f"P{i:02d}" for i in range(slides)]
    rows = {"slide_id": names, "patient_id": patients, "slide": [f"{name}.png" for name in names]}
    table = pl.DataFrame(rows | {"mpp": [0.5] * slides})
    table.write_csv(folder / "slides.tsv", separator="\t")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """58 small slides of as many patients with 40 genes, and a sheet that names the first 48."""
    folder, law, rng = tmp_path_factory.mktemp("lab"), load_law(), seeds.rng_for(1, "more slides")
    tissue = paint(Plan("tissue", 2048, 2048, (0.3, 0.4, 0, 0, 0.2, 0.1), "A", cover=0.95), 1)[0]
    for i in range(ALL):
        picture(tissue, i).save(folder / f"S-{i:02d}.png", compress_level=1)
    pi, sites = law.patients(ALL, rng)
    values = law.draw(pi, np.array(sites), 1, rng)[:, 0, :40]
    table = pl.DataFrame(values, schema=list(law.genes[:40]))
    table.insert_column(0, pl.Series("sample", [f"P{i:02d}" for i in range(ALL)]))
    table.write_parquet(folder / "rna.parquet")
    write_sheet(folder, FIRST)
    return folder


def snakemake(repo: Path, lab: Path, results: str, shards: int, *args: str) -> str:
    """Run Snakemake to the end; what it said."""
    cohort = {
        "source": "sheet",
        "sheet": str(lab / "slides.tsv"),
        "expression": str(lab / "rna.parquet"),
        "shards": shards,
        "settings": SETTINGS,
    }
    config = lab / f"{results}-{shards}.yaml"
    config.write_text(yaml.safe_dump({"results": str(lab / results), "cohorts": {"own": cohort}}))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", str(config)]
    done = subprocess.run(
        [*command, *args], cwd=repo, capture_output=True, text=True, timeout=2400, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def written(cohort: Path) -> dict[str, tuple[int, int]]:
    """Time of modification and inode of each slide's own files."""
    return {
        str(path.relative_to(cohort)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for pattern in OF_SLIDES
        for path in cohort.glob(pattern)
    }


def kept(cohort: Path, stage: str, log: str) -> tuple[int, int]:
    """Slides that a stage's logs say were up to date, and all slides."""
    found = [
        re.search(rf"{stage}: (\d+) of (\d+) slides were up to date", path.read_text())
        for path in cohort.glob(f"logs/{log}")
    ]
    pairs = [(int(match[1]), int(match[2])) for match in found if match]
    return sum(first for first, _ in pairs), sum(second for _, second in pairs)


def tables(cohort: Path) -> dict[str, pl.DataFrame]:
    """All shards of a stage as one, in the order of the slides."""
    return {
        stage: pl.read_parquet(cohort / stage / "shard-*.parquet").sort("slide_id")
        for stage in ("slides", "tiles", "features/color")
    }


@pytest.mark.timeout(3600)
def test_ten_more_slides(repo: Path, lab: Path) -> None:
    cohort, bags = lab / "out" / "own", f"{lab}/out/own/bags/color.safetensors"
    snakemake(repo, lab, "out", 4, "--", "own")
    assert (cohort / "report" / "index.html").is_file()
    before = written(cohort)
    assert len(before) == FIRST * 6

    write_sheet(lab, ALL)
    snakemake(repo, lab, "out", 4, "--", bags)
    after = written(cohort)
    assert len(after) == ALL * 6
    assert {name: after[name] for name in before} == before
    assert kept(cohort, "tiles", "tiles-*.log") == (FIRST, ALL)
    assert kept(cohort, "features", "features-color-*.log") == (FIRST, ALL)

    # The same slides in one shard, and in seven that make use of what is there.
    snakemake(repo, lab, "single", 1, "--", f"{lab}/single/own/bags/color.safetensors")
    single = lab / "single" / "own"
    assert Path(bags).read_bytes() == (single / "bags" / "color.safetensors").read_bytes()
    for stage, table in tables(single).items():
        assert_frame_equal(tables(cohort)[stage], table)
    for name in after:
        if name.startswith(("tiles/", "features/")):
            assert (cohort / name).read_bytes() == (single / name).read_bytes(), name
    snakemake(repo, lab, "out", 7, "--", bags)
    assert written(cohort) == after
    assert Path(bags).read_bytes() == (single / "bags" / "color.safetensors").read_bytes()

    # A slide that was scanned again: the plan notices it, and its own files are rebuilt.
    shutil.copyfile(lab / "S-50.png", lab / "S-07.png")
    snakemake(repo, lab, "out", 7, "--", bags)
    changed = {name for name, was in written(cohort).items() if after[name] != was}
    assert {Path(name).name.split(".")[0] for name in changed if "measured" not in name} == {"S-07"}
    assert len(changed) == 6
