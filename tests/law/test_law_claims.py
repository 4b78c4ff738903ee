"""What may be claimed of the model where the truth is known; `make law` makes the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from law_results import RUN, folds_of
from slide2rna.evaluation.metrics import gene_metrics


@pytest.fixture(scope="module")
def summary(law: Path) -> pl.DataFrame:
    table = pl.read_parquet(law / "evaluation" / RUN / "summary.parquet")
    flow = (pl.col("model") == "flow") & (pl.col("protocol") == "clean")
    return table.filter(flow & (pl.col("gene_set") == "all"))


def row(summary: pl.DataFrame, metric: str) -> dict[str, float]:
    return summary.filter(pl.col("metric") == metric).row(0, named=True)


@pytest.mark.parametrize("null", ["constant", "color-ridge"])
def test_beats_null_beyond_the_paired_interval(summary: pl.DataFrame, null: str) -> None:
    gain = row(summary, f"pcc_minus:{null}")
    print(f"PCC minus {null}: {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}]")
    assert gain["low"] > 0


@pytest.mark.parametrize("other", ["ridge", "abmil"])
def test_not_below_a_baseline(summary: pl.DataFrame, other: str) -> None:
    gain = row(summary, f"pcc_minus:{other}")
    print(f"PCC minus {other}: {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}]")
    assert gain["high"] >= 0


def test_intervals_cover(law: Path) -> None:
    table = pl.read_parquet(law / "evaluation" / RUN / "calibration.parquet")
    pooled = table.filter(
        (pl.col("gene_set") == "all")
        & (pl.col("quantity") == "coverage")
        & (pl.col("within") == "pooled")
        & ((pl.col("nominal") - 0.9).abs() < 1e-9)
    )
    covered = pooled["covered"].item()
    print(f"90 % intervals cover {100 * covered:.1f} %")
    assert 0.85 <= covered <= 0.95


def test_share_of_what_is_attainable(law: Path, summary: pl.DataFrame) -> None:
    """The true conditional mean, scored like the model, bounds it from above."""
    scores = [
        np.mean(gene_metrics.pcc(fold.law.mean(fold.pi, fold.site), fold.measured)[0])
        for fold in folds_of(law)
    ]
    reached, attainable = row(summary, "pcc")["value"], float(np.mean(scores))
    print(f"PCC {reached:.3f} of {attainable:.3f} attainable: {100 * reached / attainable:.0f} %")
    assert 0.85 * attainable <= reached < attainable


def test_the_published_pairing_lets_a_memoriser_win(law: Path) -> None:
    """It knows no image: near zero under the clean pairing, high where test patients were seen."""
    table = pl.read_parquet(law / "leak_audit" / "audit.parquet")
    mean = table.filter(pl.col("fold").is_null() & (pl.col("gene_set") == "all"))
    values = {(r["pairing"], r["model"]): r for r in mean.iter_rows(named=True)}
    for key, found in sorted(values.items()):
        print(f"{key}: {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    clean, published = (values[pairing, "memoriser"] for pairing in ("clean", "published"))
    assert abs(clean["value"]) < 0.05
    assert published["value"] > 0.3
    assert clean["n_shared"] == 0 < published["n_shared"]
