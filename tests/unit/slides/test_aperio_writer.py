"""Slides that the demo writes, read back by OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from scipy import ndimage
from slide2rna.core import files
from slide2rna.slides import aperio_writer

WIDTH, HEIGHT = 1500, 1100


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Smooth blobs, so that JPEG has nothing to lose."""
    noise = np.random.default_rng(1).standard_normal((HEIGHT, WIDTH, 3))
    smooth = ndimage.gaussian_filter(noise, (25, 25, 0))
    return np.clip(170 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def slide(rgb: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aperio") / "one.svs"
    aperio_writer.write(path, rgb, mpp=0.25, power=40)
    return path


def test_properties(slide: Path) -> None:
    with openslide.OpenSlide(slide) as opened:
        found = opened.properties
        assert found[openslide.PROPERTY_NAME_VENDOR] == "aperio"
        assert float(found[openslide.PROPERTY_NAME_MPP_X]) == 0.25
        assert float(found[openslide.PROPERTY_NAME_MPP_Y]) == 0.25
        assert float(found[openslide.PROPERTY_NAME_OBJECTIVE_POWER]) == 40
        assert opened.dimensions == (WIDTH, HEIGHT)


def test_levels(slide: Path) -> None:
    with openslide.OpenSlide(slide) as opened:
        assert opened.level_count == 3
        np.testing.assert_allclose(opened.level_downsamples, [1, 4, 16], rtol=0.01)
        assert opened.level_dimensions[1] == (-(-WIDTH // 4), -(-HEIGHT // 4))
        assert opened.level_dimensions[2] == (-(-WIDTH // 16), -(-HEIGHT // 16))
        for level in range(3):
            assert opened.properties[f"openslide.level[{level}].tile-width"] == "256"


def test_thumbnail(slide: Path, rgb: np.ndarray) -> None:
    with openslide.OpenSlide(slide) as opened:
        assert set(opened.associated_images) == {"thumbnail"}
        small = opened.associated_images["thumbnail"].convert("RGB")
    assert max(small.size) == aperio_writer.THUMBNAIL_PX
    assert small.width / small.height == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    np.testing.assert_allclose(np.asarray(small).mean((0, 1)), rgb.mean((0, 1)), atol=1)


def test_pixels(slide: Path, rgb: np.ndarray) -> None:
    with openslide.OpenSlide(slide) as opened:
        whole = np.asarray(opened.read_region((0, 0), 0, (WIDTH, HEIGHT)))
        part = np.asarray(opened.read_region((700, 400), 0, (300, 200)))[..., :3]
        low = np.asarray(opened.read_region((400, 400), 1, (100, 100)))[..., :3]
    assert (whole[..., 3] == 255).all()
    gap = np.abs(whole[..., :3].astype(int) - rgb)
    assert gap.mean() < 2
    # the last tiles are padded, and JPEG mixes the padding into its neighbours
    assert gap[:-16, :-16].max() < 20
    np.testing.assert_array_equal(part, whole[400:600, 700:1000, :3])
    expected = rgb[400:800, 400:800].reshape(100, 4, 100, 4, 3).mean((1, 3))
    assert np.abs(low - expected).mean() < 2


@pytest.mark.parametrize(("mpp", "power"), [(None, None), (None, 20), (0.5, None)])
def test_absent_is_absent(
    mpp: float | None, power: float | None, rgb: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "bare.svs"
    aperio_writer.write(path, rgb[:400, :500], mpp=mpp, power=power)
    with openslide.OpenSlide(path) as opened:
        found = opened.properties
        assert found[openslide.PROPERTY_NAME_VENDOR] == "aperio"
        assert (openslide.PROPERTY_NAME_MPP_X in found) == (mpp is not None)
        assert (openslide.PROPERTY_NAME_MPP_Y in found) == (mpp is not None)
        assert (openslide.PROPERTY_NAME_OBJECTIVE_POWER in found) == (power is not None)
        assert (mpp is None) == (found["tiff.ResolutionUnit"] == "none")


def test_small_levels_are_left_out(rgb: np.ndarray, tmp_path: Path) -> None:
    aperio_writer.write(tmp_path / "small.svs", rgb[:300, :400])
    with openslide.OpenSlide(tmp_path / "small.svs") as opened:
        assert opened.level_dimensions == ((400, 300), (100, 75))


def test_same_image_same_bytes(slide: Path, rgb: np.ndarray, tmp_path: Path) -> None:
    again = tmp_path / "another name.svs"
    aperio_writer.write(again, rgb, mpp=0.25, power=40)
    assert files.md5sum(again) == files.md5sum(slide)
    aperio_writer.write(again, 255 - rgb, mpp=0.25, power=40)
    assert files.md5sum(again) != files.md5sum(slide)
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_failure_leaves_nothing(rgb: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        aperio_writer.write(tmp_path / "one.svs", rgb.astype(np.complex64))
    assert not list(tmp_path.iterdir())
