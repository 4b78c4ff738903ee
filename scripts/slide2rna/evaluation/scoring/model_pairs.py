"""Rows of the summary that set one model against another.

Metrics
-------
pcc_minus:B, rmse_minus:B, crps_minus:B, pcc_draw_mean_minus:B : paired differences on the
    evaluated model's genes; of the evaluated model on all its gene sets, of every other model on
    all genes; the last two between models with draws.
genes_better:B : number of genes whose correlation exceeds B's.
genes_fdr05 : number of genes whose correlation is above 0. Both are null where a patient has
    several samples.
pcc_seeds : of models trained several times; mean, lowest and highest over the seeds.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import correlation_tests
from slide2rna.evaluation.scoring.averaged_scores import AveragedScores
from slide2rna.evaluation.scoring.evaluated import Evaluated

FDR = 0.05
PAIRED = "paired, on the genes of"
REPEAT = re.compile(r"(.+)\.seed-\d+")


def rows(
    found: Evaluated, scores: AveragedScores, genes: list[int], few: str
) -> list[dict[str, Any]]:
    """All rows that compare models."""
    note = "; ".join(filter(None, [f"{PAIRED} {found.model}", few]))
    names = list(found.inputs[0].test)
    out: list[dict[str, Any]] = []
    for a in names:
        for b in names:
            if a != b:
                out += _differences(found, scores, a, b, genes, note)
    return out + _better(found, few) + _above_zero(found, few) + _seeds(found, scores, genes)


def _differences(
    found: Evaluated, scores: AveragedScores, a: str, b: str, genes: list[int], note: str
) -> list[dict[str, Any]]:
    sets = found.set_names if a == found.model else found.set_names[:1]
    kinds = ["pcc", "rmse"] + ["crps"] * (a in scores.crps and b in scores.crps)
    kinds += ["pcc_draw_mean"] * (a in found.moments and b in found.moments)
    out = []
    for metric in kinds:
        values = scores(a, metric, found.model) - scores(b, metric, found.model)
        low, high = bootstrap.interval(values[:, : len(sets)])
        for column, gene_set in enumerate(sets):
            row: dict[str, Any] = {
                "model": a,
                "gene_set": gene_set,
                "metric": f"{metric}_minus:{b}",
            }
            row |= {"value": float(values[0, column]), "low": float(low[column])}
            out.append(row | {"high": float(high[column]), "n_genes": genes[column], "note": note})
    return out


def _better(found: Evaluated, few: str) -> list[dict[str, Any]]:
    note = "; ".join(filter(None, [_said(found, f"FDR {FDR:g}: {correlation_tests.TEST}"), few]))
    return [
        _count(a, f"genes_better:{b}", gene_metrics.benjamini_hochberg(p), note)
        for (a, b), p in found.better.items()
    ]


def _above_zero(found: Evaluated, few: str) -> list[dict[str, Any]]:
    how = "Student's t" if len(found.inputs) == 1 else "Fisher's z over folds"
    note = f"r above 0 at FDR {FDR:g}: {how}, Benjamini-Hochberg over genes, one-sided"
    note = "; ".join(filter(None, [_said(found, note), few]))
    untested = correlation_tests.repeated(found.inputs)
    truths = [fold.truth for fold in found.inputs]
    out = []
    for name, r in found.comparison.r.items():
        if name != "constant":
            points = [fold.test[name] for fold in found.inputs]
            p = correlation_tests.above_zero(truths, points, r, untested)
            out.append(_count(name, "genes_fdr05", gene_metrics.benjamini_hochberg(p), note))
    return out


def _said(found: Evaluated, test: str) -> str:
    """How a count was tested, or why it wasn't."""
    return correlation_tests.UNTESTED if correlation_tests.repeated(found.inputs) else test


def _count(model: str, metric: str, fdr: Array, note: str) -> dict[str, Any]:
    tested = int(np.isfinite(fdr).sum())
    row: dict[str, Any] = {
        "model": model,
        "gene_set": "all",
        "metric": metric,
        "note": note,
        "n_genes": tested,
    }
    return row | {"value": float((fdr < FDR).sum()) if tested else None}


def _seeds(found: Evaluated, scores: AveragedScores, genes: list[int]) -> list[dict[str, Any]]:
    repeats: dict[str, list[str]] = {}
    for name in found.networks:
        if known := REPEAT.fullmatch(name):
            repeats.setdefault(known[1], []).append(name)
    out = []
    for model, again in repeats.items():
        trained = [name for name in (model, *again) if name in found.networks]
        values = np.array([scores(name, "pcc", name)[0] for name in trained])
        for column, gene_set in enumerate(found.set_names):
            row: dict[str, Any] = {"model": model, "gene_set": gene_set, "metric": "pcc_seeds"}
            row |= {"value": float(values[:, column].mean()), "n_genes": genes[column]}
            row |= {"low": float(values[:, column].min()), "high": float(values[:, column].max())}
            note = f"mean, lowest and highest of {len(trained)} seeds, each on its own T-k"
            out.append(row | {"note": note})
    return out
