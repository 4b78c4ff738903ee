"""The recipes of docs/how-to, followed word by word in a copy of the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from doc_blocks import copy_of, follow
from slide2rna.core import files, seeds
from slide2rna.simulate.ground_truth import load_law
from slide2rna.simulate.paint import Plan, paint
from slide2rna.slides import aperio_writer

BLOCKS = [f"B{i:02d}" for i in range(12)]
pytestmark = pytest.mark.timeout(3600)


def laboratory(folder: Path) -> None:
    """What the recipe starts from: slides named by block, two tables with names of their own."""
    law, rng = load_law(), seeds.rng_for(1, "recipes")
    pi, sites = law.patients(len(BLOCKS), rng)
    (folder / "slides").mkdir(parents=True)
    for block, shares, site in zip(BLOCKS, pi, sites, strict=True):
        rgb = paint(Plan(block, 1280, 1280, tuple(shares), site, cover=0.9), seed=1)[0]
        aperio_writer.write(folder / "slides" / f"{block}_HE.svs", rgb, mpp=None, power=None)
    patients = [f"P{i}" for i in range(len(BLOCKS))]
    named = {"block": BLOCKS, "patient": patients, "hospital": sites, "um_per_px": [0.5] * 12}
    pl.DataFrame(named).write_csv(folder / "blocks.csv")
    values = 2 ** law.draw(pi, np.array(sites), 1, rng)[:, 0, :60] - 1
    table = pl.DataFrame(values.T, schema=patients)
    table.insert_column(0, pl.Series("gene", law.genes[:60])).write_csv(folder / "tpm.csv")


@pytest.fixture(scope="module")
def lab(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the recipe for a cohort has been followed."""
    folder = copy_of(repo, tmp_path_factory.mktemp("recipes") / "slide2rna")
    laboratory(folder / "raw")
    said = follow(folder / "docs/how-to/add-a-cohort.md", folder, str(Path(sys.executable).parent))
    assert "fail" not in said
    return folder


def test_a_cohort(lab: Path) -> None:
    cohort = files.read_json(lab / "results/mine/cohort.json")
    assert (cohort["n_slides"], cohort["n_patients"], cohort["n_genes"]) == (12, 12, 60)
    tpm = pl.read_csv(lab / "raw/tpm.csv")
    ours = pl.read_parquet(lab / "results/mine/expression.parquet")
    gene = tpm["gene"][7]
    row = tpm.filter(pl.col("gene") == gene).drop("gene").row(0)
    found = dict(ours.select("sample_id", gene).rows())
    np.testing.assert_allclose([found[p] for p in tpm.columns[1:]], np.log2(np.add(row, 1)), 1e-5)
    assert (lab / "results/mine/report/index.html").is_file()
    scored = pl.read_parquet(lab / "results/mine/evaluation/color-flow-adjacent/samples.parquet")
    assert scored["patient_id"].n_unique() == 12


def test_an_encoder(lab: Path) -> None:
    follow(lab / "docs/how-to/add-an-encoder.md", lab, str(Path(sys.executable).parent))
    found = []
    for block in BLOCKS:
        with h5py.File(lab / f"results/mine/features/ours/{block}.h5") as file:
            features = file["features"][()]
            assert file.attrs["encoder"] == "ours"
        assert features.shape[1] == 64
        found.append(features)
    assert np.concatenate(found).std(axis=0).max() > 0
    assert (lab / "results/mine/bags/ours.safetensors").is_file()


def test_a_model(lab: Path) -> None:
    said = follow(lab / "docs/how-to/add-a-model.md", lab, str(Path(sys.executable).parent))
    assert " passed" in said
    summary = pl.read_parquet(lab / "results/mine/evaluation/color-flow-adjacent/summary.parquet")
    rows = summary.filter(pl.col("model") == "meanpool")
    assert {"pcc", "rmse", "pcc_minus:flow"} <= set(rows["metric"])
    assert rows.filter(pl.col("metric") == "pcc")["value"].is_not_null().all()
    assert "meanpool" in (lab / "results/mine/report/index.html").read_text()
    generated = (lab / "docs/reference/config.md").read_text()
    assert "`meanpool.hidden`" in generated
