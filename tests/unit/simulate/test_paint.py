"""The painter: shares as planned, a picture that depends on plan and seed alone, and its marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb2hsv
from slide2rna.simulate.paint import (
    CELL_PX,
    GLASS,
    STAINS,
    TUMOUR,
    Painted,
    Plan,
    grade_map,
    label_map,
    paint,
)
from slide2rna.simulate.textures import GRADES, PAINTED

SHARES = (0.34, 0.26, 0.13, 0.06, 0.11, 0.06, 0.04)
PLAN = Plan("X-1", 1024, 960, SHARES, "A")
SMALL = replace(PLAN, width_px=512, height_px=512)


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
        (0.70, 0.12, 0.05, 0.05, 0.04, 0.02, 0.02),
        (0.05, 0.15, 0.55, 0.05, 0.12, 0.08),
        (0.20, 0.20, 0.05, 0.15, 0.20, 0.20),
        (0.012, 0.94, 0.012, 0.012, 0.012, 0.012),
    ],
)
def test_shares_are_the_plans(shares: tuple[float, ...]) -> None:
    own = paint(replace(SMALL, shares=shares), 1).shares
    assert own.shape == (len(PAINTED),)
    assert own.sum() == pytest.approx(1)
    given = np.zeros(len(PAINTED))
    given[: len(shares)] = shares  # a plan may leave out the last tissue
    np.testing.assert_allclose(own, given, atol=0.03)


def test_picture(painted: Painted) -> None:
    rgb, area = painted.rgb, painted.tissue_px
    assert rgb.shape == (960, 1024, 3)
    assert rgb.dtype == np.uint8
    assert area / rgb[..., 0].size == pytest.approx(PLAN.cover, abs=0.02)
    # lumens are nearly glass, the rest is stained
    assert 0.4 < tissue(rgb).mean() < PLAN.cover
    red, green, blue = rgb[tissue(rgb)].mean(0)
    assert green < blue < red  # pink and purple


@pytest.mark.parametrize("site", list(STAINS))
def test_glass_is_white_outside(site: str) -> None:
    rgb = paint(replace(PLAN, site=site), 1).rgb
    light = np.array(STAINS[site][1])
    assert light.min() > 225
    for rows in (slice(60), slice(-60, None)):
        for columns in (slice(60), slice(-60, None)):
            assert (np.abs(rgb[rows, columns].astype(int) - light) <= 3).all()
    edges = (rgb[:4], rgb[-4:], rgb[:, :4], rgb[:, -4:])
    assert min((np.abs(edge.astype(int) - light) <= 3).mean() for edge in edges) > 0.98


def test_depends_on_plan_and_seed_alone() -> None:
    first = paint(SMALL, 1)
    paint(replace(SMALL, slide_id="Y"), 2)  # a slide between changes nothing
    again = paint(SMALL, 1)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for other in (paint(SMALL, 2), paint(replace(SMALL, slide_id="X-2"), 1)):
        assert np.abs(other.rgb.astype(int) - first.rgb).mean() > 5


def test_sites_differ_more_than_slides() -> None:
    means = {
        site: np.array(
            [
                rgb[tissue(rgb)].mean(0)
                for rgb, *_ in (
                    paint(replace(SMALL, slide_id=f"X-{i}", site=site), 1) for i in range(6)
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
    plain, *measured = paint(SMALL, 1)
    marked, *same = paint(replace(SMALL, pen=True), 1)
    for one, other in zip(measured, same, strict=True):
        np.testing.assert_array_equal(one, other)
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
    rgb, shares, _, _, area = paint(replace(SMALL, cover=cover), 1)
    assert area / rgb[..., 0].size == pytest.approx(cover, abs=0.01)
    assert tissue(rgb).mean() < cover + 0.01
    assert shares.sum() == pytest.approx(1)


def test_label_map_is_exact() -> None:
    labels = label_map(PLAN, np.random.default_rng(1))
    assert labels.shape == (960 // CELL_PX, 1024 // CELL_PX)
    counts = np.bincount(labels[labels != GLASS], minlength=len(PAINTED))
    np.testing.assert_allclose(counts / counts.sum(), SHARES, atol=1e-3)


def mostly(k: int, states: tuple[float, ...] = (0.5,), slide_id: str = "X-1") -> np.ndarray:
    """The middle of a slide of one tissue, without its rim."""
    shares = np.full(len(PAINTED), 0.01)
    shares[k] = 0.94
    plan = replace(SMALL, shares=tuple(shares.tolist()), states=states, slide_id=slide_id)
    return paint(plan, 1).rgb[128:384, 128:384]


def dark(rgb: np.ndarray) -> float:
    return float((rgb[..., 0] < 80).mean())  # haematoxylin takes the red


def test_tissues_look_different() -> None:
    """Slides of mostly one tissue differ in nuclei and brightness: morphology can be read."""
    found = {name: dark(mostly(k)) for k, name in enumerate(PAINTED)}
    assert found["lymphocytes"] > found["tumour"] > found["stroma"] > found["lumen"]
    assert max(found["fat"], found["mucin"]) < found["stroma"]


def grain(rgb: np.ndarray, step: int = 8) -> float:
    """Correlation of brightness over `step` px: high where what is drawn is coarse."""
    grey = rgb.mean(2)
    return float(np.corrcoef(grey[:, :-step].ravel(), grey[:, step:].ravel())[0, 1])


@pytest.mark.parametrize(
    ("one", "other", "step"), [("tumour", "lymphocytes", 8), ("stroma", "necrosis", 3)]
)
def test_pairs_are_alike_in_mean_colour_and_not_in_texture(one: str, other: str, step: int) -> None:
    """Mean colour alone must not tell the tissue: the pair differ little more than slides do."""
    places = PAINTED.index(one), PAINTED.index(other)
    pairs = [[mostly(k, slide_id=f"X-{i}") for k in places] for i in range(5)]
    means = np.array([[rgb.mean((0, 1)) for rgb in pair] for pair in pairs])  # slide, tissue, RGB
    gap = np.linalg.norm((means[:, 0] - means[:, 1]).mean(0))
    assert gap < 2.5 * np.sqrt(means.var(0, ddof=1).sum(1).mean())
    grains = np.array([[grain(rgb, step) for rgb in pair] for pair in pairs])
    assert grains[:, 0].min() > grains[:, 1].max() + 0.03, grains


def test_grade_is_the_plans_and_shows_in_texture_not_in_colour() -> None:
    states = (0.0, 0.25, 0.25, 0.5, 1.0)
    painted = paint(replace(PLAN, states=states), 1)
    assert painted.state == pytest.approx(np.mean(states), abs=0.02)
    assert painted.variance == pytest.approx(np.var(states), abs=0.02)
    low, high = mostly(TUMOUR, (0.0,)), mostly(TUMOUR, (1.0,))
    assert grain(high) > grain(low) + 0.2  # larger nuclei, farther apart
    gap = np.abs(high.mean((0, 1)) - low.mean((0, 1))).max()
    assert gap < np.abs(mostly(TUMOUR, slide_id="X-3").mean((0, 1)) - low.mean((0, 1))).max()


def test_grade_is_smooth_over_the_tumour() -> None:
    """A field orders the tumour: neighbours are of one grade, but at its few borders."""
    rng = np.random.default_rng(1)
    labels = label_map(PLAN, rng)
    states = tuple(np.linspace(0, 1, 20).tolist())
    grades = grade_map(replace(PLAN, states=states), labels, rng)
    tumour = labels == TUMOUR
    assert (grades[~tumour] == 0).all()
    np.testing.assert_array_equal(np.unique(grades[tumour]), np.arange(GRADES))
    both = tumour[:, 1:] & tumour[:, :-1]
    assert (grades[:, 1:] == grades[:, :-1])[both].mean() > 0.9


def test_without_tumour_the_state_is_a_constant() -> None:
    painted = paint(replace(SMALL, shares=(0.0, 0.5, 0.5)), 1)
    assert (painted.state, painted.variance) == (0.5, 0.0)
