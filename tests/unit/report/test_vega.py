"""Charts' files: the same bytes from the same data, with the same numbers in every panel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import altair as alt
import pytest
from PIL import Image
from slide2rna.report.figures import vega

ROWS = [
    {"name": "a", "kind": "first", "value": 0.123456789, "low": 0.1, "high": 0.2},
    {"name": "b", "kind": "second", "value": -0.3, "low": None, "high": None},
]
KINDS = {"x": ("first", "#123456", "square"), "y": ("second", "#abcdef", "circle"),
         "z": ("third", "#000000", "diamond")}  # fmt: skip


def chart() -> alt.LayerChart:
    color, shape = vega.kind_channels(KINDS, {"first", "second"})
    y = vega.row_axis("name", vega.grouped_rows(["a", "b"], ["one", "other"]), alt.Axis())
    base = alt.Chart(vega.inline(ROWS)).encode(y=y, color=color)
    return alt.LayerChart(layer=[vega.zero_line("x"), *vega.interval_layers(base, shape, "PCC")])


def save(folder: Path) -> Path:
    panels = {"Left": chart(), "Two\nlines": chart()}
    return vega.save(vega.for_files(panels, 200, 100), folder, "name")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("figures"))


def test_files_are_the_same_each_time_and_without_ids(saved: Path, tmp_path: Path) -> None:
    """Ids count up within a process, and a second file would have others."""
    again = vega.save(
        vega.for_files({"Left": chart(), "Two\nlines": chart()}, 200, 100), tmp_path, "name"
    )
    for path in (saved, saved.with_suffix(".svg")):
        assert path.read_bytes() == again.with_suffix(path.suffix).read_bytes()
    svg = saved.with_suffix(".svg").read_text()
    assert 'id="' not in svg
    assert "clip" not in svg


def test_the_picture_has_the_size_of_the_drawing_at_150_dpi(saved: Path) -> None:
    svg = saved.with_suffix(".svg").read_text()
    width, height = map(float, re.search(r'width="(\d+)" height="(\d+)"', svg).groups())  # type: ignore[union-attr]
    with Image.open(saved) as image:
        assert image.mode == "RGB"
        assert image.size == (pytest.approx(1.5 * width, abs=1), pytest.approx(1.5 * height, abs=1))
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert len(image.getcolors(1 << 20)) > 5


def test_titles_names_and_kinds_are_text(saved: Path) -> None:
    texts = re.findall(r">([^<>]+)<", saved.with_suffix(".svg").read_text())
    assert {"Left", "Two", "lines", "a", "b", "first", "second", "PCC"} <= set(texts)
    assert "third" not in texts


def test_a_value_without_interval_is_a_mark_alone(saved: Path) -> None:
    svg = saved.with_suffix(".svg").read_text()
    # Per panel a rule at zero and one interval, and two marks.
    assert len(re.findall(r'<line [^>]*stroke-width="2.5"', svg)) == 2


def test_groups_are_apart() -> None:
    rows = vega.grouped_rows(["a", "b", "c", "d"], ["x", "x", "y", "z"])
    assert [name.strip() for name in rows] == ["a", "b", "", "c", "", "d"]
    assert len(set(rows)) == 6


def test_numbers_are_rounded_and_rows_stay() -> None:
    values = vega.inline(ROWS).to_dict()["values"]
    assert values[0] == ROWS[0] | {"value": 0.12346}
    assert values[1] == ROWS[1]


def test_the_page_chooses_a_view_and_names_no_address() -> None:
    chosen, keep = vega.chooser(["All genes", 'T "50"'], "Genes")
    spec = vega.for_page(chart().transform_filter(keep).add_params(chosen), 60)
    (param,) = spec["params"]
    assert param["bind"]["options"] == ["All genes", 'T "50"']
    assert param["value"] == "All genes"
    assert spec["width"] == "container"
    # A height in steps would warn in the page's console.
    assert spec["height"] == 60
    assert "://" not in json.dumps(spec)
    assert json.loads(vega.view_filter('T "50"').removeprefix("datum.view === ")) == 'T "50"'


def test_text_in_a_chart_can_not_end_its_script() -> None:
    text = vega.as_json({"title": "</script><b>"})
    assert "<" not in text
    assert json.loads(text) == {"title": "</script><b>"}


def test_the_library_stays_small_and_inside_its_script() -> None:
    text = vega.library()
    assert 500_000 < len(text) < 1_000_000
    assert "</script" not in text
