"""Charts hold the tables' own numbers, need nothing from outside, and compile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert
from slide2rna.evaluation.scoring import labels
from slide2rna.report.figures import draw_all, interactive
from slide2rna.report.sections import ablations, page_sections
from written_reports import folder, full, load

__all__ = ["folder", "full"]  # the fixtures


@pytest.fixture(scope="module")
def specs(full: Path) -> dict[str, Any]:
    run = load(full, "ablations")
    return draw_all.charts(run, page_sections.build(run))


def rows(spec: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The inline data whose rows have this key."""
    (found,) = [data for data in spec["datasets"].values() if data and key in data[0]]
    return found


def test_every_chart_compiles_and_names_no_address(specs: dict[str, Any]) -> None:
    assert set(specs) == {"models", "gene_nulls", "reliability", "ablations"}
    for spec in specs.values():
        assert "://" not in json.dumps(spec)
        # The page's script gives the genes; the compiler must know that they come.
        known = spec | {"datasets": spec["datasets"] | {"genes": [], "hits": []}}
        compiled = vl_convert.vegalite_to_vega(known)
        assert compiled["marks"]


def test_models_have_the_tables_numbers_on_every_gene_set(
    specs: dict[str, Any], full: Path
) -> None:
    run = load(full)
    table = run.summary.filter((pl.col("metric") == "pcc") & pl.col("value").is_not_null())
    shown = rows(specs["models"], "r")
    order = labels.ordered_models(run.summary, run.model)
    assert len(shown) == table.filter(pl.col("model").is_in(order)).height
    found = {(row["model"], row["set"]): row for row in shown}
    for name, gene_set, value, low, high in table.select(
        "model", "gene_set", "value", "low", "high"
    ).iter_rows():
        row = found[name, labels.gene_set_title(gene_set)]
        assert (row["r"], row["low"], row["high"]) == pytest.approx((value, low, high), abs=1e-5)
    (chosen,) = specs["models"]["params"]
    assert chosen["bind"]["options"] == [labels.gene_set_title(name) for name in run.gene_sets]


def test_reliability_has_every_level_of_every_set(specs: dict[str, Any], full: Path) -> None:
    table = (
        load(full).tables["calibration"].filter(quantity="coverage", within="pooled", kind="draws")
    )
    shown = rows(specs["reliability"], "covered")
    assert len(shown) == table.filter(pl.col("covered").is_not_null()).height > 0
    assert {row["set"] for row in shown} == {labels.gene_set_title(s) for s in table["gene_set"]}


def test_ablations_show_points_and_draws_of_every_set(specs: dict[str, Any], full: Path) -> None:
    run = load(full, "ablations")
    found = ablations.ablations(run.extra["ablations"])
    assert found is not None
    shown = {(row["view"], row["variant"]): row for row in rows(specs["ablations"], "variant")}
    drawn = shown["All genes, mean of draws", "s-3"]
    assert drawn["value"] == pytest.approx(0.03)
    assert drawn["kind"] == "better than base"
    assert ("All genes, mean of draws", "adjacent") not in shown
    assert shown["All genes, point", "adjacent"]["kind"] == "worse than base"


def test_axes_of_genes_hold_every_gene(specs: dict[str, Any], full: Path) -> None:
    genes = load(full).tables["genes"]
    domain = specs["gene_nulls"]["layer"][-1]["encoding"]["y"]["scale"]["domain"]
    both = genes.select("r", "r_color-ridge").drop_nulls().to_numpy()
    assert domain[0] <= both.min()
    assert domain[1] >= both.max()


def test_text_in_a_chart_can_not_end_its_script() -> None:
    text = interactive.as_json({"title": "</script><b>"})
    assert "<" not in text
    assert json.loads(text) == {"title": "</script><b>"}


def test_the_library_stays_small_and_inside_its_script() -> None:
    text = interactive.library()
    assert 500_000 < len(text) < 1_000_000
    assert "</script" not in text
