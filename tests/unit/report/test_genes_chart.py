"""Chart of genes: axes that hold every gene, and data that the page's script fills in."""

from __future__ import annotations

import json

import polars as pl
import pytest
import vl_convert
from slide2rna.report.figures import genes_chart


@pytest.fixture
def genes() -> pl.DataFrame:
    return pl.DataFrame({"r": [-0.23, 0.71, None], "r_constant": [0.1, -0.31, 0.99]})


def test_axes_hold_every_gene_with_both_numbers(genes: pl.DataFrame) -> None:
    spec = genes_chart.page(genes, "flow", "constant")
    for axis in ("x", "y"):
        domain = spec["layer"][-1]["encoding"][axis]["scale"]["domain"]
        assert domain == pytest.approx([-0.35, 0.75])


def test_it_compiles_with_the_data_of_the_page(genes: pl.DataFrame) -> None:
    spec = genes_chart.page(genes, "flow", "constant")
    assert "://" not in json.dumps(spec)
    filled = spec | {"datasets": spec["datasets"] | {"genes": [], "hits": []}}
    assert vl_convert.vegalite_to_vega(filled)["marks"]


def test_no_gene_with_both_numbers_leaves_axes_from_0_to_1(genes: pl.DataFrame) -> None:
    spec = genes_chart.page(genes.clear(), "flow", "constant")
    assert spec["layer"][-1]["encoding"]["x"]["scale"]["domain"] == [0, 1]
