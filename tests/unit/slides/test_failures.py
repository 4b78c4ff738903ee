"""One slide's lack of memory is its own failure; the others go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide2rna.core import config
from slide2rna.core.errors import SlideError
from slide2rna.features import extract, provided, registry
from slide2rna.slides import failures, plain_image, reader, tiles
from slide_factory import picture, shard, write_slide


def short_of_memory(kind: type, method: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the method fail for the slide of this name, as numpy and Pillow do."""
    real = getattr(kind, method)

    def fail(self: reader.Slide, *arguments: object) -> object:
        if self.path.stem == name:
            raise MemoryError
        return real(self, *arguments)

    monkeypatch.setattr(kind, method, fail)


def test_tiles_and_features_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(512, 512)
    slides = {name: write_slide(tmp_path / f"{name}.svs", pixels) for name in "abc"}
    table = shard(tmp_path / "s.parquet", slides)
    settings = config.defaults("tiles", tile_px=64)
    with monkeypatch.context() as patched:
        short_of_memory(reader.Slide, "overview", "a", patched)
        found = tiles.tile_shard(table, tmp_path / "t", tmp_path / "t.parquet", settings, 1)
    assert found["status"].to_list() == ["failed", "ok", "ok"]
    assert "memory" in found["reason"][0]
    short_of_memory(reader.Slide, "read", "b", monkeypatch)
    out = (tmp_path / "t", tmp_path / "t.parquet", tmp_path / "f", tmp_path / "f.parquet")
    found = extract.extract_shard(table, *out, registry.ColorEncoder(), settings, 1)
    assert found["status"].to_list() == ["failed", "failed", "ok"]
    assert "memory" in found["reason"][1]


def test_own_features_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, level: str) -> None:
        raise MemoryError

    monkeypatch.setattr(provided, "read", fail)
    table = shard(tmp_path / "s.parquet", {"a": None, "b": None})
    found = provided.check_provided_features(
        table, tmp_path, tmp_path / "out", tmp_path / "m.parquet"
    )
    assert found["status"].to_list() == ["failed"] * 2


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), failures.within_memory("a"):
        raise KeyError("a")


def test_an_overview_that_would_take_hours_states_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "a.svs", picture(512, 512))
    monkeypatch.setattr(reader, "MAX_OVERVIEW_PX", 100)
    with reader.open_slide(path) as slide, pytest.raises(SlideError, match="at most"):
        slide.overview(0.5)


def test_a_deep_page_is_not_decoded_beyond_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = picture(64, 64).astype(np.uint16) << 8
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", metadata=None)
    plain_image.check_channels(tmp_path / "a.tif")
    monkeypatch.setattr(plain_image, "free_bytes", lambda: 64 * 64 * plain_image.BYTES_PER_PX - 1)
    with pytest.raises(SlideError, match="memory"):
        plain_image.check_channels(tmp_path / "a.tif")
