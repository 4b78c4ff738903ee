"""Model pairs: rows of the summary that compare models with each other.

Metrics
-------
pcc_minus:B, rmse_minus:B, crps_minus:B, pcc_draw_mean_minus:B : paired differences on the
    evaluated model's genes; on all its gene sets for the evaluated model, on all genes for every
    other model; the last two between models with draws.
genes_better:B : number of genes whose correlation exceeds B's.
genes_fdr05 : number of genes whose correlation is above 0. Both are null if a patient has
    several samples.
pcc_seeds : for models trained several times: mean, lowest and highest over the seeds.
"""

from __future__ import annotations

import re

import numpy as np

from slide2rna.core.rows import SummaryRow
from slide2rna.core.types import Array
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import correlation_tests
from slide2rna.evaluation.scoring.averaged_scores import AveragedScores
from slide2rna.evaluation.scoring.evaluated import Evaluated

FDR = 0.05
PAIRED = "paired, on the genes of"
REPEAT = re.compile(r"(.+)\.seed-\d+")


def rows(
    evaluated: Evaluated, scores: AveragedScores, genes: list[int], caution: str
) -> list[SummaryRow]:
    """Return all rows that compare models."""
    note = "; ".join(filter(None, [f"{PAIRED} {evaluated.model}", caution]))
    names = list(evaluated.predictions[0].test)
    out: list[SummaryRow] = []
    for a in names:
        for b in names:
            if a != b:
                out += _difference_rows(evaluated, scores, a, b, genes, note)
    return (
        out
        + _better_rows(evaluated, caution)
        + _above_zero_rows(evaluated, caution)
        + _seed_rows(evaluated, scores, genes)
    )


def _difference_rows(
    evaluated: Evaluated, scores: AveragedScores, a: str, b: str, genes: list[int], note: str
) -> list[SummaryRow]:
    sets = evaluated.set_names if a == evaluated.model else evaluated.set_names[:1]
    metrics = ["pcc", "rmse"] + ["crps"] * (a in scores.crps and b in scores.crps)
    metrics += ["pcc_draw_mean"] * (a in evaluated.draw_moments and b in evaluated.draw_moments)
    out = []
    for metric in metrics:
        values = scores(a, metric, evaluated.model) - scores(b, metric, evaluated.model)
        low, high = bootstrap.interval(values[:, : len(sets)])
        for column, gene_set in enumerate(sets):
            row: SummaryRow = {
                "model": a,
                "gene_set": gene_set,
                "metric": f"{metric}_minus:{b}",
            }
            row |= {"value": float(values[0, column]), "low": float(low[column])}
            out.append(row | {"high": float(high[column]), "n_genes": genes[column], "note": note})
    return out


def _better_rows(evaluated: Evaluated, caution: str) -> list[SummaryRow]:
    note = "; ".join(
        filter(None, [_test_note(evaluated, f"FDR {FDR:g}: {correlation_tests.TEST}"), caution])
    )
    return [
        _count_row(a, f"genes_better:{b}", gene_metrics.benjamini_hochberg(p), note)
        for (a, b), p in evaluated.p_better.items()
    ]


def _above_zero_rows(evaluated: Evaluated, caution: str) -> list[SummaryRow]:
    test = "Student's t" if len(evaluated.predictions) == 1 else "Fisher's z over folds"
    note = f"r above 0 at FDR {FDR:g}: {test}, Benjamini-Hochberg over genes, one-sided"
    note = "; ".join(filter(None, [_test_note(evaluated, note), caution]))
    untested = correlation_tests.has_repeated_samples(evaluated.predictions)
    truths = [fold.truth for fold in evaluated.predictions]
    out = []
    for name, r in evaluated.comparison.r.items():
        if name != "constant":
            points = [fold.test[name] for fold in evaluated.predictions]
            p = correlation_tests.above_zero(truths, points, r, untested)
            out.append(_count_row(name, "genes_fdr05", gene_metrics.benjamini_hochberg(p), note))
    return out


def _test_note(evaluated: Evaluated, test: str) -> str:
    """Return the test behind a count, or the reason why there was no test."""
    return (
        correlation_tests.UNTESTED
        if correlation_tests.has_repeated_samples(evaluated.predictions)
        else test
    )


def _count_row(model: str, metric: str, fdr: Array, note: str) -> SummaryRow:
    tested = int(np.isfinite(fdr).sum())
    row: SummaryRow = {
        "model": model,
        "gene_set": "all",
        "metric": metric,
        "note": note,
        "n_genes": tested,
    }
    return row | {"value": float((fdr < FDR).sum()) if tested else None}


def _seed_rows(evaluated: Evaluated, scores: AveragedScores, genes: list[int]) -> list[SummaryRow]:
    repeats_by_model: dict[str, list[str]] = {}
    for name in evaluated.networks:
        if match := REPEAT.fullmatch(name):
            repeats_by_model.setdefault(match[1], []).append(name)
    out = []
    for model, repeats_of_model in repeats_by_model.items():
        trained = [name for name in (model, *repeats_of_model) if name in evaluated.networks]
        values = np.array([scores(name, "pcc", name)[0] for name in trained])
        for column, gene_set in enumerate(evaluated.set_names):
            row: SummaryRow = {"model": model, "gene_set": gene_set, "metric": "pcc_seeds"}
            row |= {"value": float(values[:, column].mean()), "n_genes": genes[column]}
            row |= {"low": float(values[:, column].min()), "high": float(values[:, column].max())}
            note = f"mean, lowest and highest of {len(trained)} seeds, each on its own T-k"
            out.append(row | {"note": note})
    return out
