"""The words of reliability follow their rule, row by row."""

from __future__ import annotations

import polars as pl
import pytest
from slide2rna.evaluation.scoring import comparison
from slide2rna.package import reliability

GENE = {"r": 0.5, "r_low": 0.3, "fdr": 0.01}
GENE |= {"r_site-mean": 0.1, "fdr_minus_site-mean": 0.01}
GENE |= {"r_color-ridge": 0.1, "fdr_minus_color-ridge": 0.01}
GENE |= {"r_permuted": 0.0, "fdr_minus_permuted": 0.01, "r_ridge": 0.5, "fdr_minus_ridge": 0.9}
PATHWAY = {"r": 0.5, "r_low": 0.3, "r_constant": 0.0, "r_site-mean": 0.2, "r_color-ridge": 0.1}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "good"),  # the ridge looks at the slide's tiles, so it needn't be beaten
        ({"fdr_minus_site-mean": 0.05}, "weak"),
        ({"fdr_minus_color-ridge": None}, "weak"),
        ({"fdr_minus_permuted": 0.2}, "weak"),
        ({"fdr": 0.05}, "none"),
        ({"r_low": 0.0}, "none"),
        ({"r": None, "r_low": None}, "unknown"),
        ({"r": float("nan")}, "unknown"),
        ({"fdr": None}, "unknown"),
    ],
)
def test_genes(changes: dict[str, float | None], word: str) -> None:
    table = pl.DataFrame([GENE | changes], schema=dict.fromkeys(GENE, pl.Float64))
    assert reliability.rate_genes(table, 20).to_list() == [word]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "good"),
        ({"r_site-mean": 0.3}, "weak"),
        ({"r_color-ridge": None}, "weak"),
        ({"r_low": -0.01}, "none"),
        ({"r": None, "r_low": None}, "unknown"),
    ],
)
def test_pathways(changes: dict[str, float | None], word: str) -> None:
    table = pl.DataFrame([PATHWAY | changes], schema=dict.fromkeys(PATHWAY, pl.Float64))
    assert reliability.rate_pathways(table, 20).to_list() == [word]


def test_few_test_patients_make_nothing_good() -> None:
    assert reliability.FEWEST_PATIENTS == comparison.MIN_PATIENTS
    few = reliability.FEWEST_PATIENTS - 1
    assert reliability.rate_genes(pl.DataFrame([GENE]), few).to_list() == ["weak"]
    assert reliability.rate_pathways(pl.DataFrame([PATHWAY]), few).to_list() == ["weak"]
    assert str(reliability.FEWEST_PATIENTS) in reliability.GENE_RULE


def test_a_null_that_was_never_fitted_needs_no_beating() -> None:
    """Cohorts of one site have no site mean."""
    table = pl.DataFrame([GENE]).drop("r_site-mean", "fdr_minus_site-mean")
    assert reliability.rate_genes(table, 20).to_list() == ["good"]
    unfair = pl.DataFrame([GENE]).drop("fdr_minus_color-ridge")
    assert reliability.rate_genes(unfair, 20).to_list() == ["weak"]
