"""Chart of reliability: every level of every gene set, of the draws alone."""

from __future__ import annotations

from typing import Any

import chart_data
import polars as pl
import pytest
from slide2rna.report.figures import reliability_chart

LEVELS = (0.1, 0.5, 0.9)


def calibration() -> pl.DataFrame:
    rows = [
        {"gene_set": gene_set, "quantity": quantity, "within": within, "kind": kind}
        | {"nominal": level, "covered": level - off, "low": level - 0.05, "high": level + 0.05}
        for gene_set, off in (("all", 0.01), ("T50", 0.02), ("T20", 0.03))
        for quantity in ("coverage", "width")
        for within in ("pooled", "fold")
        for kind in ("draws", "conformal")
        for level in LEVELS[::-1]
    ]
    return pl.DataFrame(rows)


def of_set(spec: dict[str, Any], name: str) -> list[tuple[float, float]]:
    shown = chart_data.rows(spec, "covered")
    return [(row["nominal"], row["covered"]) for row in shown if row["set"] == name]


def test_files_have_the_levels_of_the_shown_sets() -> None:
    spec = reliability_chart.files(calibration(), ["all", "T50"])
    assert of_set(spec, "All genes") == [(0.1, 0.09), (0.5, 0.49), (0.9, 0.89)]
    assert of_set(spec, "T50") == [(0.1, 0.08), (0.5, 0.48), (0.9, 0.88)]
    assert of_set(spec, "T20") == []
    assert "params" not in spec


def test_the_page_has_every_set_and_a_legend_to_click() -> None:
    spec = reliability_chart.page(calibration(), ["all", "T50", "T20"])
    assert of_set(spec, "T20") == [(0.1, 0.07), (0.5, 0.47), (0.9, 0.87)]
    (picked,) = spec["params"]
    assert picked["bind"] == "legend"


def test_sets_lie_next_to_each_other_at_a_level() -> None:
    spec = reliability_chart.page(calibration(), ["all", "T50", "T20"])
    at_half = [row["dodged"] for row in chart_data.rows(spec, "covered") if row["nominal"] == 0.5]
    assert at_half == pytest.approx([0.494, 0.5, 0.506])
    alone = reliability_chart.files(calibration(), ["T50"])
    assert [row["dodged"] for row in chart_data.rows(alone, "covered")] == list(LEVELS)


def test_levels_without_coverage_are_left_out() -> None:
    table = calibration().with_columns(
        pl.when(pl.col("nominal") > 0.4).then(pl.col("covered")).alias("covered")
    )
    assert [level for level, _ in of_set(reliability_chart.files(table, ["all"]), "All genes")] == [
        0.5, 0.9,
    ]  # fmt: skip
