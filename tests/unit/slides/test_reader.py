"""Opening slides: resolution rules, pixels against the image written, and every broken file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide2rna.core.errors import SlideError
from slide2rna.slides.reader import open_slide, resolve_mpp
from slide_factory import break_header, corrupt_tile, picture, write_slide


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return picture(1024, 768)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    return write_slide(tmp_path_factory.mktemp("s") / "good.svs", pixels)


def test_properties_and_pixels(good: Path, pixels: np.ndarray) -> None:
    with open_slide(good) as slide:
        assert slide.size == (1024, 768)
        assert slide.downsamples == (1, 4, 16)
        assert (slide.mpp, slide.resolution.source, slide.power) == (0.5, "slide", 20)
        assert slide.vendor == "aperio"
        region = np.asarray(slide.read(100, 200, 0, 300, 150))
    assert region.shape == (150, 300, 3)
    difference = region.astype(int) - pixels[200:350, 100:400]
    assert np.abs(difference).mean() < 6  # JPEG
    assert abs(difference.mean()) < 1


def test_outside_is_white(good: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    with open_slide(good) as slide:
        assert (np.asarray(slide.read(2000, 2000, 0, 16, 16)) == 255).all()
    plain = tmp_path / "plain.png"
    Image.fromarray(pixels).save(plain)
    with open_slide(plain, 0.5) as slide:
        region = np.asarray(slide.read(-8, 760, 0, 32, 16))
    assert (region[:, :8] == 255).all()
    assert (region[8:] == 255).all()
    np.testing.assert_array_equal(region[:8, 8:], pixels[760:, :24])


@pytest.mark.parametrize(
    ("wanted", "level"), [(1, 0), (3.9, 0), (4, 1), (3.97, 1), (15, 1), (99, 2)]
)
def test_level_is_the_coarsest_sufficient(good: Path, wanted: float, level: int) -> None:
    with open_slide(good) as slide:
        assert slide.level_for(wanted) == level


@pytest.mark.parametrize("levels", [(1,), (1, 4), (1, 4, 16)])
def test_overview_is_the_mean_of_the_pixels(tmp_path: Path, levels: tuple[int, ...]) -> None:
    pixels = picture(1000, 700)
    path = write_slide(tmp_path / "s.svs", pixels, downsamples=levels)
    with open_slide(path) as slide:
        rgb, downsample = slide.overview(8)
    assert 12 <= downsample <= 16.2
    h, w = rgb.shape[:2]
    step = round(downsample)
    want = pixels[: h * step, : w * step].reshape(h, step, w, step, 3).mean((1, 3))
    assert np.abs(rgb - want).mean() < 2


def test_overview_in_strips_is_the_same(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import slide2rna.slides.reader as module

    with open_slide(good, mpp=2) as slide:  # factor 4 of level 0 is level 1; ask for 3
        whole, factor = slide.overview(6)
        monkeypatch.setattr(module, "STRIP_PX", 20_000)
        strips, _ = slide.overview(6)
    assert factor == 3
    np.testing.assert_array_equal(whole, strips)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_plain_images_need_mpp_from_the_sheet(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plain.{suffix}"
    Image.fromarray(picture(300, 200)).save(path)
    with pytest.raises(SlideError, match=r"resolution.*mpp"):
        open_slide(path)
    with open_slide(path, 0.7) as slide:
        assert (slide.size, slide.mpp, slide.vendor) == ((300, 200), 0.7, "plain")
        assert slide.resolution.source == "sheet"


def test_transparency_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:32, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", 0.5) as slide:
        region = np.asarray(slide.read(0, 0, 0, 64, 64))
    assert (region[:32] == 0).all()
    assert (region[32:] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_pixel_types_are_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((64, 64), dtype))
    with pytest.raises(SlideError, match="8-bit"):
        open_slide(tmp_path / "x.tif", 0.5)


@pytest.mark.parametrize(
    ("sheet", "file", "power", "mpp", "source", "note"),
    [
        (None, 0.5, 20, 0.5, "slide", None),
        (None, 0.2325, 20, 0.2325, "slide", "objective power 20"),  # met in the wild
        (None, 0.25, 40, 0.25, "slide", None),
        (0.25, 0.5, None, 0.25, "sheet", "0.5 um"),
        (0.55, 0.5, 20, 0.55, "sheet", None),
        (0.5, None, None, 0.5, "sheet", None),
        (0.5, 352.8, None, 0.5, "sheet", "352.8 um"),
    ],
)
def test_resolution(sheet, file, power, mpp, source, note) -> None:
    found = resolve_mpp(Path("s"), sheet, file, power)
    assert (found.mpp, found.source) == (mpp, source)
    assert (found.note is None) == (note is None)
    assert note is None or note in found.note


@pytest.mark.parametrize("mpp", [0.0, -0.5, 0.04, 2.1, 352.8, float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["sheet", "file"])
def test_absurd_resolution_is_refused(mpp: float, which: str) -> None:
    sheet, file = (mpp, 0.5) if which == "sheet" else (None, mpp)
    with pytest.raises(SlideError, match="mpp"):
        resolve_mpp(Path("s"), sheet, file, 20)


def test_power_alone_is_no_resolution(tmp_path: Path, pixels: np.ndarray) -> None:
    path = write_slide(tmp_path / "s.svs", pixels, mpp=None)
    with pytest.raises(SlideError, match=r"power 20 .*0\.5.*mpp"):
        open_slide(path)
    with open_slide(path, 0.5) as slide:
        assert slide.mpp == 0.5


def test_wrong_number_in_the_file_is_none(tmp_path: Path, pixels: np.ndarray) -> None:
    path = write_slide(tmp_path / "s.svs", pixels, mpp="unknown", power=None)
    with pytest.raises(SlideError, match="resolution"):
        open_slide(path)


def test_missing_broken_and_text_files(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(SlideError, match="no such file"):
        open_slide(tmp_path / "none.svs")
    broken = break_header(write_slide(tmp_path / "b.svs", pixels))
    with pytest.raises(SlideError, match="OpenSlide"):
        open_slide(broken, 0.5)
    text = tmp_path / "t.svs"
    text.write_text("not a slide")
    with pytest.raises(SlideError, match="OpenSlide"):
        open_slide(text, 0.5)
    cut = tmp_path / "cut.jpg"
    Image.fromarray(pixels).save(cut)
    cut.write_bytes(cut.read_bytes()[:20_000])
    with pytest.raises(SlideError, match="decoded"):
        open_slide(cut, 0.5)


def test_corrupt_region_is_a_slide_error(tmp_path: Path, pixels: np.ndarray) -> None:
    path = corrupt_tile(write_slide(tmp_path / "c.svs", pixels), 5)
    with open_slide(path) as slide:
        slide.read(0, 0, 0, 200, 200)
        with pytest.raises(SlideError, match=r"x=300, y=300"):
            slide.read(300, 300, 0, 64, 64)
