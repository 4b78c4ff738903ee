"""Plain images: named as such, of three channels and full range, with the resolution they state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide2rna.core.errors import SlideError
from slide2rna.slides import plain_image
from slide2rna.slides.reader import open_slide
from slide_factory import picture

PIXELS = picture(256, 256)
OME = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
CM = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
INCH = {"resolution": (50800, 50800), "resolutionunit": "INCH"}


@pytest.mark.parametrize("name", ["block7.vsi", "a.lif", "a.nd2", "a.isyntax", "a.bmp", "a.dat"])
def test_a_preview_is_not_the_slide(tmp_path: Path, name: str) -> None:
    """The pixels are a readable TIFF, but the name is a container's."""
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")
    path = (tmp_path / "a.tif").rename(tmp_path / name)
    for mpp in (None, 0.5):
        with pytest.raises(SlideError) as caught:
            open_slide(path, mpp)
        assert "convert" in caught.value.remedy
        assert "mpp" not in caught.value.remedy
    if path.suffix == ".vsi":
        assert "_block7_" in caught.value.cause


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": None, **CM},
        {"metadata": None, **INCH},
        {"ome": True, "metadata": OME},
        {"ome": True, "metadata": OME | {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm"}},
        {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}},
        {"imagej": True, "resolution": (2000, 2000), "metadata": {"unit": "mm"}},
    ],
)
def test_a_stated_resolution_is_believed(tmp_path: Path, options: dict) -> None:
    suffix = ".ome.tif" if options.get("ome") else ".tif"
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(
        path, PIXELS, **({} if options.get("imagej") else {"photometric": "rgb"}), **options
    )
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)
        assert slide.resolution.source == "slide"
    with open_slide(path, 0.25) as slide:
        assert (slide.mpp, slide.resolution.source) == (0.25, "sheet")


def test_no_resolution_is_none(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", metadata=None)
    assert plain_image.stated_mpp(tmp_path / "a.tif") is None
    with pytest.raises(SlideError, match="mpp"):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize("tile", [None, (128, 128)])
def test_single_channels_are_named(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    """Read by OpenSlide (tiled) or as a plain image: its first page would be grey."""
    path = tmp_path / "planes.ome.tif"
    planes = np.moveaxis(PIXELS, 2, 0)
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", tile=tile)
    with pytest.raises(SlideError, match="single channels"):
        open_slide(path, 0.5)


@pytest.mark.parametrize("bits", [12, 14, 16])
@pytest.mark.parametrize("tile", [None, (128, 128)])
def test_bits_that_are_not_used_are_named(
    tmp_path: Path, bits: int, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "deep.tif"
    deep = PIXELS.astype(np.uint16) << (bits - 8)
    tifffile.imwrite(path, deep, photometric="rgb", metadata=None, tile=tile)
    if bits == 16:
        plain_image.check_channels(path)
        return
    with pytest.raises(SlideError, match="16-bit"):
        open_slide(path, 0.5)


def test_more_pixels_than_memory_is_one_slides_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", metadata=None)
    monkeypatch.setattr(plain_image, "free_bytes", lambda: 256 * 256 * plain_image.BYTES_PER_PX - 1)
    with pytest.raises(SlideError, match="memory"):
        open_slide(tmp_path / "a.tif", 0.5)
    monkeypatch.setattr(plain_image, "free_bytes", lambda: 256 * 256 * plain_image.BYTES_PER_PX)
    open_slide(tmp_path / "a.tif", 0.5).close()
