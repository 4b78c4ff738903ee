"""Tiling: the mask on drawn slides, the grid in closed form, resuming, and every bad slide."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slide2rna.core import config
from slide2rna.core.errors import SlideError, StageError
from slide2rna.slides import tiles
from slide2rna.slides.reader import Slide, open_slide
from slide2rna.slides.tissue import tissue_mask
from slide2rna.storage.stamps import slide_stamp
from slide_factory import PENS, break_header, picture, shard, write_slide

SETTINGS = config.defaults("tiles")


def ellipse(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("t") / "good.svs", picture())


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("tint", [(1, 1, 1), (0.95, 0.89, 0.95), (1, 0.99, 0.93)])
def test_mask_is_the_tissue_on_any_glass(tint: tuple[float, float, float]) -> None:
    rgb = picture(400, 400)[::2, ::2] * np.array(tint)
    assert dice(tissue_mask(rgb.astype(np.uint8), 8), ellipse(200, 200)) > 0.96


def test_empty_and_full_slides() -> None:
    assert not tissue_mask(picture(256, 256, tissue=False), 8).any()
    assert not tissue_mask(np.full((64, 64, 3), 255, np.uint8), 8).any()
    assert not tissue_mask(np.zeros((64, 64, 3), np.uint8), 8).any()
    full = picture(400, 400)[160:240, 140:260]  # inside the ellipse: dark nuclei and pale stroma
    assert tissue_mask(full, 8).mean() > 0.99


@pytest.mark.parametrize("pen", sorted(PENS))
def test_ink_is_no_tissue(pen: str) -> None:
    rgb = picture(512, 512, pen=pen)[::2, ::2]
    mask = tissue_mask(rgb, 8)
    assert not mask[16:32, 64:192].any()
    assert dice(mask, ellipse(256, 256)) > 0.95


def test_dense_blue_nuclei_are_tissue() -> None:
    rgb = picture(200, 200, tissue=False)
    rgb[50:150, 50:150] = (83, 88, 142)  # hue 235, as dense tumour on real sections
    assert tissue_mask(rgb, 8)[55:145, 55:145].all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 6.0))
def test_box_means_equal_the_plain_sum(seed: int, edge: float) -> None:
    """Oracle: every pixel's covered area, one by one."""
    rng = np.random.default_rng(seed)
    image = rng.random((9, 11))
    x, y = rng.uniform(0, 11 - edge), rng.uniform(0, 9 - edge)
    total = 0.0
    for i in range(9):
        for j in range(11):
            wide = max(0.0, min(j + 1, x + edge) - max(j, x))
            high = max(0.0, min(i + 1, y + edge) - max(i, y))
            total += image[i, j] * wide * high
    found = tiles.box_means(image, np.array([x]), np.array([y]), edge)
    assert found[0] == pytest.approx(total / edge**2, abs=1e-9)


@pytest.mark.parametrize(
    ("mpp", "size", "level"),
    [(0.5, 256, 0), (0.25, 512, 0), (0.125, 1024, 1), (0.499, 257, 0), (0.69, 186, 0)],
)
def test_grid_at_the_target_resolution(good: Path, mpp: float, size: int, level: int) -> None:
    """Level-0 edge = tile_px * mpp / mpp0; 0.125 um/px has a 0.5 um/px level, 0.25 has none."""
    with open_slide(good, mpp) as slide:
        found = tiles.tile_slide(slide, SETTINGS | {"max_background": 0.7}, 1, "s")
    table = found.table
    assert found.n_candidates == (2048 // size) ** 2
    assert set(table["size"]) == {size}
    assert set(table["level"]) == {level}
    assert (table["x"] % size == 0).all()
    assert (table["y"] % size == 0).all()
    assert table.select("x", "y").is_unique().all()
    assert table["x"].max() + size <= 2048
    assert table.equals(table.sort("y", "x"))
    assert (table["tissue"] >= 0.3).all()


def test_tiles_are_those_inside_the_tissue(good: Path) -> None:
    with open_slide(good) as slide:
        table = tiles.tile_slide(slide, SETTINGS | {"tile_px": 128}, 1, "s").table
    share = ellipse(2048, 2048).reshape(16, 128, 16, 128).mean((1, 3))
    sure = {(x * 128, y * 128) for y, x in np.argwhere(share > 0.85)}
    never = {(x * 128, y * 128) for y, x in np.argwhere(share < 0.75)}
    found = set(table.select("x", "y").rows())
    assert sure <= found
    assert not never & found


def test_no_level_0_pixel_is_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    read = Slide.read

    def spy(self: Slide, x: int, y: int, level: int, width: int, height: int) -> Image.Image:
        levels.append(level)
        return read(self, x, y, level, width, height)

    monkeypatch.setattr(Slide, "read", spy)
    with open_slide(good) as slide:
        tiles.tile_slide(slide, SETTINGS, 1, "s")
    assert set(levels) == {2}


def test_choice_is_seeded_by_slide(good: Path) -> None:
    few = SETTINGS | {"tile_px": 64, "max_tiles": 20}

    def choose(seed: int, name: str) -> pl.DataFrame:
        with open_slide(good) as slide:
            return tiles.tile_slide(slide, few, seed, name).table

    one = choose(1, "a")
    assert one.height == 20
    assert one.equals(choose(1, "a"))
    assert not one.equals(choose(1, "b"))
    assert not one.equals(choose(2, "a"))
    assert one.equals(one.sort("y", "x"))


def test_flat_tiles_are_dropped(tmp_path: Path) -> None:
    pixels = np.full((1024, 1024, 3), (243, 242, 244), np.uint8)
    pixels[256:768, 256:768] = (228, 160, 195)  # tissue colour without any structure
    pixels[256:512, 256:512] = picture(1024, 1024)[384:640, 384:640]
    path = write_slide(tmp_path / "flat.svs", pixels)
    with open_slide(path) as slide:
        table = tiles.tile_slide(slide, SETTINGS, 1, "s").table
        loose = tiles.tile_slide(slide, SETTINGS | {"min_contrast": 0.0}, 1, "s").table
    assert table.select("x", "y").rows() == [(256, 256)]
    assert loose.height == 4


def test_area_keeps_tiles_whose_centre_lies_in_it(good: Path) -> None:
    area = json.dumps([[512, 768], [1536, 768], [1536, 1280], [512, 1280]])
    with open_slide(good) as slide:
        found = tiles.tile_slide(slide, SETTINGS, 1, "s", area)
        assert found.n_candidates == 8
        rows = found.table.select("x", "y").rows()
        assert rows == [(x, y) for y in (768, 1024) for x in range(512, 1536, 256)]
        for wrong in ("nonsense", "[[1, 2]]", "[1, 2, 3]", '{"x": 1}'):
            with pytest.raises(SlideError, match="polygon"):
                tiles.tile_slide(slide, SETTINGS, 1, "s", wrong)


def test_too_little_tissue(tmp_path: Path, good: Path) -> None:
    empty = write_slide(tmp_path / "empty.svs", picture(1024, 1024, tissue=False))
    with open_slide(empty) as slide, pytest.raises(SlideError, match=r"tissue.*0 of 16"):
        tiles.tile_slide(slide, SETTINGS, 1, "s")
    with open_slide(good) as slide, pytest.raises(SlideError, match=r"tiles\.min_tiles"):
        tiles.tile_slide(slide, SETTINGS | {"min_tiles": 1000}, 1, "s")
    tiny = tmp_path / "tiny.png"
    Image.fromarray(picture(100, 100)).save(tiny)
    with open_slide(tiny, 0.5) as slide, pytest.raises(SlideError, match="0 of 0"):
        tiles.tile_slide(slide, SETTINGS, 1, "s")


def run(folder: Path, table: Path, **changes: object) -> pl.DataFrame:
    out = folder / "tiles"
    return tiles.tile_shard(table, out, out / "shard-0.parquet", SETTINGS | changes, 1)


def test_shard_goes_on_after_bad_slides(tmp_path: Path, good: Path) -> None:
    small = picture(512, 512)
    slides = {
        "broken": break_header(write_slide(tmp_path / "broken.svs", small)),
        "empty": write_slide(tmp_path / "empty.svs", picture(512, 512, tissue=False)),
        "good": good,
        "none": None,
        "nompp": write_slide(tmp_path / "nompp.svs", small, mpp=None),
        "oddmpp": write_slide(tmp_path / "oddmpp.svs", small, mpp=40),
    }
    table = shard(tmp_path / "shard-0.parquet", slides)
    found = run(tmp_path, table)
    assert found["slide_id"].to_list() == sorted(slides)
    status = dict(found.select("slide_id", "status").rows())
    assert status == {name: "ok" if name == "good" else "failed" for name in slides}
    reasons = found.filter(pl.col("status") == "failed")["reason"]
    assert reasons.str.contains(";").all()  # cause and remedy
    left = {path.name for path in (tmp_path / "tiles").iterdir()}
    files = ("good.jpg", "good.json", "good.mask.png", "good.parquet", "shard-0.parquet")
    assert left == set(files)
    good_row = found.row(by_predicate=pl.col("slide_id") == "good", named=True)
    assert good_row["n_tiles"] == pl.read_parquet(tmp_path / "tiles/good.parquet").height
    assert (good_row["mpp"], good_row["mpp_source"], good_row["width_px"]) == (0.5, "slide", 2048)
    assert found.equals(pl.read_parquet(tmp_path / "tiles/shard-0.parquet"))


def test_earlier_failures_are_repeated(tmp_path: Path, good: Path) -> None:
    reasons = ["download: gone", None]
    table = shard(
        tmp_path / "s.parquet", {"a": None, "b": good}, status=["failed", "ok"], reason=reasons
    )
    found = run(tmp_path, table)
    assert found["status"].to_list() == ["failed", "ok"]
    assert found["reason"].to_list() == reasons


def test_a_slide_that_goes_away_stops_the_shard_and_nothing_else(
    tmp_path: Path, good: Path
) -> None:
    lost = tmp_path / "lost.svs"
    table = shard(tmp_path / "shard-0.parquet", {"a": good, "lost": lost, "z": good})
    with pytest.raises(StageError, match="lost;"):
        run(tmp_path, table)
    assert not (tmp_path / "tiles/shard-0.parquet").exists()
    done = {name: (tmp_path / f"tiles/{name}.json").stat().st_mtime_ns for name in "az"}
    shutil.copy(good, lost)
    assert run(tmp_path, table)["status"].to_list() == ["ok"] * 3
    for name, when in done.items():
        assert (tmp_path / f"tiles/{name}.json").stat().st_mtime_ns == when


def test_a_slide_that_is_replaced_stops_the_shard_and_nothing_else(
    tmp_path: Path, good: Path
) -> None:
    """The table has the stamp of the file that was checked; the size and the time stay."""
    slide = tmp_path / "other.svs"
    shutil.copy2(good, slide)
    table = shard(tmp_path / "shard-0.parquet", {"a": good, "other": slide})
    stamps = [slide_stamp(good), slide_stamp(slide)]
    pl.read_parquet(table).with_columns(pl.Series("stamp", stamps)).write_parquet(table)
    before = slide.stat()
    content = bytearray(slide.read_bytes())
    content[len(content) // 2] ^= 1
    slide.write_bytes(content)
    os.utime(slide, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StageError, match="changed: other;"):
        run(tmp_path, table)
    assert (tmp_path / "tiles/a.json").is_file()
    assert not (tmp_path / "tiles/other.json").exists()


def test_rerun_keeps_what_is_there(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shard(tmp_path / "s.parquet", {"a": good, "b": good})
    first = run(tmp_path, table)
    files = {path: path.read_bytes() for path in (tmp_path / "tiles").iterdir()}
    (tmp_path / "tiles/shard-0.parquet").unlink()
    (tmp_path / "tiles/b.json").unlink()  # as if killed within b
    opened = []
    monkeypatch.setattr(
        tiles, "open_slide", lambda path, mpp: opened.append(path) or open_slide(path, mpp)
    )
    assert run(tmp_path, table).equals(first)
    assert len(opened) == 1
    for lost in ("a.parquet", "b.jpg", "b.mask.png"):  # deleted by hand
        opened.clear()
        (tmp_path / "tiles" / lost).unlink()
        assert run(tmp_path, table).equals(first)
        assert len(opened) == 1, lost
    for broken, size in (("a.parquet", 300), ("b.parquet", -1), ("a.json", 20)):  # a full disk
        opened.clear()
        path = tmp_path / "tiles" / broken
        path.write_bytes(path.read_bytes()[:size])
        assert run(tmp_path, table).equals(first)
        assert len(opened) == 1, broken
    assert {path: path.read_bytes() for path in (tmp_path / "tiles").iterdir()} == files
    run(tmp_path, table, max_tiles=3)
    assert len(opened) == 3
    run(tmp_path, shard(tmp_path / "s.parquet", {"a": good, "b": good}, md5=["new", "md5 of b"]))
    assert len(opened) == 5
