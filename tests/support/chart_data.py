"""Data that a chart's specification holds, and those that each of its panels shows."""

from __future__ import annotations

import json
from typing import Any

Rows = list[dict[str, Any]]


def rows(spec: dict[str, Any], key: str) -> Rows:
    """Return the inline rows that have this key."""
    (found,) = [data for data in spec["datasets"].values() if data and key in data[0]]
    return list(found)


def panels(spec: dict[str, Any], key: str) -> dict[str, Rows]:
    """Return the rows with this key that each panel keeps, by the panel's title."""
    shown = {}
    for panel in spec["hconcat"]:
        (mark,) = [one for one in panel["layer"] if one["mark"]["type"] == "point"]
        kept = mark["transform"][0]["filter"].removeprefix("datum.view === ")
        title = "\n".join(panel["title"])
        shown[title] = [row for row in rows(spec, key) if row["view"] == json.loads(kept)]
    return shown


def domain(spec: dict[str, Any]) -> list[str]:
    """Return the rows of a chart's first panel from top to bottom, empty ones included."""
    first = spec.get("hconcat", [spec])[0]
    (mark,) = [one for one in first["layer"] if one["mark"]["type"] == "point"]
    return list(mark["encoding"]["y"]["scale"]["domain"])
