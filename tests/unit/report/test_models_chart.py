"""Chart of models: the table's numbers, in groups, with the floor of each gene set."""

from __future__ import annotations

import chart_data
import polars as pl
from slide2rna.report.figures import models_chart

VALUES = {"ridge": 0.2, "flow": 0.4, "constant": 0.0, "abmil": 0.3}


def summary(low: float | None = 0.1) -> pl.DataFrame:
    rows = [
        {"model": model, "gene_set": gene_set, "metric": metric, "value": value + shift}
        | {"low": low if low is None else value - low, "high": None if low is None else value + low}
        for gene_set, shift in (("all", 0.0), ("T50", 0.05), ("T20", 0.1))
        for model, value in VALUES.items()
        for metric in ("pcc", "pcc_floor", "crps")
    ]
    return pl.DataFrame(rows)


def test_each_panel_has_the_numbers_of_its_gene_set() -> None:
    spec = models_chart.files(summary(), "flow", ["all", "T20"])
    shown = chart_data.panels(spec, "model")
    assert {t: {r["model"]: r["value"] for r in rows} for t, rows in shown.items()} == {
        "All genes": VALUES,
        "T20": {model: round(value + 0.1, 5) for model, value in VALUES.items()},
    }
    kinds = {row["model"]: row["kind"] for row in shown["T20"]}
    assert kinds["flow"] == "evaluated model"
    assert kinds["constant"] == "null"


def test_page_and_files_have_the_same_layers() -> None:
    page = models_chart.page(summary(), "flow", ["all", "T50", "T20"])
    files = models_chart.files(summary(), "flow", ["all", "T20"])
    assert page["datasets"] == files["datasets"]
    (chosen,) = page["params"]
    assert chosen["bind"]["options"] == ["All genes", "T50", "T20"]
    assert "params" not in files
    for layer, first in zip(page["layer"], files["hconcat"][0]["layer"], strict=True):
        assert layer["mark"] == first["mark"]
        assert layer["encoding"] == first["encoding"]


def test_models_stand_in_groups_and_the_evaluated_one_is_bold() -> None:
    spec = models_chart.files(summary(), "flow", ["all", "T20"])
    domain = chart_data.domain(spec)
    assert [name.strip() for name in domain] == [
        "flow", "", "abmil", "", "ridge", "", "constant",
    ]  # fmt: skip
    axes = [panel["layer"][-1]["encoding"]["y"]["axis"] for panel in spec["hconcat"]]
    assert axes[0]["labelFontWeight"]["condition"]["test"] == 'datum.value === "flow"'
    assert [axis["labels"] for axis in axes] == [True, False]


def test_the_floor_is_the_evaluated_models() -> None:
    spec = models_chart.files(summary(), "flow", ["all"])
    tables = [data for data in spec["datasets"].values() if "view" in data[0]]
    (floors,) = [data for data in tables if "model" not in data[0]]
    assert [row["view"] for row in floors] == ["All genes", "T50", "T20"]
    assert all((row["low"], row["high"]) == (0.3, 0.5) for row in floors)


def test_without_intervals_there_is_no_floor() -> None:
    spec = models_chart.files(summary(None), "flow", ["all"])
    colors = spec["hconcat"][0]["layer"][-1]["encoding"]["color"]["scale"]["domain"]
    assert "noise floor, 5–95 %" not in colors
    assert len(colors) == 4
