"""Areas: a polygon, or none; a stranger's text ends quickly."""

from __future__ import annotations

import pytest
from slide2rna.slides.area import parse_area

SQUARE = "[[0, 0], [0, 9.5], [9, 9]]"


def test_a_polygon() -> None:
    found = parse_area(SQUARE)
    assert found is not None
    assert found.tolist() == [[0, 0], [0, 9.5], [9, 9]]


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "{}", "3", "[]", "[[0, 0], [1, 1]]", "[[0, 0], [0, 9], [9]]", "[[0], [0, 9], 9]",
        '[[0, 0], [0, 9], ["9", 9]]', "[[0, 0], [0, 9], [true, 9]]", "[[0, 0], [0, 9], [[9], 9]]",
        "[[0, 0], [0, 9], [NaN, 9]]", "[[0, 0], [0, 9], [1e400, 9]]", "[" * 200_000,
        f"[[0, 0], [0, 9], [{'9' * 400}, 9]]", f"[[0, 0], [0, 9], [{'9' * 5000}, 9]]",
        '{"a": ' * 100_000, "[[0, 0], [0, 9], [null, 9]]",
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_no_polygon(text: str) -> None:
    assert parse_area(text) is None
