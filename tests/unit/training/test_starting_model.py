"""A finished model that a new cohort's fit starts from, and the record that guards it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
from slide2rna.core import files
from slide2rna.core.errors import StageError
from slide2rna.data import fold_rows, training_record
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.storage import parquet
from slide2rna.training import fit, starting_model, task

CPU = torch.device("cpu")
GENES = 50
PARTS = {"train": 20, "val": 25, "test": 80, "other": 160}


def settings(head: str = "none") -> dict[str, dict[str, object]]:
    changed = flow_cohort.settings(epochs=1, learning_rate=1e-12)
    changed["model"] |= {"skip": "ridge", "head": head, "target": "zscore"}
    return changed


def only(
    cohort: flow_cohort.FlowCohort, folder: Path, parts: dict[str, list[str]]
) -> task.TrainingInputs:
    """Inputs with these patients alone, by part."""
    folder.mkdir()
    wanted = {patient: part for part, patients in parts.items() for patient in patients}
    splits = pl.DataFrame(
        {"unit": list(wanted), "fold": [0] * len(wanted), "part": list(wanted.values())}
    )
    splits.write_csv(folder / "splits.tsv", separator="\t")
    slides = pl.read_parquet(cohort.inputs.slides).filter(pl.col("unit").is_in(list(wanted)))
    parquet.write(slides, folder / "slides.parquet")
    return replace(cohort.inputs, splits=folder / "splits.tsv", slides=folder / "slides.parquet")


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[flow_cohort.FlowCohort, task.TrainingInputs, Path]:
    """A small cohort, and a model of 160 other patients under the same law."""
    folder = tmp_path_factory.mktemp("start")
    cohort = flow_cohort.make(folder / "all", PARTS, genes=GENES, seed=8)
    own = cohort.patients
    inputs = only(
        cohort, folder / "own", {"train": own[:20], "val": own[20:45], "test": own[45:125]}
    )
    others = only(cohort, folder / "others", {"train": own[125:245], "val": own[245:]})
    fit.fit_fold(others, folder / "model" / "fold-0", settings(), 1, CPU)
    return cohort, inputs, folder / "model"


def test_the_weights_are_those_of_the_model(
    world: tuple[flow_cohort.FlowCohort, task.TrainingInputs, Path],
) -> None:
    """In the order of the new cohort's genes."""
    _, inputs, folder = world
    genes = fold_rows.gene_names(inputs.expression)
    start = starting_model.load_starting_model(folder, genes[::-1], 12, "files", ["P000"])
    assert start.zscore.shape == (12, GENES)
    model, _ = starting_model.checkpoint.load_model(folder / "fold-0", CPU)
    assert isinstance(model, RNAFM)
    assert model.mean is not None
    weight = model.mean.linear.weight.detach().numpy()
    np.testing.assert_allclose(start.zscore[:, ::-1], weight.T)
    np.testing.assert_allclose(start.normal_scores, start.zscore)


def mean_correlation(inputs: task.TrainingInputs, model: RNAFM) -> float:
    bagged = bag_file.load(inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, inputs.slides, inputs.splits, 0).of("test")
    with torch.inference_mode():
        mean = model.fitted_mean(
            torch.from_numpy(bagged.means[rows.bag]), torch.from_numpy(bagged.sizes[rows.bag])
        ).numpy()
    truth = fold_rows.read_expression_matrix(inputs.expression, rows.sample_ids)
    return float(np.nan_to_num(gene_metrics.pcc(mean, truth)[0]).mean())


def test_a_model_helps_a_small_cohort(
    world: tuple[flow_cohort.FlowCohort, task.TrainingInputs, Path], tmp_path: Path
) -> None:
    _, inputs, folder = world
    r, steps = {}, {}
    for name, start in (("alone", None), ("started", folder)):
        changed = replace(inputs, start=start)
        model = fit.fit_fold(changed, tmp_path / name, settings(), 1, CPU)
        assert isinstance(model, RNAFM)
        r[name] = mean_correlation(inputs, model)
        steps[name] = pl.read_parquet(tmp_path / name / "search.parquet")
    assert r["started"] > r["alone"] + 0.03
    assert "model" not in steps["alone"]["step"]
    losses = dict(steps["started"].select("step", "val_loss").iter_rows())
    assert losses["model"] < losses["start"]
    assert files.read_json(tmp_path / "started" / "model.json")["start"] == "model"


def test_a_model_that_has_seen_a_patient_is_refused(
    world: tuple[flow_cohort.FlowCohort, task.TrainingInputs, Path], tmp_path: Path
) -> None:
    cohort, _, folder = world
    names = cohort.patients
    for seen in (names[130], names[250]):  # of its train and of its val part
        parts = {"train": names[:20], "val": names[20:45], "test": [*names[45:100], seen]}
        inputs = replace(only(cohort, tmp_path / seen, parts), start=folder)
        with pytest.raises(StageError, match=f"1 patients .*{seen}"):
            fit.fit_fold(inputs, tmp_path / "no", settings(), 1, CPU)


def test_models_that_cannot_be_started_from(
    world: tuple[flow_cohort.FlowCohort, task.TrainingInputs, Path], tmp_path: Path
) -> None:
    _, inputs, folder = world
    genes = fold_rows.gene_names(inputs.expression)
    load = starting_model.load_starting_model
    with pytest.raises(StageError, match="fold-"):
        load(tmp_path, genes, 12, "files", [])
    with pytest.raises(StageError, match=r"12 of files.*12 of lite0"):
        load(folder, genes, 12, "lite0", [])
    with pytest.raises(StageError, match="no gene"):
        load(folder, ["X"], 12, "files", [])
    without = settings()
    without["model"] |= {"skip": "gaussian"}
    fit.fit_fold(inputs, tmp_path / "gaussian" / "fold-0", without, 1, CPU)
    with pytest.raises(StageError, match="fitted mean"):
        load(tmp_path / "gaussian", genes, 12, "files", [])


def test_the_record_names_nobody(
    world: tuple[flow_cohort.FlowCohort, task.TrainingInputs, Path], tmp_path: Path
) -> None:
    cohort, _, folder = world
    record = training_record.read(folder / "fold-0")
    assert record is not None
    assert record["part"].value_counts(sort=True).rows() == [("train", 121), ("val", 40)]
    assert set(record["patient"]) == {
        training_record.digest("patient", name) for name in cohort.patients[125:]
    }
    assert not set(record["slide"]) & set(record["patient"])
    content = (folder / "fold-0" / training_record.FILE).read_bytes()
    assert not any(name.encode() in content for name in cohort.patients)
    assert training_record.read(tmp_path) is None
