"""Coverage, CRPS and co-expression of the draws against the known law; `make law` first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from law_results import RUN, Array, Known, folds_of
from slide2rna.evaluation.metrics import gene_metrics

LEVELS = (0.5, 0.8, 0.9)


@pytest.fixture(scope="module")
def known(law: Path) -> list[Known]:
    return list(folds_of(law))


def share_inside(draws: Array, measured: Array, level: float) -> float:
    """Of measured (n, K), inside the central interval of draws (n, D, K)."""
    ordered = np.sort(np.moveaxis(draws, 1, -1).astype(np.float32), axis=-1)
    low, high = gene_metrics.central_interval(ordered, level)
    return float(((low <= measured) & (measured <= high)).mean())


def test_the_laws_own_intervals_cover(known: list[Known]) -> None:
    """Each patient is a test patient once; patients are independent, genes of one are not."""
    for level in LEVELS:
        ends = ((1 - level) / 2, (1 + level) / 2)
        per_patient = []
        for fold in known:
            low, high = (fold.law.quantile(q, fold.pi, fold.site) for q in ends)
            inside = (low <= fold.measured) & (fold.measured <= high)
            per_patient += inside.mean(axis=1).tolist()
        error = np.std(per_patient) / np.sqrt(len(per_patient))
        print(f"{level:.0%} intervals of the law cover {np.mean(per_patient):.3%} ({error:.2%})")
        assert abs(np.mean(per_patient) - level) < 4 * error < 0.03


def test_crps_within_a_tenth_of_the_laws(known: list[Known]) -> None:
    ours, laws = [], []
    for fold in known:
        dependent = fold.depends
        for row, draws in enumerate(fold.draws()):
            ordered = np.sort(draws[:, dependent].T.astype(np.float32), axis=1)
            crps = gene_metrics.fair_crps(ordered, fold.measured[row, dependent], ordered[None])
            ours.append(crps.mean())
        laws.append(fold.law.crps(fold.measured, fold.pi, fold.site)[:, dependent].mean(axis=1))
    ratio = float(np.mean(ours) / np.mean(np.concatenate(laws)))
    print(f"CRPS of genes that depend on morphology: {100 * (ratio - 1):.1f} % above the law's")
    assert 1 < ratio < 1.1


def test_intervals_of_pathway_scores_cover(known: list[Known]) -> None:
    """They need the right co-expression: with independent genes they are far too narrow."""
    found = []
    for fold in known:
        drawn, measured = fold.draws(), fold.pathway_scores(fold.measured)
        alone = np.random.default_rng(0).permuted(drawn, axis=1)
        of_law = fold.draws_of_the_law(drawn.shape[1])
        found.append(
            [
                share_inside(fold.pathway_scores(given), measured, 0.9)
                for given in (drawn, of_law, alone)
            ]
        )
    ours, laws, shuffled = np.mean(found, axis=0)
    print(f"90 % of pathway scores: draws {ours:.1%}, law {laws:.1%}, shuffled {shuffled:.1%}")
    assert 0.85 <= ours <= 0.95
    assert shuffled < ours - 0.1


def test_conformal_intervals_cover(law: Path) -> None:
    """Marginal coverage within two points and the standard error over patients (SPEC 3.9)."""
    table = pl.read_parquet(law / "evaluation" / RUN / "conformal.parquet").filter(
        (pl.col("gene_set") == "all") & (pl.col("within") == "pooled")
    )
    ours = table.filter(pl.col("kind") == "conformal")
    raw = table.filter(pl.col("kind") == "draws")
    assert set(LEVELS) <= set(ours["level"])
    for row in ours.filter(pl.col("level").is_in(LEVELS)).iter_rows(named=True):
        beside = raw.filter(pl.col("level") == row["level"]).row(0, named=True)
        error = (row["high"] - row["low"]) / (2 * 1.96)
        print(
            f"{row['level']:.0%}: conformal {row['covered']:.3f} +- {error:.3f}, draws "
            f"{beside['covered']:.3f}; width {row['width_ratio']:.3f} of the draws'"
        )
        assert row["n_cal"] >= 99
        assert row["answered"] == 1
        assert abs(row["covered"] - row["level"]) <= 0.02 + error
