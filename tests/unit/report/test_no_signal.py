"""A cohort whose expression has nothing to do with its slides, from training to the report's words.

The features could be fitted before: they belong to other patients' profiles, which are permuted.
The stages' own code trains the models and samples from them.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import Any

import evaluated
import flow_cohort
import numpy as np
import polars as pl
import pytest
import synthetic_cohort
import torch
from slide2rna.core import config
from slide2rna.data import fold_rows
from slide2rna.features import bag_file
from slide2rna.models import checkpoint
from slide2rna.report import report
from slide2rna.report.sections import page_sections, run_tables
from slide2rna.sampling import fold_draws
from slide2rna.storage import parquet
from slide2rna.training import fit, task

CPU = torch.device("cpu")
NAMES = (synthetic_cohort.RUN, synthetic_cohort.ENCODER, synthetic_cohort.SET)
DRAWS = config.defaults("sample", draws=25, steps=2, mean_pairs=1)


def fit_and_draw(made: synthetic_cohort.Synthetic, fold: int, seed: int) -> None:
    """The stages train and sample for one fold, in the place of the synthetic files."""
    inputs, model = made.inputs, made.inputs.models[fold]
    shutil.rmtree(model)
    shutil.rmtree(inputs.draws[fold])
    settings = flow_cohort.settings(epochs=8, patience=4)
    # The ridge alone as the start: heads and normal scores take most of the time of a fit.
    settings["model"] |= {"skip": "ridge", "head": "none", "target": "zscore"}
    read = (inputs.bags, inputs.expression, inputs.splits, inputs.slides, inputs.pathways)
    fit.fit_fold(task.TrainingInputs(*read, fold), model, settings, seed, CPU)
    network, meta = checkpoint.load_model(model, CPU)
    ids, means, sizes = bag_file.open_bags(inputs.bags)
    rows = fold_rows.read_fold_rows(ids, inputs.slides, inputs.splits, fold)
    fold_draws.sample_fold(
        network,
        meta,
        (means, sizes),
        rows.of("val", "cal", "test"),
        DRAWS,
        seed,
        fold,
        "flow",
        inputs.draws[fold],
        inputs.draws[fold].with_suffix(".parquet"),
        CPU,
    )


def deal(made: synthetic_cohort.Synthetic) -> None:
    """Give each patient another patient's profile."""
    table = pl.read_parquet(made.inputs.expression)
    order = np.random.default_rng(0).permutation(table.height)
    names = table["sample_id"]
    parquet.write(table[order].with_columns(names), made.inputs.expression)


@dataclass(frozen=True)
class Shown:
    """What the report's page is made of, and the evaluation's tables."""

    context: dict[str, Any]
    tables: dict[str, pl.DataFrame]

    def labels(self) -> list[str]:
        return [line.label for line in self.context["verdict"]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("no-signal")
    made = synthetic_cohort.make(folder, patients=60, genes=60, draws=2, signal=1.5)
    deal(made)
    for fold in range(3):
        fit_and_draw(made, fold, 1)
    out = folder / "evaluation" / synthetic_cohort.RUN
    tables = evaluated.run(made, out, bootstrap=100, permutations=20, top=[20])
    run = run_tables.load(folder, *NAMES)
    return Shown(report.context(run, page_sections.build(run)), tables)


def test_the_summary_says_that_nothing_was_learned(shown: Shown) -> None:
    _, agreement, tissue, *_ = shown.context["short"]
    assert "no better than chance" in agreement
    assert "learned" in tissue
    assert re.search(r"Its error is (larger|not clearly smaller) than", tissue)


def test_the_verdict_has_no_gain_and_losses_first(shown: Shown) -> None:
    network, *lines = shown.context["verdict"]
    assert "left out" in network.text
    signals = [line.label for line in lines if "correlation" in line.text and "Mean" in line.text]
    assert signals == ["no signal"] * 2
    assert not {"better", "signal"} & set(shown.labels())
    tones = [line.tone == "bad" for line in lines]
    assert tones == sorted(tones, reverse=True)


def test_intervals_are_calibrated_without_signal(shown: Shown) -> None:
    assert "calibrated" in shown.labels()
    assert "believed" in shown.context["short"][3]
    summary = shown.tables["summary"].filter(protocol="clean", gene_set="all", model="flow")
    crps = evaluated.pick(summary, metric="crps_minus:constant")
    assert crps["high"] > 0  # as a distribution no better than the train profiles


def test_few_genes_are_significant(shown: Shown) -> None:
    genes = shown.tables["genes"]
    assert genes.filter(pl.col("fdr") < 0.05).height <= 2
    assert abs(genes["r"].mean()) < 0.1
