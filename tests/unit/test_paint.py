"""The painter: shares as planned, a picture that depends on plan and seed alone, and its marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb2hsv
from slide2rna.simulate.ground_truth import CLASSES
from slide2rna.simulate.paint import CELL_PX, GLASS, STAINS, Plan, label_map, paint

SHARES = (0.34, 0.28, 0.13, 0.06, 0.11, 0.08)
PLAN = Plan("X-1", 1024, 960, SHARES, "A")
SMALL = replace(PLAN, width_px=512, height_px=512)

Painted = tuple[np.ndarray, np.ndarray, int]


@pytest.fixture(scope="module")
def painted() -> Painted:
    return paint(PLAN, 1)


def tissue(rgb: np.ndarray) -> np.ndarray:
    """Coloured pixels: those that take away at least 15 % of the green light."""
    return rgb[..., 1] < 205


@pytest.mark.parametrize(
    "shares",
    [
        SHARES,
        (0.70, 0.12, 0.05, 0.05, 0.04, 0.04),
        (0.05, 0.15, 0.55, 0.05, 0.12, 0.08),
        (0.20, 0.20, 0.05, 0.15, 0.20, 0.20),
        (0.012, 0.94, 0.012, 0.012, 0.012, 0.012),
    ],
)
def test_shares_are_the_plans(shares: tuple[float, ...]) -> None:
    _, own, _ = paint(replace(SMALL, shares=shares), 1)
    assert own.shape == (len(CLASSES),)
    assert own.sum() == pytest.approx(1)
    np.testing.assert_allclose(own, shares, atol=0.03)


def test_picture(painted: Painted) -> None:
    rgb, _, area = painted
    assert rgb.shape == (960, 1024, 3)
    assert rgb.dtype == np.uint8
    assert area / rgb[..., 0].size == pytest.approx(PLAN.cover, abs=0.02)
    # fat and lumen are nearly glass, the rest is stained
    assert 0.4 < tissue(rgb).mean() < PLAN.cover
    red, green, blue = rgb[tissue(rgb)].mean(0)
    assert green < blue < red  # pink and purple


@pytest.mark.parametrize("site", list(STAINS))
def test_glass_is_white_outside(site: str) -> None:
    rgb, _, _ = paint(replace(PLAN, site=site), 1)
    light = np.array(STAINS[site][1])
    assert light.min() > 225
    for rows in (slice(60), slice(-60, None)):
        for columns in (slice(60), slice(-60, None)):
            assert (np.abs(rgb[rows, columns].astype(int) - light) <= 3).all()
    edges = (rgb[:4], rgb[-4:], rgb[:, :4], rgb[:, -4:])
    assert min((np.abs(edge.astype(int) - light) <= 3).mean() for edge in edges) > 0.98


def test_depends_on_plan_and_seed_alone() -> None:
    first, shares, area = paint(SMALL, 1)
    paint(replace(SMALL, slide_id="Y"), 2)  # a slide between changes nothing
    again, same_shares, same_area = paint(SMALL, 1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(shares, same_shares)
    assert area == same_area
    for other in (paint(SMALL, 2), paint(replace(SMALL, slide_id="X-2"), 1)):
        assert np.abs(other[0].astype(int) - first).mean() > 5


def test_sites_differ_more_than_slides() -> None:
    means = {
        site: np.array(
            [
                rgb[tissue(rgb)].mean(0)
                for rgb, _, _ in (
                    paint(replace(SMALL, slide_id=f"X-{i}", site=site), 1) for i in range(4)
                )
            ]
        )
        for site in STAINS
    }
    gap = np.linalg.norm(means["A"].mean(0) - means["B"].mean(0))
    within = np.sqrt(np.mean([means[site].var(0, ddof=1).sum() for site in STAINS]))
    assert gap > 12
    assert gap > 1.5 * within


def test_pen_is_saturated_green_and_blue() -> None:
    plain, shares, area = paint(SMALL, 1)
    marked, same_shares, same_area = paint(replace(SMALL, pen=True), 1)
    np.testing.assert_array_equal(shares, same_shares)
    assert area == same_area
    changed = np.abs(marked.astype(int) - plain).max(-1) > 40
    assert 0.02 < changed.mean() < 0.3
    strokes = rgb2hsv(marked[changed & ~tissue(plain)])
    hue, saturation = strokes[:, 0] * 360, strokes[:, 1]
    green, blue = (hue > 90) & (hue < 180), (hue > 200) & (hue < 270)
    assert np.median(saturation) > 0.5
    assert (green | blue).mean() > 0.9
    assert min(green.mean(), blue.mean()) > 0.15


@pytest.mark.parametrize("cover", [0.03, 0.3, 0.78])
def test_cover(cover: float) -> None:
    rgb, shares, area = paint(replace(SMALL, cover=cover), 1)
    assert area / rgb[..., 0].size == pytest.approx(cover, abs=0.01)
    assert tissue(rgb).mean() < cover + 0.01
    assert shares.sum() == pytest.approx(1)


def test_label_map_is_exact() -> None:
    labels = label_map(PLAN, np.random.default_rng(1))
    assert labels.shape == (960 // CELL_PX, 1024 // CELL_PX)
    counts = np.bincount(labels[labels != GLASS], minlength=len(CLASSES))
    np.testing.assert_allclose(counts / counts.sum(), SHARES, atol=1e-3)


def test_classes_look_different() -> None:
    """Slides of mostly one class differ in nuclei and brightness: morphology can be read."""
    dark = {}
    for k, name in enumerate(CLASSES):
        shares = np.full(len(CLASSES), 0.02)
        shares[k] = 0.9
        rgb, _, _ = paint(replace(SMALL, shares=tuple(shares.tolist())), 1)
        dark[name] = (rgb[128:384, 128:384, 0] < 80).mean()  # haematoxylin takes the red
    assert dark["lymphocytes"] > dark["tumour"] > dark["stroma"] > dark["lumen"]
    assert dark["fat"] < dark["stroma"]
