"""Real slides through tiles and features: what works, and what is refused with a clear word."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from PIL import Image
from slide2rna.core import config
from slide2rna.core.errors import SlideError
from slide2rna.features import extract, registry
from slide2rna.slides import tiles
from slide2rna.slides.reader import open_slide
from slide2rna.slides.tissue import tissue_mask
from slide_factory import shard

TILES = config.defaults("tiles")


@pytest.fixture(scope="module")
def slides(shared_data: Path) -> Path:
    return shared_data / "slides"


def test_every_shared_slide_in_one_shard(tmp_path: Path, slides: Path) -> None:
    """Two pass, the second with its mpp from the sheet; four fail, each with its own reason."""
    files = {
        "boxes": slides / "boxes.tiff",
        "cmu": slides / "CMU-1-Small-Region.svs",
        "tcga": slides / "tcga-cr-7395-01a-01-ts1.svs",
        "tcga-no-mpp": slides / "tcga-cr-7395-01a-01-ts1.svs",
        "unopenable": slides / "unopenable.tiff",
        "unreadable": slides / "unreadable.svs",
    }
    mpp = [0.5 if name == "tcga" else None for name in files]
    table = shard(tmp_path / "s.parquet", files, mpp=mpp)
    folder, out = tmp_path / "tiles", tmp_path / "features"
    made = tiles.tile_shard(table, folder, folder / "shard-0.parquet", TILES, 1)
    encoder = registry.load(config.defaults("features"))
    found = extract.extract_shard(
        table, folder, folder / "shard-0.parquet", out, out / "shard-0.parquet", encoder, TILES, 2
    )
    reasons = dict(found.select("slide_id", "reason").rows())
    assert {name for name, reason in reasons.items() if reason is None} == {"cmu", "tcga"}
    assert "mpp 352.778 from the slide" in reasons["boxes"]
    assert "no resolution in the file; give mpp" in reasons["tcga-no-mpp"]
    assert "Unsupported TIFF compression" in reasons["unopenable"]
    assert "can't be decoded" in reasons["unreadable"]
    by_id = {row["slide_id"]: row for row in made.iter_rows(named=True)}
    assert (by_id["cmu"]["mpp"], by_id["cmu"]["mpp_source"]) == (0.499, "slide")
    assert (by_id["tcga"]["mpp"], by_id["tcga"]["mpp_source"]) == (0.5, "sheet")
    assert 15 <= by_id["cmu"]["n_tiles"] <= 40
    assert 110 <= by_id["tcga"]["n_tiles"] <= 160
    for name in ("cmu", "tcga"):
        with h5py.File(out / f"{name}.h5") as file:
            values = np.asarray(file["features"])
        assert values.shape[1] == 230
        assert np.isfinite(values).all()
        assert (values[:, 224:227] > 0.2).all()  # tissue isn't black
        assert np.isfinite(np.corrcoef(values[:5])).all()  # tiles differ from each other


def test_boxes_with_mpp_are_too_small(slides: Path) -> None:
    with (
        open_slide(slides / "boxes.tiff", 0.5) as slide,
        pytest.raises(SlideError, match="tissue"),
    ):
        tiles.tile_slide(slide, TILES, 1, "boxes")


@pytest.mark.parametrize(("name", "mpp"), [("C2", 0.696), ("C4", 0.690)])
def test_her2st_section(shared_data: Path, name: str, mpp: float) -> None:
    """A plain JPEG with dense blue tumour, tinted glass and an eosin smear; a spot's area."""
    with open_slide(shared_data / f"her2st/{name}.jpg", mpp) as slide:
        whole = tiles.tile_slide(slide, TILES, 1, name)
        x, y = (int(v) for v in whole.table.select(pl.col("x", "y").median()).row(0))
        corners = [[x - 400, y - 400], [x + 400, y - 400], [x + 400, y + 400], [x - 400, y + 400]]
        region = tiles.tile_slide(slide, TILES, 1, name, json.dumps(corners))
    assert 350 <= whole.n_tissue <= 500
    assert set(whole.table["size"]) == {round(256 * 0.5 / mpp)}
    assert 0 < region.table.height <= 25
    assert set(region.table.select("x", "y").rows()) <= set(whole.table.select("x", "y").rows())


def test_ink_on_a_real_slide(slides: Path) -> None:
    """A drawn stroke takes its place from the mask and nothing else."""
    with open_slide(slides / "tcga-cr-7395-01a-01-ts1.svs", 0.5) as slide:
        rgb, downsample = slide.overview(8)
    before = tissue_mask(rgb, 0.5 * downsample)
    image = Image.fromarray(rgb)
    image.paste((20, 60, 190), (40, 100, 240, 115))
    after = tissue_mask(np.asarray(image), 0.5 * downsample)
    assert before[100:115, 60:220].mean() > 0.5
    assert not after[100:115, 40:240].any()
    outside = np.ones_like(before)
    outside[85:130, 25:255] = False
    assert (before == after)[outside].mean() > 0.98
