"""Chart of ablations: the section's differences, of points and of draws."""

from __future__ import annotations

from pathlib import Path

import chart_data
import polars as pl
import pytest
from slide2rna.report.figures import ablations_chart
from slide2rna.report.sections import ablations
from slide2rna.report.sections.ablations import AblationSection

# Group, variant, difference of the point, difference of the mean of draws.
VARIANTS = [
    ("base", "base", None, None),
    ("pathways", "adjacent", -0.03, None),
    ("pathways", "go-mf", -0.004, -0.02),
    ("guidance", "s-3", 0.0, 0.03),
]


def table(draws: bool = True) -> pl.DataFrame:
    metrics = ["pcc_minus:base"] + ["pcc_draw_mean_minus:base"] * draws
    rows = [
        {"group": group, "variant": variant, "gene_set": gene_set, "metric": metric}
        | {"value": value, "low": value - 0.01, "high": value + 0.01, "note": ""}
        for gene_set in ("all", "T50")
        for group, variant, *values in VARIANTS
        for metric, value in zip(["pcc", *metrics], [0.4, *values][: len(metrics) + 1], strict=True)
        if value is not None
    ]
    return pl.DataFrame(rows)


def section(draws: bool = True) -> AblationSection:
    found = ablations.ablations(table(draws))
    assert found is not None
    return found


def test_files_have_a_panel_per_kind_and_gene_set() -> None:
    shown = chart_data.panels(ablations_chart.files(section()), "variant")
    assert list(shown) == [
        "Point\nAll genes", "Point\nT50", "Mean of draws\nAll genes", "Mean of draws\nT50",
    ]  # fmt: skip
    points, drawn = (
        {row["variant"]: (row["value"], row["kind"]) for row in shown[f"{kind}\nT50"]}
        for kind in ("Point", "Mean of draws")
    )
    assert points == {
        "adjacent": (-0.03, "worse than base"),
        "go-mf": (-0.004, "unclear"),
        "s-3": (0.0, "unclear"),
    }
    assert drawn == {"go-mf": (-0.02, "worse than base"), "s-3": (0.03, "better than base")}


def test_without_draws_there_are_points_alone() -> None:
    assert list(chart_data.panels(ablations_chart.files(section(False)), "variant")) == [
        "All genes", "T50",
    ]  # fmt: skip
    (chosen,) = ablations_chart.page(section(False))["params"]
    assert chosen["bind"]["options"] == ["All genes, point", "T50, point"]


def test_page_and_files_have_the_same_layers() -> None:
    page, files = ablations_chart.page(section()), ablations_chart.files(section())
    assert page["datasets"] == files["datasets"]
    (chosen,) = page["params"]
    assert chosen["bind"]["options"] == [
        "All genes, point", "All genes, mean of draws", "T50, point", "T50, mean of draws",
    ]  # fmt: skip
    for layer, first in zip(page["layer"], files["hconcat"][0]["layer"], strict=True):
        assert (layer["mark"], layer["encoding"]) == (first["mark"], first["encoding"])


def test_groups_are_apart_and_the_base_has_no_row() -> None:
    domain = chart_data.domain(ablations_chart.files(section()))
    assert [name.strip() for name in domain] == ["adjacent", "go-mf", "", "s-3"]


def test_the_table_is_drawn_in_its_folder(tmp_path: Path) -> None:
    ablations_chart.write_ablations(table(), tmp_path)
    svg = (tmp_path / "ablations.svg").read_text()
    for text in (">go-mf<", ">Mean of draws<", ">better than base<"):
        assert text in svg
    assert (tmp_path / "ablations.png").stat().st_size > 4000


def test_a_table_without_rows_can_not_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        ablations_chart.write_ablations(table().clear(), tmp_path)
