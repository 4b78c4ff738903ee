"""The table of ablations: what is said of a variant equals what evaluation says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import evaluated
import numpy as np
import polars as pl
import pytest
import synthetic_cohort
from evaluated import SETTINGS
from evaluated import of_variant as one
from slide2rna.core import config
from slide2rna.evaluation import evaluate
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.evaluation.scoring import folds
from slide2rna.report.figures import ablations_chart
from slide2rna.studies import ablations
from slide2rna.studies.ablations import Ablation
from synthetic_models import add_model

VARIANTS = [
    Ablation("flow.noisy", "noisy", "noise"),
    Ablation("flow.same", "same", "nothing"),
    Ablation("flow.points", "points", "noise"),
]
Tables = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("cohort"), patients=75, genes=120)


@pytest.fixture(scope="module")
def others(made: synthetic_cohort.Synthetic) -> list[Path]:
    return [
        *add_model(made, "flow.noisy", 2.0, draws=True),
        *add_model(made, "flow.same", 0.0, draws=True),
        *add_model(made, "flow.points", 1.0),
    ]


@pytest.fixture(scope="module")
def tables(
    made: synthetic_cohort.Synthetic, others: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Tables:
    out = tmp_path_factory.mktemp("ablations")
    settings = config.defaults("evaluate", **SETTINGS)
    table = ablations.write_ablations(
        replace(made.inputs, others=others), VARIANTS, out, settings, 1, 1
    )
    ablations_chart.write_ablations(table, out)
    assert (out / "ablations.png").stat().st_size > 1000
    return evaluated.tables(out)


def test_differences_are_the_variants_less_the_base(tables: Tables) -> None:
    table = tables["ablations"]
    assert set(table["group"]) == {"base", "noise", "nothing"}
    worse, same = (one(table, name, "pcc_minus:base") for name in ("noisy", "same"))
    assert worse["high"] < 0
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    scores = {name: one(table, name, "pcc")["value"] for name in ("base", "noisy", "same")}
    assert worse["value"] == pytest.approx(scores["noisy"] - scores["base"], abs=1e-6)
    assert scores["same"] == pytest.approx(scores["base"])
    crps = one(table, "noisy", "crps_minus:base")
    assert crps["low"] > 0
    own = [one(table, name, "crps")["value"] for name in ("noisy", "base")]
    assert crps["value"] == pytest.approx(own[0] - own[1], abs=1e-6)


def test_scores_are_those_of_the_evaluation(
    made: synthetic_cohort.Synthetic, others: list[Path], tables: Tables, tmp_path: Path
) -> None:
    settings = config.defaults("evaluate", **SETTINGS)
    inputs = replace(made.inputs, others=others)
    evaluate.evaluate(inputs, synthetic_cohort.RUN, tmp_path, settings, 1, 1)
    summary = pl.read_parquet(tmp_path / "summary.parquet").filter(pl.col("protocol") == "clean")
    for variant in VARIANTS:
        for metric in ("pcc", "rmse_ratio"):
            wanted = summary.filter(
                (pl.col("model") == variant.label)
                & (pl.col("metric") == metric)
                & (pl.col("gene_set") == "all")
            ).row(0, named=True)
            found = one(tables["ablations"], variant.name, metric)
            assert [found[k] for k in ("value", "low", "high")] == [
                wanted[k] for k in ("value", "low", "high")
            ]


def test_coverage_equals_a_plain_loop(made: synthetic_cohort.Synthetic, tables: Tables) -> None:
    table = tables["ablations"]
    cohort = synthetic_cohort.load(made)
    hits, tried = 0, 0
    for path in made.inputs.draws:
        fold = folds.load_fold(cohort, path)
        eligible = ~gene_metrics.is_flat(fold.train.truth)
        for row, raw in fold.test_draws():
            pooled = raw.reshape(-1, raw.shape[-1]).astype(np.float32)
            n = len(pooled)
            for gene in np.flatnonzero(eligible):
                ordered = np.sort(pooled[:, gene])
                ends = []
                for p in (0.05, 0.95):
                    place = p * (n + 1)
                    k = int(place)
                    ends.append(ordered[k - 1] + (place - k) * (ordered[k] - ordered[k - 1]))
                hits += ends[0] <= fold.test.truth[row, gene] <= ends[1]
                tried += 1
    found = one(table, "base", "covered90")
    assert found["value"] == pytest.approx(hits / tried, abs=1e-4)
    assert found["low"] < found["value"] < found["high"]
    points = table.filter(pl.col("variant") == "points")["metric"]
    assert "covered90" not in set(points)


def test_pathways_are_the_bases_for_every_variant(
    made: synthetic_cohort.Synthetic, tables: Tables
) -> None:
    table = tables["pathways"]
    names = {name: set(part["pathway"]) for (name,), part in table.group_by("variant")}
    assert set(names) == {"base", "noisy", "same", "points"}
    assert len({frozenset(found) for found in names.values()}) == 1
    base, same, noisy = (
        table.filter(pl.col("variant") == name).sort("pathway")
        for name in ("base", "same", "noisy")
    )
    columns = ["pathway", "r", "r_low", "r_high", "rmse", "n_samples"]
    assert base.select(columns).equals(same.select(columns))
    assert noisy["rmse"].mean() > base["rmse"].mean()
    known = base.drop_nulls("r")
    assert ((known["r_low"] <= known["r"]) & (known["r"] <= known["r_high"])).all()
