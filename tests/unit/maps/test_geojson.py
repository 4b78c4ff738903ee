"""GeoJSON of maps: what QuPath's reader looks for, read back."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import openslide
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slide2rna.maps import geojson

# A gene and a gene set may have the same name.
LABELS = {("gene", "ERBB2"): "ERBB2", ("pathway", "ERBB2"): 'first "set" (GO:1)'}


def table(tiles: list[tuple[int, int]], size: int, values: np.ndarray) -> pl.DataFrame:
    """values (tiles, 2 names, mean and sd); NaN is no value."""
    rows = [
        {"x": x, "y": y, "size": size, "n_windows": 4, "kind": kind, "name": name}
        | {"mean": float(mean), "sd": float(sd)}
        for (x, y), own in zip(tiles, values, strict=True)
        for (kind, name), (mean, sd) in zip(LABELS, own, strict=True)
    ]
    return pl.DataFrame(rows).with_columns(pl.col("mean", "sd").fill_nan(None))


numbers = st.floats(-50, 50, allow_nan=False, width=32)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cells=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=12, unique=True
    ),
    size=st.integers(1, 600),
    origin=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    data=st.data(),
)
def test_read_back(
    tmp_path: Path,
    cells: list[tuple[int, int]],
    size: int,
    origin: tuple[int, int],
    data: st.DataObject,
) -> None:
    tiles = [(x * size, y * size) for x, y in cells]
    values = np.array(
        data.draw(st.lists(numbers, min_size=4 * len(tiles), max_size=4 * len(tiles)))
    )
    values = values.reshape(len(tiles), 2, 2)
    values[0, :, 0] = np.nan if data.draw(st.booleans()) else 1.5
    kept = [place for place in range(len(tiles)) if np.isfinite(values[place]).all()]
    path = tmp_path / "maps.geojson"
    assert geojson.write(table(tiles, size, values), LABELS, path, "a", origin) == len(kept)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == len(kept)
    for place, feature in zip(kept, found["features"], strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert feature["geometry"]["type"] == "Polygon"
        assert (len(ring), ring[0]) == (5, ring[-1])
        xy = np.array(ring[:-1])
        assert (xy.min(axis=0) + origin == tiles[place]).all()
        x, y = np.array(ring).T
        assert abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2 == size**2
        assert uuid.UUID(feature["id"]).version == 5
        record: dict[str, Any] = feature["properties"]
        assert record["objectType"] == "tile"
        assert all(isinstance(value, int | float) for value in record["measurements"].values())
        wanted = {
            f"{label}: {what}": values[place, row, column]
            for row, label in enumerate(LABELS.values())
            for column, what in enumerate(("mean", "sd"))
        } | {"windows": 4}
        assert record["measurements"] == pytest.approx(wanted, abs=1e-5)
    assert len({feature["id"] for feature in found["features"]}) == len(kept)


def test_ids_are_of_the_slide_and_the_place(tmp_path: Path) -> None:
    values = np.ones((2, 2, 2))
    ids = {}
    for slide, name in (("a", "1"), ("a", "2"), ("b", "3")):
        path = tmp_path / name
        geojson.write(table([(0, 0), (9, 0)], 9, values), LABELS, path, slide)
        ids[name] = [feature["id"] for feature in json.loads(path.read_text())["features"]]
    assert ids["1"] == ids["2"]
    assert not set(ids["1"]) & set(ids["3"])


def test_an_empty_map_is_still_a_collection(tmp_path: Path) -> None:
    values = np.full((1, 2, 2), np.nan)
    assert geojson.write(table([(0, 0)], 9, values), LABELS, tmp_path / "m", "a") == 0
    assert json.loads((tmp_path / "m").read_text())["features"] == []


def test_without_draws_there_may_be_no_sd(tmp_path: Path) -> None:
    values = np.ones((1, 2, 2))
    values[:, :, 1] = np.nan
    geojson.write(table([(0, 0)], 9, values), LABELS, tmp_path / "m", "a")
    (feature,) = json.loads((tmp_path / "m").read_text())["features"]
    assert set(feature["properties"]["measurements"]) == {
        *("ERBB2: mean", 'first "set" (GO:1): mean', "windows")
    }


class Bounded:
    """A slide that states the bounds of what was scanned, as MIRAX files do."""

    properties: ClassVar[dict[str, str]] = {}

    def __init__(self, path: str) -> None:
        pass

    @staticmethod
    def detect_format(path: str) -> str:
        return "mirax"

    def __enter__(self) -> Bounded:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.mark.parametrize(
    ("bounds", "origin"),
    [
        (("120", "340", "900", "800"), (120, 340)),
        ((), (0, 0)),
        (("120", "340"), (0, 0)),
        (("x", "340", "900", "800"), (0, 0)),
    ],
)
def test_qupath_starts_at_the_bounds(
    monkeypatch: pytest.MonkeyPatch, bounds: tuple[str, ...], origin: tuple[int, int]
) -> None:
    names = ("x", "y", "width", "height")
    stated = dict(zip((f"openslide.bounds-{name}" for name in names), bounds, strict=False))
    monkeypatch.setattr(Bounded, "properties", stated)
    monkeypatch.setattr(openslide, "OpenSlide", Bounded)
    assert geojson.qupath_origin("a.mrxs") == origin


def test_a_plain_picture_starts_at_its_corner(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no slide")
    assert geojson.qupath_origin(tmp_path / "a.jpg") == (0, 0)
