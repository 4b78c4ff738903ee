"""Textures and nuclei of the painter: made once per process, identical on every machine."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from slide2rna.core.seeds import rng_for
from slide2rna.simulate.ground_truth import CLASSES

PAINTED = (*CLASSES, "mucin")  # tissues of the painter; the first is tumour
GRADES = 5  # of tumour, state u = 0, 1/4, ..., 1
PATCH_PX = 1024
UNIT = 200  # amount of stain with the optical density of its vector

Floats = NDArray[np.float32]

# Kind of nucleus: mean long and short half-axes (px of 0.5 um), their relative sd, amount of
# haematoxylin, relative sd of it, roughness of the outline, nucleolus.
Kind = tuple[tuple[float, float], float, float, float, float, bool]
KINDS: dict[str, Kind] = {
    "lymphocyte": ((6.6, 6.1), 0.08, 1.05, 0.10, 0.04, False),
    "fibroblast": ((15.0, 3.2), 0.20, 0.75, 0.15, 0.06, False),
    "debris": ((2.2, 1.7), 0.40, 0.70, 0.35, 0.15, False),
    "ghost": ((9.0, 7.5), 0.20, 0.16, 0.30, 0.10, False),
}
# With the grade, nuclei of tumour grow, vary and get nucleoli. Their distance grows as they do, so
# that the mean amount of haematoxylin is the same: the grade shows in texture, not in mean colour.
TUMOUR_PX = tuple(round(18 * 2 ** (grade / (GRADES - 1))) for grade in range(GRADES))
for _grade, _distance in enumerate(TUMOUR_PX):
    KINDS[f"tumour_{_grade}"] = (
        (_distance * 0.50, _distance * 0.375),
        0.12 + 0.04 * _grade,
        0.60,
        0.10 + 0.04 * _grade,
        0.05 + 0.03 * _grade,
        _grade >= GRADES // 2,
    )
VARIANTS = 64


@cache
def texture(k: int) -> NDArray[np.uint16]:
    """Return class `k`'s seamless texture (PATCH_PX, PATCH_PX): eosin + 256 x haematoxylin."""
    rng = rng_for(0, "texture", PAINTED[k])
    pink, blue = _TEXTURES[PAINTED[k]](rng)
    amounts = [np.clip(np.rint(plane * UNIT), 0, 255).astype(np.uint16) for plane in (pink, blue)]
    return amounts[0] + (amounts[1] << 8)


@cache
def stamps(kind: str) -> NDArray[np.uint8]:
    """Return the haematoxylin of `VARIANTS` nuclei of a kind (VARIANTS, size, size)."""
    axes, spread, amount, amount_sd, roughness, nucleolus = KINDS[kind]
    rng = rng_for(0, "stamps", kind)
    half = int(np.ceil(axes[0] * (1 + 2.2 * spread))) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    library = np.zeros((VARIANTS, 2 * half + 1, 2 * half + 1), np.uint8)
    for number in range(VARIANTS):
        turn = rng.uniform(0, np.pi)
        long, short = np.array(axes) * np.exp(np.clip(rng.normal(0, spread, 2), -0.4, 0.4))
        u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        angle = np.arctan2(v / short, u / long)
        edge = 1 + sum(
            rng.normal(0, roughness / m) * np.cos(m * angle + rng.uniform(0, 2 * np.pi))
            for m in (2, 3, 4, 5)
        )
        radius = np.hypot(u / long, v / short) / edge
        inside = np.clip((1 - radius) * short + 0.5, 0, 1)
        chromatin = ndimage.gaussian_filter(rng.standard_normal(x.shape), 1.3)
        level = amount * rng.lognormal(0, amount_sd)
        body = level * (0.92 + 0.30 * radius**3 + 0.45 * chromatin)  # dark rim, clumped inside
        if nucleolus:
            for _ in range(rng.integers(1, 3)):
                cy, cx = rng.normal(0, short * 0.28, 2)
                body += 0.5 * level * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 3.5)
        soft = ndimage.gaussian_filter(inside * np.maximum(body, 0), 0.6)
        library[number] = np.clip(soft * UNIT, 0, 255)
    return library


def _noise(rng: np.random.Generator, *sigma: float) -> Floats:
    """Draw seamless unit-variance Gaussian noise, smoothed by `sigma` px (or sigma_y, sigma_x)."""
    white = rng.standard_normal((PATCH_PX, PATCH_PX), dtype=np.float32)
    down, across = (sigma * 2)[:2]
    fy, fx = np.fft.fftfreq(PATCH_PX)[:, None], np.fft.rfftfreq(PATCH_PX)[None, :]
    transfer = np.exp(-2 * np.pi**2 * ((fy * down) ** 2 + (fx * across) ** 2)).astype(np.float32)
    smooth = fft.irfft2(fft.rfft2(white) * transfer, s=white.shape)
    return smooth / smooth.std()


def _warped(plane: Floats, rng: np.random.Generator, sigma: float, reach: float) -> Floats:
    """Warp the plane by a smooth displacement of `reach` px."""
    y, x = np.mgrid[:PATCH_PX, :PATCH_PX].astype(np.float32)
    positions = [y + reach * _noise(rng, sigma), x + reach * _noise(rng, sigma)]
    return ndimage.map_coordinates(plane, positions, order=1, mode="grid-wrap")


def _stroma(rng: np.random.Generator) -> tuple[Floats, Floats]:
    fibres = _warped(_noise(rng, 2.2, 34), rng, 60, 70)
    fine = _warped(_noise(rng, 1.1, 14), rng, 45, 50)
    pink = 0.38 + 0.09 * fibres + 0.05 * fine + 0.02 * _noise(rng, 1)
    pink *= np.clip((fibres + 1.75) * 2.2, 0.12, 1)  # clefts between bundles
    return np.maximum(pink, 0), np.full_like(pink, 0.015)


def _tumour(rng: np.random.Generator) -> tuple[Floats, Floats]:
    mottle, cells = _noise(rng, 1.5), _noise(rng, 8)
    pink = 0.27 + 0.035 * mottle + 0.05 * cells
    pink -= 0.16 * np.clip(1 - np.abs(_noise(rng, 11)) * 9, 0, 1)  # clefts between cell groups
    return np.maximum(pink, 0.03), np.clip(0.12 + 0.02 * mottle + 0.03 * cells, 0.02, 1)


def _fat(rng: np.random.Generator) -> tuple[Floats, Floats]:
    pitch = 68.0
    n = int(PATCH_PX / pitch)
    rows, columns = np.mgrid[:n, :n]
    grid = np.stack([rows, columns], -1).reshape(-1, 2) * (PATCH_PX / n)
    grid[:, 1] += (grid[:, 0] / (PATCH_PX / n) % 2) * PATCH_PX / n / 2
    seeds = (grid + rng.normal(0, pitch * 0.13, grid.shape)) % PATCH_PX
    y, x = np.mgrid[:PATCH_PX, :PATCH_PX].astype(np.float32)
    pixels = np.stack([y + 3 * _noise(rng, 14), x + 3 * _noise(rng, 14)], -1)
    tree = cKDTree(seeds, boxsize=PATCH_PX)
    distances, _ = tree.query(pixels.reshape(-1, 2) % PATCH_PX, k=3)
    gap = (distances[:, 1] - distances[:, 0]).reshape(y.shape)
    corner = (distances[:, 2] - distances[:, 0]).reshape(y.shape)
    wall = np.exp(-((gap / 4.5) ** 2)) + 0.8 * np.exp(-((corner / 9) ** 2))
    # The film inside keeps the cells within the tissue's mask; real fat is often lost there.
    pink = 0.13 + 0.30 * np.clip(wall, 0, 1) + 0.006 * _noise(rng, 2)
    blue = 0.02 * wall + 0.6 * (np.exp(-((corner / 7) ** 2)) > 0.55) * (_noise(rng, 40) > 0.7)
    return pink.astype(np.float32), ndimage.gaussian_filter(blue, 0.7, mode="wrap")


def _lumen(rng: np.random.Generator) -> tuple[Floats, Floats]:
    secretion = np.clip(_noise(rng, 22) - 1.1, 0, 1) * (0.10 + 0.02 * _noise(rng, 2))
    return (0.006 + np.maximum(secretion, 0)).astype(np.float32), np.zeros_like(secretion)


def _lymphocytes(rng: np.random.Generator) -> tuple[Floats, Floats]:
    # As much eosin as in the tumour, whose nuclei are larger and paler: alike in mean colour.
    pink = 0.25 + 0.03 * _noise(rng, 1.5) + 0.04 * _noise(rng, 7)
    return np.maximum(pink, 0), np.clip(0.10 + 0.02 * _noise(rng, 5), 0, 1)


def _necrosis(rng: np.random.Generator) -> tuple[Floats, Floats]:
    grain, clump = _noise(rng, 1.2), _noise(rng, 6)
    # As pink as stroma, and grainy where stroma has fibres.
    pink = 0.34 + 0.06 * grain + 0.07 * clump + 0.03 * _noise(rng, 30)
    return np.maximum(pink, 0.02), np.clip(0.035 + 0.02 * clump, 0, 1)


def _mucin(rng: np.random.Generator) -> tuple[Floats, Floats]:
    strands = _warped(_noise(rng, 2.0, 40), rng, 45, 80)
    veil = 0.085 + 0.02 * _noise(rng, 12)
    blue = veil + 0.18 * np.clip(1 - np.abs(strands) * 3.5, 0, 1)
    return np.full_like(blue, 0.02), np.clip(blue, 0, 1)


_TEXTURES = {
    "tumour": _tumour,
    "stroma": _stroma,
    "fat": _fat,
    "lumen": _lumen,
    "lymphocytes": _lymphocytes,
    "necrosis": _necrosis,
    "mucin": _mucin,
}
