"""Ablation row of the published settings: what it resolves to is the paper's, key by key."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from slide2rna.core import config
from slide2rna.core.root import ROOT
from slide2rna.plan import runs
from slide2rna.published import settings as published

# RNA-FM, section 4.1 and appendix B, and its code where the paper is silent: graph_heads,
# mlp_ratio, dropouts, betas, decay, clip. `UNREAD` is read only with `skip: ridge`.
MODEL = {
    **{"hidden": 512, "blocks": 7, "heads": 8, "graph": True, "graph_heads": 4, "mlp_ratio": 4},
    **{"dropout": 0.1, "cluster_layers": 2, "cluster_weights": False, "skip": "none"},
    **{"target": "zscore", "factors": 0, "condition_dropout": 0.1},
}
TRAIN = {
    **{"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.01, "clip": 1.0},
    **{"batch": 32, "epochs": 2000, "interpolant": "linear"},
}
SAMPLE = {"solver": "euler", "steps": 20, "guidance": 2}
UNREAD = {"rank", "head", "outside", "gene_slopes", "mixture"}
# Of this program: how it stops, computes and stores.
OURS = {
    *("patience", "val_noise", "checkpoint_epochs", "precision", "fused", "compile", "recompute"),
    *("draws", "mean_pairs", "keep", "memory_mb"),
}
# What a cohort may have changed, and the row must set back; its sizes stay.
OWN = {
    "model": {"target": "normal_scores", "cluster_weights": True, "dropout": 0.3, "hidden": 64},
    "train": {"learning_rate": 0.001, "batch": 16, "epochs": 150, "interpolant": "logistic"},
    "sample": {"steps": 8, "solver": "heun"},
}


def row(own: dict[str, Any]) -> runs.PlannedRun:
    """The shipped row, of a cohort with these settings."""
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    cohort = {"source": "sheet", "sheet": "a.tsv", "expression": "a.csv", "settings": own}
    full = config.validate(shipped | {"cohorts": {"mine": cohort}})
    return runs.ablations(full, "mine")["published-settings"]


@pytest.mark.parametrize("own", [{}, OWN], ids=["shipped", "own settings"])
def test_the_row_is_the_papers(own: dict[str, Any]) -> None:
    found = row(own)
    sections = {"model": found.network(), "train": found.training(), "sample": found.sampling()}
    wanted = {"model": MODEL | ({"hidden": 64} if own else {}), "train": TRAIN, "sample": SAMPLE}
    for name, values in sections.items():
        kept = {key: value for key, value in values.items() if key not in UNREAD | OURS}
        assert kept == wanted[name], name
    assert found.settings["bags"]["k"] == 100
    assert found.settings["bags"]["resamples"] == 0
    assert found.trained_run == found.name


def test_a_converted_checkpoint_has_the_same_network() -> None:
    network = row({}).network()
    assert {key: network[key] for key in published.PUBLISHED} == published.PUBLISHED
    assert network["heads"] == published.HEADS


def test_a_search_changes_nothing_of_it() -> None:
    listed = [{"learning_rate": 0.01, "batch": 8}, {"patience": 7}]
    own = {"search": 3, "train": {"search": listed}}
    assert row(own).search() == [{"patience": 7}]
