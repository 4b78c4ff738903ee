"""Damage to a draws file is noticed in its numbers, its names, and by lost files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from slide2rna.core.errors import StageError
from slide2rna.sampling import draw_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    group = zarr.create_group(tmp_path / "fold-0.zarr", zarr_format=3)
    for name in ("point", "sd"):
        array = group.create_array(name, shape=(2, 3), chunks=(1, 3), dtype="float32")
        array[:] = np.arange(1, 7).reshape(2, 3)
    group.attrs.update({"genes": ["A", "B", "C"], "fold": 0})
    draw_store.close(tmp_path / "fold-0.zarr")
    return tmp_path / "fold-0.zarr"


def test_a_sealed_file_opens_and_is_sealed_again_after_a_change(path: Path) -> None:
    assert draw_store.is_intact(path) is True
    assert draw_store.open_draws(path).attrs["genes"] == ["A", "B", "C"]
    zarr.open_group(path, mode="r+").attrs["seconds"] = 3
    with pytest.raises(StageError, match=r"zarr\.json: damaged or edited"):
        draw_store.open_draws(path)
    draw_store.close(path)
    assert draw_store.open_draws(path).attrs["seconds"] == 3


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("zarr.json", b'"B"', b'"D"'), ("sd/zarr.json", b"float32", b"float16")],
)
def test_changed_metadata_are_noticed(path: Path, file: str, old: bytes, new: bytes) -> None:
    content = (path / file).read_bytes()
    (path / file).write_bytes(content.replace(old, new))
    with pytest.raises(StageError, match=r"damaged or edited.*rerun snakemake"):
        draw_store.open_draws(path)


def test_a_lost_chunk_is_counted(path: Path) -> None:
    (path / ".snakemake_timestamp").touch()
    draw_store.check_count(path, draw_store.open_draws(path))
    (path / "sd/c/1/0").unlink()
    with pytest.raises(StageError, match="3 of 4 files"):
        draw_store.check_count(path, draw_store.open_draws(path))


def test_an_unreadable_chunk_is_an_error_of_the_file(path: Path) -> None:
    (path / "sd/c/1/0").write_bytes(b"junk")
    group = draw_store.open_draws(path)
    with pytest.raises(StageError, match="a chunk is damaged"), draw_store.reading(path):
        np.asarray(group["sd"][:])  # type: ignore[index]


def test_a_file_without_seal_is_read(path: Path) -> None:
    del zarr.open_group(path, mode="r+").attrs["seal"]
    assert draw_store.is_intact(path) is None
    assert draw_store.open_draws(path)["point"].shape == (2, 3)  # type: ignore[union-attr]
    (path / "zarr.json").write_text("{")
    with pytest.raises(StageError, match="not a readable draws file"):
        draw_store.open_draws(path)
