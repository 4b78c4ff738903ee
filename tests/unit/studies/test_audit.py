"""The leak audit: both pairings on a cohort with a known law, against plain loops."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import synthetic_cohort
from slide2rna.cohort import published_splits
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.data import patients
from slide2rna.models import registry
from slide2rna.report.figures import leak_audit
from slide2rna.studies.leak_audit import audit, pairings
from slide2rna.studies.leak_audit import networks as leak_audit_networks
from slide2rna.studies.leak_audit import table as audit_table
from slide2rna.training import fit
from slide2rna.training.task import FoldTask

SETTINGS = config.defaults("evaluate", bootstrap=60, top=[100, 50, 20])
MODELS = ["memoriser", "ridge"]


def inputs_of(made: synthetic_cohort.Synthetic) -> audit.AuditInputs:
    given = made.inputs
    return audit.AuditInputs(given.bags, given.expression, given.slides, given.splits, given.cohort)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> synthetic_cohort.Synthetic:
    return synthetic_cohort.make(tmp_path_factory.mktemp("c"), patients=120, draws=2, folds=5)


@pytest.fixture(scope="module")
def cohort(made: synthetic_cohort.Synthetic) -> patients.Cohort:
    return synthetic_cohort.load(made)


@pytest.fixture(scope="module")
def table(made: synthetic_cohort.Synthetic) -> pl.DataFrame:
    return audit.audit(inputs_of(made), MODELS, SETTINGS, 1)[0]


def value(table: pl.DataFrame, **keys: object) -> float:
    rows = table.filter([pl.col(key).eq_missing(pl.lit(item)) for key, item in keys.items()])
    assert rows.height == 1, rows
    return float(rows["value"][0])


def test_the_memoriser_is_near_zero_when_clean_and_high_when_not(table: pl.DataFrame) -> None:
    clean = table.filter(
        (pl.col("pairing") == "clean")
        & (pl.col("model") == "memoriser")
        & (pl.col("gene_set") == "all")
    )
    assert clean["n_shared"].to_list() == [0] * 6
    assert abs(value(clean, fold=None)) < 0.05
    leaking = table.filter(
        (pl.col("pairing") == "published")
        & (pl.col("model") == "memoriser")
        & (pl.col("gene_set") == "all")
        & (pl.col("n_shared") > 0.8 * pl.col("n_test"))
    )
    assert leaking["fold"].to_list() == [2, 4]
    assert leaking["value"].min() > 0.7
    keys = {"model": "memoriser", "fold": None, "gene_set": "all"}
    both = [value(table, pairing=name, **keys) for name in ("published", "clean")]
    gained = table.filter((pl.col("pairing") == "difference") & (pl.col("model") == "memoriser"))
    assert gained["value"].item() == pytest.approx(both[0] - both[1])
    assert gained["low"].item() > 0.2


def test_a_real_model_gains_too_and_means_are_over_runs(table: pl.DataFrame) -> None:
    for pairing in ("clean", "published"):
        rows = table.filter(
            (pl.col("pairing") == pairing)
            & (pl.col("model") == "ridge")
            & (pl.col("gene_set") == "T50")
        )
        runs = rows.filter(pl.col("fold").is_not_null())
        assert runs["fold"].to_list() == list(range(5))
        assert value(rows, fold=None) == pytest.approx(runs["value"].mean())
        assert rows["low"].is_null().all() == (pairing == "published")
    gained = table.filter((pl.col("pairing") == "difference") & (pl.col("model") == "ridge"))
    assert gained["low"].item() > 0


def test_scores_equal_plain_loops(cohort: patients.Cohort, table: pl.DataFrame) -> None:
    """Ridge under the published pairing, its rows rebuilt gene by gene from the pairs."""
    pairs = published_splits.published_pairs(cohort.splits)
    predictions, truths, per_run = [], [], []
    for pair, run in zip(pairs, pairings.published_runs(cohort), strict=True):
        assert run.train.samples == pair.train
        assert run.pick.samples == run.test.samples == pair.test
        assert run.shared == len(pair.shared)
        fitted = registry.fit("ridge", run.train, run.pick, 1, run.number)
        predictions.append(run.test.average(fitted.predict(run.test)))
        truths.append(np.array([cohort.truth[cohort.row[name]] for name in pair.test]))
    genes = range(1, len(cohort.genes))  # the first one never varies

    def r(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([np.corrcoef(x[:, gene], y[:, gene])[0, 1] for gene in genes])

    per_run = [r(x, y) for x, y in zip(predictions, truths, strict=True)]
    keys = {"pairing": "published", "model": "ridge"}
    for fold in range(5):
        found = value(table, **keys, fold=fold, gene_set="all")
        assert found == pytest.approx(per_run[fold].mean(), abs=1e-5)
    pooled = r(np.concatenate(predictions), np.concatenate(truths))
    top = np.argsort(-pooled)[:50]
    for gene_set, expected in (
        ("all-pooled", pooled.mean()),
        ("T50-pooled", pooled[top].mean()),
        ("T50-test", np.mean([run[top].mean() for run in per_run])),
    ):
        assert value(table, **keys, fold=None, gene_set=gene_set) == pytest.approx(
            expected, abs=1e-5
        )


def test_the_clean_pairing_is_the_split_itself(cohort: patients.Cohort) -> None:
    for run in pairings.clean_runs(cohort):
        of_fold = cohort.splits.filter(pl.col("fold") == run.number)
        for part, samples in (("train", run.train), ("val", run.pick), ("test", run.test)):
            expected = of_fold.filter(pl.col("part") == part)["unit"].sort().to_list()
            assert samples.samples == expected
        assert run.shared == 0


def test_rows_of_a_model_do_not_depend_on_the_others(
    made: synthetic_cohort.Synthetic, table: pl.DataFrame
) -> None:
    again, info = audit.audit(inputs_of(made), MODELS[::-1], SETTINGS, 1)
    assert again.filter(pl.col("model") == "ridge").equals(table.filter(pl.col("model") == "ridge"))
    assert info["name"] == "synthetic"


def test_a_model_without_its_inputs_is_named(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=40, genes=30, draws=2, color=False)
    reason = "slides without colour statistics in their features"
    table, _ = audit.audit(inputs_of(made), ["color-ridge", "constant"], SETTINGS, 1)
    row = table.filter(pl.col("model") == "color-ridge").select("pairing", "value", "note").rows()
    assert row == [("clean", None, reason)]
    leak_audit.write(table, {"name": "mine"}, tmp_path / "out")
    with pytest.raises(ConfigError, match=reason):
        audit.audit(inputs_of(made), ["color-ridge"], SETTINGS, 1)
    with pytest.raises(ConfigError, match=r"'rigde'.*constant, "):
        audit.networks_among(["ridge", "rigde"])
    assert audit.networks_among(["ridge", "abmil", "flow"]) == ["abmil", "flow"]


def test_files_are_whole_and_the_same_each_time(
    made: synthetic_cohort.Synthetic, repo: Path, tmp_path: Path
) -> None:
    main = runpy.run_path(str(repo / "scripts/leak_audit.py"))["main"]
    for folder in ("a", "b"):
        main(
            [
                *("--cohort", str(made.folder), "--bags", str(made.inputs.bags)),
                *("--out", str(tmp_path / folder), "--settings", '{"models": ["memoriser"]}'),
                *("--evaluate", '{"bootstrap": 20, "top": [50]}'),
            ]
        )
    for name in ("audit.parquet", "leak_audit.png", "leak_audit.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    table = pl.read_parquet(tmp_path / "a" / "audit.parquet")
    assert table.columns == ["cohort", *audit_table.SCHEMA, "caveat"]


def test_the_figure_says_what_is_shared(table: pl.DataFrame) -> None:
    figure = leak_audit.figure(table, "mine")
    shared = table.filter((pl.col("pairing") == "published") & pl.col("fold").is_null())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "clean: 0 of 120 test patients also in training",
        f"published: {shared['n_shared'][0]} of 120 test patients also in training",
    ]
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "all genes",
        "T100 ranked by the test patients",
    ]


def test_a_run_without_samples_is_refused(cohort: patients.Cohort) -> None:
    empty = dataclasses.replace(cohort, splits=cohort.splits.filter(pl.col("part") != "val"))
    with pytest.raises(StageError, match=r"part val .*clean"):
        list(pairings.clean_runs(empty))


SMALL = {
    "abmil": {
        "model": {"hidden": 8, "attention": 4, "learning_rate": 0.003, "epochs": 3},
    },
    "flow": {
        "model": {"hidden": 16, "blocks": 1, "heads": 2, "graph_heads": 2, "cluster_layers": 1},
        "train": {"epochs": 2, "batch": 16, "val_noise": 2},
    },
}


@pytest.mark.parametrize("name", ["abmil", "flow"])
def test_networks_are_trained_and_picked_by_what_the_pairing_says(
    made: synthetic_cohort.Synthetic,
    cohort: patients.Cohort,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Under the published pairing the training set is the pair's, and the test fold is val."""
    networks = leak_audit_networks.load(
        {name: SMALL[name]}, made.inputs.expression, made.inputs.pathways, "cpu", 1
    )
    tasks = []
    fit_network = fit.fit_network

    def remember(task: FoldTask, *rest: object) -> object:
        tasks.append(task)
        return fit_network(task, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(leak_audit_networks, "fit_network", remember)
    run = next(r for r in pairings.published_runs(cohort) if r.number == 2)
    fitted = networks.fit(name, run.train, run.pick, 1, run.number)
    assert sorted(set(tasks[0].train.sample_ids)) == run.train.samples
    assert sorted(set(tasks[0].val.sample_ids)) == run.test.samples
    of_first = tasks[0].train.sample_ids[0]
    np.testing.assert_array_equal(tasks[0].train.values[0], cohort.truth[cohort.row[of_first]])
    points = fitted.predict(run.test)
    assert points.shape == (len(run.test.slide_ids), len(cohort.genes))
    assert np.isfinite(points).all()
    assert points[:, 1:].std(axis=0).max() > 0
    again = networks.fit(name, run.train, run.pick, 1, run.number).predict(run.test)
    np.testing.assert_array_equal(points, again)


@pytest.mark.slow
def test_a_network_by_command(made: synthetic_cohort.Synthetic, repo: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(repo / "scripts/leak_audit.py"))["main"]
    command = [
        *("--cohort", str(made.folder), "--bags", str(made.inputs.bags), "--out", str(tmp_path)),
        *("--evaluate", '{"bootstrap": 10, "top": [50]}', "--device", "cpu", "--threads", "1"),
    ]
    main([*command, "--settings", '{"models": ["abmil"]}', "--networks", json.dumps(SMALL)])
    table = pl.read_parquet(tmp_path / "audit.parquet")
    assert set(table["model"]) == {"abmil"}
    assert table["value"].is_not_null().all()
    with pytest.raises(ConfigError, match="gene sets"):
        main([*command, "--settings", '{"models": ["flow"]}'])


def resplit(made: synthetic_cohort.Synthetic, part: str, fold: int, count: int) -> None:
    """Leave this number of samples in a part of a fold; the others are in none."""
    splits = pl.read_csv(made.inputs.splits, separator="\t")
    there = (pl.col("fold") == fold) & (pl.col("part") == part)
    splits = pl.concat([splits.filter(~there), splits.filter(there).head(count)])
    made.inputs.splits.write_text(splits.write_csv(separator="\t"))


def test_training_on_one_sample_is_refused(tmp_path: Path) -> None:
    """Every second published run trains on a fold's val, which may be a single sample."""
    made = synthetic_cohort.make(tmp_path, patients=40, genes=30, draws=2)
    resplit(made, "val", 0, 1)
    cause = "run 1 .*published.*1 training sample.*folds.val_share"
    with pytest.raises(StageError, match=cause):
        audit.audit(inputs_of(made), MODELS, SETTINGS, 1)


def test_genes_that_vary_nowhere_are_refused(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=40, genes=30, draws=2)
    table = pl.read_parquet(made.inputs.expression)
    flat = [pl.lit(3.0, pl.Float32).alias(name) for name in table.columns[1:]]
    table.with_columns(flat).write_parquet(made.inputs.expression)
    with pytest.raises(StageError, match="gene varies"):
        audit.audit(inputs_of(made), MODELS, SETTINGS, 1)


def test_folds_of_three_are_left_out_of_the_means(tmp_path: Path) -> None:
    made = synthetic_cohort.make(tmp_path, patients=45, genes=60, draws=2)
    resplit(made, "test", 0, 3)
    table, _ = audit.audit(inputs_of(made), MODELS, SETTINGS, 1)
    means = {}
    for pairing in ("clean", "published"):
        rows = table.filter((pl.col("pairing") == pairing) & (pl.col("model") == "ridge"))
        rows = rows.filter(pl.col("gene_set") == "all")
        runs = dict(rows.drop_nulls("fold").select("fold", "value").iter_rows())
        means[pairing] = value(rows, fold=None)
        assert means[pairing] == pytest.approx((runs[1] + runs[2]) / 2)
        note = rows.filter(pl.col("fold").is_null())["note"].item()
        assert note.endswith("folds of three or fewer are left out of the mean")
    gained = value(table, pairing="difference", model="ridge")
    assert gained == pytest.approx(means["published"] - means["clean"])
    for fold in (1, 2):
        resplit(made, "test", fold, 3)
    with pytest.raises(StageError, match="test fold"):
        audit.audit(inputs_of(made), MODELS, SETTINGS, 1)
