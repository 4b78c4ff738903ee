"""What a training starts from: each configuration, its own checkpoint to the bit, the ridge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.training import fit, start
from slide2rna.training.selection import clearly_better
from slide2rna.training.task import PartSlides
from training_cohort import CPU, cohort

torch.set_num_threads(1)
__all__ = ["cohort"]  # the fixture


class StopError(RuntimeError):
    """Stands for a kill after a checkpoint."""


def test_search_keeps_the_configuration_that_val_prefers(
    cohort: flow_cohort.FlowCohort, tmp_path: Path
) -> None:
    settings = flow_cohort.settings(epochs=4)
    useless, wide = {"learning_rate": 1e-9}, {"hidden": 24, "learning_rate": 5e-3}
    fit.fit_fold(cohort.inputs, tmp_path / "all", settings | {"search": [useless, wide]}, 1, CPU)
    tried = pl.read_parquet(tmp_path / "all" / "search.parquet")
    assert tried["configuration"].to_list() == [0, 1, 2]
    assert [json.loads(text) for text in tried["settings"]] == [{}, useless, wide]
    best = int(np.argmin(tried["val_loss"].to_numpy()))
    assert best != 1
    assert tried["chosen"].to_list() == [number == best for number in range(3)]
    model, meta = checkpoint.load_model(tmp_path / "all")
    assert (meta["configurations"], meta["val_loss"]) == (3, tried["val_loss"].min())
    # The same as if it had been trained alone.
    own = [{}, useless, wide][best]
    alone = flow_cohort.settings(**({"epochs": 4} | {k: own[k] for k in own if k != "hidden"}))
    alone["model"] |= {key: own[key] for key in own if key == "hidden"}
    single = fit.fit_fold(cohort.inputs, tmp_path / "alone", alone, 1, CPU)
    weights = zip(model.parameters(), single.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)


def test_a_configuration_that_diverges_is_left_out(
    cohort: flow_cohort.FlowCohort, tmp_path: Path
) -> None:
    settings = flow_cohort.settings(epochs=2)
    fit.fit_fold(cohort.inputs, tmp_path, settings | {"search": [{"learning_rate": 1e30}]}, 1, CPU)
    tried = pl.read_parquet(tmp_path / "search.parquet")
    assert tried["chosen"].to_list() == [True, False]
    assert tried["val_loss"].is_null().to_list() == [False, True]


def test_resume_gives_the_same_bits(cohort: flow_cohort.FlowCohort, tmp_path: Path) -> None:
    settings = flow_cohort.settings()
    fit.fit_fold(cohort.inputs, tmp_path / "whole", settings, 1, CPU)

    def stop(epoch: int) -> None:
        if epoch in (2, 5):
            raise StopError

    for _ in range(2):
        with pytest.raises(StopError):
            fit.fit_fold(cohort.inputs, tmp_path / "cut", settings, 1, CPU, stop)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    torch.manual_seed(999)
    fit.fit_fold(cohort.inputs, tmp_path / "cut", settings, 1, CPU)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [pl.read_parquet(tmp_path / name / "log.parquet") for name in ("whole", "cut")]
    assert logs[0].drop("seconds").equals(logs[1].drop("seconds"))
    assert logs[0]["epoch"].to_list() == [1, 2, 3, 4, 5, 6]
    assert [(tmp_path / name / "model.json").read_bytes() for name in ("whole", "cut")].count(
        (tmp_path / "whole" / "model.json").read_bytes()
    ) == 2
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        *("log.csv", "log.parquet", "model.json", "model.safetensors", "search.parquet"),
        "training_record.parquet",
    ]
    as_text = pl.read_csv(tmp_path / "cut" / "log.csv")
    assert as_text.columns == logs[1].columns
    assert as_text["val_loss"].to_list() == pytest.approx(logs[1]["val_loss"].to_list())


def test_checkpoint_of_other_settings_is_not_continued(
    cohort: flow_cohort.FlowCohort, tmp_path: Path
) -> None:
    def stop(epoch: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        fit.fit_fold(cohort.inputs, tmp_path / "a", flow_cohort.settings(), 1, CPU, stop)
    other = flow_cohort.settings(learning_rate=1e-3, epochs=2)
    fit.fit_fold(cohort.inputs, tmp_path / "a", other, 1, CPU)
    fit.fit_fold(cohort.inputs, tmp_path / "b", other, 1, CPU)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("change", ["sets", "seed"])
def test_a_checkpoint_of_another_task_is_not_continued(
    cohort: flow_cohort.FlowCohort, tmp_path: Path, change: str
) -> None:
    def stop(epoch: int) -> None:
        raise StopError

    settings, seed, inputs = flow_cohort.settings(epochs=2), 1, cohort.inputs
    with pytest.raises(StopError):
        fit.fit_fold(inputs, tmp_path / "a", settings, seed, CPU, stop)
    if change == "seed":
        seed = 2
    else:  # other gene sets of the same sizes, under the same name
        table = pl.read_parquet(inputs.pathways)
        genes = table["gene"].unique().sort()
        moved = dict(zip(genes, [*genes[1:], genes[0]], strict=True))
        path = tmp_path / inputs.pathways.name
        table.with_columns(pl.col("gene").replace(moved)).write_parquet(path)
        inputs = replace(inputs, pathways=path)
    fit.fit_fold(inputs, tmp_path / "a", settings, seed, CPU)
    fit.fit_fold(inputs, tmp_path / "b", settings, seed, CPU)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("units", "clear"), [("pppp", True), ("pppq", False)])
def test_the_samples_of_a_single_unit_are_its_witnesses(units: str, clear: bool) -> None:
    """Within one patient, val is one section; two units with opposite signs decide nothing."""
    values = np.zeros((4, 2))
    val = PartSlides(values, values, values, list("abcd"), list(units))
    gain = np.array([1.0, 1.1, 0.9, -1.0 if "q" in units else 1.0])
    witnesses = start._witnesses(val)
    assert clearly_better(1 - gain, np.ones(4), witnesses) is clear


def test_ridge_start_is_the_ridge(cohort: flow_cohort.FlowCohort, tmp_path: Path) -> None:
    """A training that moves nothing leaves the closed-form ridge as the point prediction."""
    settings = flow_cohort.settings(epochs=1, learning_rate=1e-12)
    plain = {"skip": "ridge", "rank": "full", "head": "none", "target": "zscore"}
    plain |= {"gene_slopes": False, "mixture": 0}
    settings["model"] |= plain
    model = fit.fit_fold(cohort.inputs, tmp_path, settings, 1, CPU)
    assert isinstance(model, RNAFM)
    bagged = bag_file.load(cohort.inputs.bags)
    rows = fold_rows.read_fold_rows(bagged.slide_ids, cohort.inputs.slides, cohort.inputs.splits, 0)
    x, y = {}, {}
    for part in ("train", "val", "test"):
        own = rows.of(part)
        sizes = bagged.sizes[own.bag].astype(np.float64)[..., None]
        x[part] = (bagged.means[own.bag] * sizes).sum(axis=1) / sizes.sum(axis=1)
        values = torch.from_numpy(
            fold_rows.read_expression_matrix(cohort.inputs.expression, own.sample_ids)
        )
        y[part] = model.standardise(values).numpy()
    scaler = StandardScaler().fit(x["train"])
    fits = [
        Ridge(alpha=len(x["train"]) * penalty).fit(scaler.transform(x["train"]), y["train"])
        for penalty in np.logspace(-4, 5, 19)
    ]
    errors = [np.square(f.predict(scaler.transform(x["val"])) - y["val"]).mean() for f in fits]
    expected = fits[int(np.argmin(errors))].predict(scaler.transform(x["test"]))
    test = rows.of("test")
    with torch.no_grad():
        image = model.encode_image(
            torch.from_numpy(bagged.means[test.bag]), torch.from_numpy(bagged.sizes[test.bag])
        )
        zero = torch.zeros(len(expected), expected.shape[1])
        mean = zero + model.velocity(zero, torch.tensor(0.0), image)
    assert np.allclose(mean[:, :-1].numpy(), expected[:, :-1], atol=2e-4)
