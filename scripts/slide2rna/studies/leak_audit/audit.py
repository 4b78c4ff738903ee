"""Leak audit: the same models under the clean and under the published fold pairing.

Both pairings test the same folds. The clean one trains on the train part of the fold and selects
by its val part. The published one trains on the slides of the published loader
(`published_splits.published_pairs`) and selects by the test fold itself, as that code does. The
guard refuses such a split for every model of the workflow; it is allowed only here, to measure the
leak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slide2rna.core import seeds
from slide2rna.core.errors import ConfigError, StageError
from slide2rna.core.log import log, progress
from slide2rna.core.settings import EvaluateSettings
from slide2rna.core.types import Array, Mask, Row
from slide2rna.data import fold_rows, patients
from slide2rna.evaluation.metrics import bootstrap, gene_metrics
from slide2rna.evaluation.scoring import comparison, fold_scores
from slide2rna.models import base, registry
from slide2rna.studies.leak_audit import table as audit_table
from slide2rna.studies.leak_audit.pairings import (
    CLEAN,
    PUBLISHED,
    PairedRun,
    clean_runs,
    published_runs,
)
from slide2rna.studies.leak_audit.table import PairingScores

Fit = Callable[[str, patients.Part, patients.Part, int, int], base.FittedModel]


def networks_among(names: Sequence[str]) -> list[str]:
    """Return the names that are networks.

    Raises
    ------
    ConfigError
        A name that no model has.
    """
    networks = ["flow", *registry.NETWORKS]
    for name in names:
        if name not in registry.CLOSED_FORM and name not in networks:
            allowed = f"allowed are {', '.join([*registry.CLOSED_FORM, *networks])}"
            raise ConfigError("leak_audit.models", f"unknown model '{name}'", allowed)
    return [name for name in names if name in networks]


@dataclass(frozen=True)
class AuditInputs:
    """Paths of the audited cohort."""

    bags: Path
    expression: Path
    slides: Path
    splits: Path
    cohort: Path


def audit(
    inputs: AuditInputs,
    names: Sequence[str],
    settings: EvaluateSettings,
    seed: int,
    networks: Fit | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Fit every model under both pairings and score it on the same test folds.

    Parameters
    ----------
    names
        Models of the registries.
    settings
        Section `evaluate`: top, bootstrap.
    networks
        Fits the models that are networks; see `leak_audit.networks`.

    Returns
    -------
    table : a row per pairing, model, run (null: over the runs) and gene set (`table.SCHEMA`).
        `all` is every gene; `T<k>` are ranked by the run's selection part, `T<k>-test` by the
        pooled test patients, and `all-pooled` and `T<k>-pooled` correlate over the pooled test
        patients as the published tables do. Pairing `difference` is published minus clean, paired
        over patients.
    info : cohort.json.

    Raises
    ------
    ConfigError
        These slides allow none of the models.
    StageError
        A run without a measured sample in one of its parts or with fewer than two to train on, no
        gene that varies in all of them, or no test fold of more than three samples.
    """
    cohort = patients.load_cohort(
        fold_rows.gene_names(inputs.expression),
        inputs.bags,
        inputs.expression,
        inputs.slides,
        inputs.splits,
        inputs.cohort,
    )
    runs = {CLEAN: list(clean_runs(cohort)), PUBLISHED: list(published_runs(cohort))}
    eligible = _eligible_genes([run for pairing in runs.values() for run in pairing])
    if not any(audit_table.counted(runs[CLEAN])):
        cause = "no test fold has more than three measured samples, so correlations are undefined"
        raise StageError("leak audit", cause, "use fewer folds")
    fewest = [run.test.n_patients for run in runs[CLEAN]]
    sizes = comparison.shown_sizes(settings["top"], len(cohort.genes), fewest)
    counts = [
        bootstrap.patient_counts(
            seeds.rng_for(seed, "audit", fold), run.test.patient_ids, settings["bootstrap"]
        )
        for fold, run in enumerate(runs[CLEAN])
    ]
    rows: list[Row] = []
    for name in progress(names, "leak audit"):
        fit = registry.fit if name in registry.CLOSED_FORM or networks is None else networks
        try:
            scored = {
                pairing: _score_pairing(fit, name, runs[pairing], eligible, sizes, counts, seed)
                for pairing in (CLEAN, PUBLISHED)
            }
        except base.Unavailable as reason:
            rows.append({"pairing": CLEAN, "model": name, "gene_set": "all", "note": str(reason)})
            continue
        for pairing, scores in scored.items():
            rows += audit_table.rows(name, runs[pairing], scores, eligible, sizes)
        rows.append(audit_table.difference(name, scored, eligible, runs[CLEAN]))
        log.info("%s: published minus clean %+.3f", name, rows[-1]["value"])
    table = pl.DataFrame(rows, schema=audit_table.SCHEMA)
    if table["value"].is_null().all():
        raise ConfigError(
            "leak_audit.models", table["note"][0], "add a model that works with these slides"
        )
    return table, cohort.info


def _eligible_genes(runs: Sequence[PairedRun]) -> Mask:
    """Return the genes (G,) that vary in every training set.

    Raises
    ------
    StageError
        A run has fewer than two training samples, or no gene is left.
    """
    small = min(runs, key=lambda run: len(run.train.samples))
    where = f"run {small.number} of the {small.pairing} pairing"
    n = len(small.train.samples)
    remedy = "raise folds.val_share (every second published run trains on val), or use fewer folds"
    if n < 2:
        raise StageError(where, f"{n} training sample: no gene varies", remedy)
    eligible = np.all([~gene_metrics.is_flat(run.train.truth) for run in runs], axis=0)
    if not eligible.any():
        cause = f"no gene varies in every training set; the smallest is this run's, {n} samples"
        raise StageError(where, cause, remedy)
    return eligible


def _score_pairing(
    fit: Fit,
    name: str,
    runs: Sequence[PairedRun],
    eligible: Mask,
    sizes: Sequence[int],
    counts: Sequence[bootstrap.Counts],
    seed: int,
) -> PairingScores:
    scores = PairingScores([], [], [])
    for run, weights in zip(runs, counts, strict=True):
        fitted = fit(name, run.train, run.pick, seed, run.number)
        selection = run.pick.average(fitted.predict(run.pick))
        test = run.test.average(fitted.predict(run.test))
        sets = comparison.gene_sets(selection, run.pick.truth, eligible, sizes)
        scores.test.append(test)
        scores.test_r.append(gene_metrics.pcc(test, run.test.truth)[0])
        scores.resampled.append(resampled_means(weights, test, run.test.truth, sets))
    return scores


def resampled_means(
    counts: bootstrap.Counts, predicted: Array, observed: Array, sets: Mask
) -> Array:
    """Average the correlation (B + 1, K) of each gene set (G, K) in each resample of patients."""
    weights = fold_scores.set_weights(sets, ~gene_metrics.is_flat(observed))
    out = np.zeros((len(counts), sets.shape[1]))
    for start in range(0, len(sets), comparison.BLOCK):
        block = slice(start, start + comparison.BLOCK)
        r = bootstrap.PccBootstrap(counts, observed[:, block])(predicted[:, block])
        out += r @ weights[block]
    return out
