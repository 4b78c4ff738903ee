"""Figures of a run: which charts the page gets, and their numbers, which are the tables'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chart_data
import polars as pl
import pytest
import vl_convert
from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import draw_all
from slide2rna.report.sections import page_sections
from written_reports import folder, full, load

__all__ = ["folder", "full"]  # the fixtures


@pytest.fixture(scope="module")
def specs(full: Path) -> dict[str, Any]:
    run = load(full, "ablations")
    return draw_all.charts(run, page_sections.build(run))


def test_every_chart_compiles_and_names_no_address(specs: dict[str, Any]) -> None:
    assert set(specs) == {"models", "gene_nulls", "reliability", "ablations"}
    for spec in specs.values():
        assert "://" not in json.dumps(spec)
        # The page's script gives the genes; the compiler must know that they come.
        filled = spec | {"datasets": spec["datasets"] | {"genes": [], "hits": []}}
        assert vl_convert.vegalite_to_vega(filled)["marks"]


def test_models_have_the_tables_numbers_on_every_gene_set(
    specs: dict[str, Any], full: Path
) -> None:
    run = load(full)
    table = run.summary.filter((pl.col("metric") == "pcc") & pl.col("value").is_not_null())
    shown = chart_data.rows(specs["models"], "model")
    order = labels.ordered_models(run.summary, run.model)
    assert len(shown) == table.filter(pl.col("model").is_in(order)).height
    by_model = {(row["model"], row["view"]): row for row in shown}
    for name, gene_set, value, low, high in table.select(
        "model", "gene_set", "value", "low", "high"
    ).iter_rows():
        row = by_model[name, labels.gene_set_title(gene_set)]
        assert (row["value"], row["low"], row["high"]) == pytest.approx(
            (value, low, high), abs=1e-5
        )


def test_reliability_has_every_level_of_every_set(specs: dict[str, Any], full: Path) -> None:
    table = load(full).tables["calibration"]
    table = table.filter(quantity="coverage", within="pooled", kind="draws")
    shown = chart_data.rows(specs["reliability"], "covered")
    assert len(shown) == table.filter(pl.col("covered").is_not_null()).height > 0
    assert {row["set"] for row in shown} == {labels.gene_set_title(s) for s in table["gene_set"]}


def test_each_chart_has_its_files(specs: dict[str, Any], full: Path) -> None:
    for name in specs:
        for suffix in ("png", "svg"):
            assert (full / f"report/figures/{name}.{suffix}").stat().st_size > 4000, name
