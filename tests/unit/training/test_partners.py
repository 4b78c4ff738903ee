"""Partner cohorts: what they add to a small cohort's mean, and what they may not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
from slide2rna.core import config, files
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.data import fold_rows
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.storage import parquet
from slide2rna.training import fit, partners

CPU = torch.device("cpu")
GENES = 50


def subset(cohort: flow_cohort.FlowCohort, patients: list[str], folder: Path, genes: int) -> Path:
    """Write some patients as another cohort: fewer genes, in another unit, features shifted."""
    folder.mkdir(parents=True)
    bagged = bag_file.load(cohort.inputs.bags)
    slides = pl.read_parquet(cohort.inputs.slides).filter(pl.col("patient_id").is_in(patients))
    rows = [bagged.slide_ids.index(name) for name in slides["slide_id"]]
    other = replace(
        bagged,
        means=bagged.means[rows] * 3 + 7,
        sizes=bagged.sizes[rows],
        color=bagged.color[rows],
        n_tiles=bagged.n_tiles[rows],
        slide_ids=slides["slide_id"].to_list(),
    )
    bag_file.save(other, folder / "bags" / "bags.safetensors")
    table = pl.read_parquet(cohort.inputs.expression).filter(pl.col("sample_id").is_in(patients))
    names = table.columns[1 : genes + 1]
    parquet.write(
        table.select("sample_id", *(pl.col(name) * 0.5 + 1 for name in names)),
        folder / "expression.parquet",
    )
    parquet.write(slides, folder / "slides.parquet")
    return folder


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> tuple[flow_cohort.FlowCohort, Path]:
    """A fold with 25 train patients, and 150 others as a partner with two of its test patients."""
    folder = tmp_path_factory.mktemp("partners")
    parts = {"train": 25, "val": 25, "test": 60, "other": 150}
    cohort = flow_cohort.make(folder / "own", parts, genes=GENES, seed=8)
    others = [*cohort.patients[110:], cohort.patients[60], cohort.patients[61]]
    partner = subset(cohort, others, folder / "partner", GENES - 10)
    splits = pl.read_csv(cohort.inputs.splits, separator="\t").filter(pl.col("part") != "other")
    splits.write_csv(cohort.inputs.splits, separator="\t")
    own = set(cohort.patients[:110])
    for path, column in (
        (cohort.inputs.slides, "patient_id"),
        (cohort.inputs.expression, "sample_id"),
    ):
        table = pl.read_parquet(path)
        parquet.write(table.filter(pl.col(column).is_in(own)), path)
    return cohort, partner


def test_held_out_patients_are_left_out(cohorts: tuple[flow_cohort.FlowCohort, Path]) -> None:
    cohort, folder = cohorts
    held_out = partners.held_out_values(cohort.inputs.slides, cohort.inputs.splits, 0)
    patients = held_out.values["patient_id"]
    assert patients == set(cohort.patients[25:110])
    genes = fold_rows.gene_names(cohort.inputs.expression)
    partner = partners.load_partner(folder, "bags.safetensors", genes, (12, "files"), held_out)
    assert not patients & set(partner.sample_ids)
    assert not patients & {patient for _, patient in partner.seen}
    assert partner.left_out == 2
    assert partner.columns.tolist() == list(range(GENES - 10))
    np.testing.assert_allclose(partner.mean.mean(axis=0), 0, atol=1e-4)


def correlation(cohort: flow_cohort.FlowCohort, model: RNAFM) -> np.ndarray:
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(
        bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0
    ).of("test")
    with torch.inference_mode():
        mean = model.fitted_mean(
            torch.from_numpy(bagged.means[rows.bag]), torch.from_numpy(bagged.sizes[rows.bag])
        ).numpy()
    truth = fold_rows.read_expression_matrix(cohort.inputs.expression, rows.sample_ids)
    return np.nan_to_num(gene_metrics.pcc(mean, truth)[0])


def test_a_partner_helps_a_small_cohort(
    cohorts: tuple[flow_cohort.FlowCohort, Path], tmp_path: Path
) -> None:
    """On the genes that both have; the others keep their own fit."""
    cohort, folder = cohorts
    r, search = {}, {}
    for name, others in (("alone", ()), ("joined", (folder,))):
        settings = flow_cohort.settings(epochs=1, learning_rate=1e-12)
        settings["model"] |= {"skip": "ridge", "head": "none", "target": "zscore"}
        inputs = replace(cohort.inputs, partners=others)
        model = fit.fit_fold(inputs, tmp_path / name, settings, 1, CPU)
        assert isinstance(model, RNAFM)
        r[name] = correlation(cohort, model)
        search[name] = pl.read_parquet(tmp_path / name / "search.parquet")
    shared = slice(0, GENES - 10)
    assert r["joined"][shared].mean() > r["alone"][shared].mean() + 0.03
    np.testing.assert_allclose(r["joined"][GENES - 10 :], r["alone"][GENES - 10 :], atol=1e-5)
    assert "partners" not in search["alone"]["step"]
    row = search["joined"].filter(pl.col("step") == "partners").row(0, named=True)
    start = search["joined"].filter(pl.col("step") == "start").row(0, named=True)
    assert row["val_loss"] < start["val_loss"]
    meta = files.read_json(tmp_path / "joined" / "model.json")
    assert meta["partners"] == {"partner": {"slides": 151, "left_out": 2}}


def test_unusable_partners_are_refused(cohorts: tuple[flow_cohort.FlowCohort, Path]) -> None:
    cohort, folder = cohorts
    genes = fold_rows.gene_names(cohort.inputs.expression)
    nothing = partners.HeldOut({"patient_id": set()})
    with pytest.raises(StageError, match=r"12 features of files.* 13 of files"):
        partners.load_partner(folder, "bags.safetensors", genes, (13, "files"), nothing)
    with pytest.raises(StageError, match="no gene"):
        partners.load_partner(folder, "bags.safetensors", ["X"], (12, "files"), nothing)
    everyone = partners.HeldOut({"patient_id": set(cohort.patients)})
    with pytest.raises(StageError, match="patients"):
        partners.load_partner(folder, "bags.safetensors", genes, (12, "files"), everyone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pan": ["A", "C"]}, "cohort 'C'"),
        ({"pan": ["A", "B"], "external": [{"train": "A", "test": "B"}]}, "B .*external.* A"),
        ({"pan": ["A", "B"], "scale": "rank"}, "features.scale .*B"),
    ],
)
def test_a_wrong_pan_is_one_line(changes: dict[str, Any], message: str) -> None:
    cohort: dict[str, Any] = {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv"}
    scale = changes.pop("scale", "zscore")
    other = cohort | {"settings": {"features": {"scale": scale}}}
    with pytest.raises(ConfigError, match=message):
        config.validate({"cohorts": {"A": cohort, "B": other}} | changes)


def test_a_cohorts_own_list_comes_first() -> None:
    cohort: dict[str, Any] = {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv"}
    own = cohort | {"settings": {"pan": ["C"]}}
    none = cohort | {"settings": {"pan": []}}
    named = {"A": cohort, "B": own, "C": cohort, "D": none, "E": cohort}
    full = config.validate({"cohorts": named, "pan": ["A", "B", "C", "D"]})
    found = {name: config.partners(full, name) for name in named}
    assert found == {"A": ["B", "C", "D"], "B": ["C"], "C": ["A", "B", "D"], "D": [], "E": []}


def test_slides_of_a_held_out_site_or_file_are_left_out(tmp_path: Path) -> None:
    """Under another patient's name, too; a site that trains as well holds nothing out."""
    own = {
        "unit": ["P1", "P2", "P3"],
        "patient_id": ["P1", "P2", "P3"],
        "sample_id": ["P1", "P2", "P3"],
        "slide_id": ["a", "b", "c"],
        "site": ["X", "Y", "X"],
        "md5": ["1", "2", None],
    }
    parquet.write(pl.DataFrame(own), tmp_path / "slides.parquet")
    rows = {"unit": own["unit"], "fold": [0] * 3, "part": ["train", "test", "val"]}
    pl.DataFrame(rows).write_csv(tmp_path / "splits.tsv", separator="\t")
    held_out = partners.held_out_values(tmp_path / "slides.parquet", tmp_path / "splits.tsv", 0)
    assert held_out.values["site"] == {"Y"}
    other = pl.DataFrame(
        {
            "patient_id": ["Q1", "Q2", "Q3", "P3", "Q5", "P1"],
            "sample_id": ["Q1", "Q2", "Q3", "P3", "Q5", "P1"],
            "slide_id": ["d", "e", "b", "f", "g", "h"],
            "site": ["X", "Y", "X", "X", None, "X"],
            "md5": ["2", "9", "8", "7", None, "1"],
        }
    )
    found = other.select(held_out.rows(other).alias("out"))["out"].to_list()
    assert found == [True, True, True, True, False, False]
