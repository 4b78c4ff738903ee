"""Changes of a tile: each does what its name says, by as much as its strength, and only that."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2hed, rgb2yiq
from slide2rna.studies.stain import perturbations
from slide2rna.studies.stain.perturbations import STRENGTHS, UNITS

NEUTRAL = {"hue": 0.0, "contrast": 1, "brightness": 1, "saturation": 1}
NEUTRAL |= {"hematoxylin": 1, "eosin": 1}


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    """Two dyes in amounts that vary over the tile, on white, so that the mixture is known."""
    rng = np.random.default_rng(4)
    amounts = np.zeros((64, 64, 3))
    amounts[..., 0] = np.kron(rng.uniform(0, 0.06, (16, 16)), np.ones((4, 4)))
    amounts[..., 1] = np.kron(rng.uniform(0.01, 0.08, (8, 8)), np.ones((8, 8)))
    light = np.exp(-perturbations.DENSITY * amounts @ perturbations.rgb_from_hed)
    return np.round(light * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", sorted(NEUTRAL))
def test_neutral_strength_changes_nothing(kind: str, tile: np.ndarray) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    for one in (tile, noise, np.zeros_like(noise), np.full_like(noise, 255)):
        np.testing.assert_array_equal(perturbations.perturb(one, kind, NEUTRAL[kind]), one)


@pytest.mark.parametrize(
    ("kind", "strength"), [(k, value) for k, values in STRENGTHS.items() for value in values]
)
def test_every_strength_changes_a_tile_and_keeps_its_layout(
    kind: str, strength: float, tile: np.ndarray
) -> None:
    before = tile.copy()
    found = perturbations.perturb(tile, kind, strength)
    assert (found.dtype, found.shape) == (np.uint8, tile.shape)
    assert (found != tile).any()
    np.testing.assert_array_equal(tile, before)
    assert kind in UNITS


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize("kind", sorted(perturbations.DYES))
def test_a_dye_is_scaled_and_the_other_stays(kind: str, factor: float, tile: np.ndarray) -> None:
    own = perturbations.DYES[kind]
    before = rgb2hed(tile).mean((0, 1))
    after = rgb2hed(perturbations.perturb(tile, kind, factor)).mean((0, 1))
    assert after[own] / before[own] == pytest.approx(factor, rel=0.03)
    assert after[1 - own] / before[1 - own] == pytest.approx(1, rel=0.03)


def test_factors_act_on_what_they_name(tile: np.ndarray) -> None:
    soft = (tile // 2 + 50).astype(np.uint8)  # so that nothing is clipped
    grey = soft.mean(axis=2)
    for factor in STRENGTHS["contrast"]:
        found = perturbations.perturb(soft, "contrast", factor).mean(axis=2)
        assert np.ptp(found) / np.ptp(grey) == pytest.approx(factor, rel=0.05)
    darker, lighter = (
        perturbations.perturb(tile, "brightness", f) for f in STRENGTHS["brightness"]
    )
    assert darker.mean() < tile.mean() < lighter.mean()
    dull, vivid = (perturbations.perturb(tile, "saturation", f) for f in STRENGTHS["saturation"])
    spread = [np.ptp(one.astype(int), axis=2).mean() for one in (dull, tile, vivid)]
    assert spread[0] < spread[1] < spread[2]


def test_hue_turns_the_chroma_and_keeps_luma() -> None:
    tile = np.full((4, 4, 3), (180, 120, 160), np.uint8)
    before, after = (rgb2yiq(one)[0, 0] for one in (tile, perturbations.perturb(tile, "hue", 0.03)))
    angle = [np.arctan2(one[2], one[1]) for one in (before, after)]
    assert angle[1] - angle[0] == pytest.approx(2 * np.pi * 0.03, abs=0.02)
    assert after[0] == pytest.approx(before[0], abs=0.005)
    assert np.hypot(*after[1:]) == pytest.approx(np.hypot(*before[1:]), abs=0.005)


def test_sharpness_and_jpeg_change_edges_in_order(tile: np.ndarray) -> None:
    def edges(one: np.ndarray) -> float:
        return float(np.abs(np.diff(one.astype(int), axis=1)).mean())

    found = [
        edges(perturbations.perturb(tile, "sharpness", s)) for s in sorted(STRENGTHS["sharpness"])
    ]
    assert found == sorted(found)
    assert found[1] < edges(tile) < found[2]
    off = [
        np.abs(perturbations.perturb(tile, "jpeg", quality).astype(int) - tile).mean()
        for quality in (95, *STRENGTHS["jpeg"])
    ]
    assert off == sorted(off)
