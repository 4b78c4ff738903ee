"""Tissue mask of a slide's overview."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from slide2rna.core.types import Mpp

CHROMA_RANGE = (12.0, 30.0)
GLASS_MIN, GLASS_CHROMA, GLASS_SHARE = 200, 30, 0.01
INK_HUE, INK_CHROMA = 1 / 3, 20  # (green - red) / chroma = 1/3 is hue 220 on the blue side
INK_BLUE_SATURATION, INK_BLUE_CHROMA, INK_EDGE = 0.5, 70, 0.1
INK_BLACK, INK_GREY = 60, 20
INK_SURE = 0.25
INK_MARGIN_UM = 40.0
SPECK_UM2, HOLE_UM2, INK_UM2 = 10_000.0, 1_000.0, 2_500.0


def tissue_mask(rgb: np.ndarray, um_px: Mpp) -> np.ndarray:
    """Return the tissue mask of an overview, by Otsu's threshold on chroma.

    1. White balance: if at least 1 % of the pixels could be glass (all channels >= 200, chroma
       <= 30), their median becomes white, so that tinted glass is grey.
    2. Chroma = max(R, G, B) - min(R, G, B), smoothed over 3 x 3 px; shadows and dust have none.
    3. Ink is excluded, with a margin of 40 um. After smoothing over 3 x 3 px it has hue 60 to 220
       degrees with chroma >= 20 (yellow-green to blue), hue 220 to 240 with chroma >= 70 and
       saturation >= 0.5 (blue), or all channels < 60 with chroma < 20 (black). A stroke covers at
       least 2,500 um2, and up to three quarters of it may have a hue up to 246. Haematoxylin and
       eosin absorb green most; dense blue nuclei (her2st) reach hue 235, but are less saturated
       once smoothed. Red ink can't be distinguished from eosin.
    4. Otsu's threshold of the rest, clipped to 12 to 30 of 255. Chroma above 30 is always tissue,
       so that a view full of tissue isn't split into dark and pale. Chroma below 12 is always
       glass: the two classes of an empty slide hardly differ.
    5. Specks under 10,000 um2 are removed, holes under 1,000 um2 are filled (fat and lumens stay
       holes).

    Parameters
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
    um_px : float
        Resolution of the overview, um/px.

    Returns
    -------
    ndarray of bool, shape (h, w)
    """
    ink = _ink(rgb, INK_UM2 / um_px**2)
    if ink.any():
        steps = max(1, round(INK_MARGIN_UM / um_px))
        ink = ndimage.distance_transform_cdt(~ink, "chessboard") <= steps
    low, high = rgb.min(2), rgb.max(2)
    glass = (low >= GLASS_MIN) & (high - low <= GLASS_CHROMA)
    pixels = rgb.astype(np.float32)
    if glass.mean() >= GLASS_SHARE:
        pixels *= 255 / np.median(rgb[glass], axis=0).astype(np.float32)
        np.minimum(pixels, 255, out=pixels)
    chroma = ndimage.uniform_filter(pixels.max(2) - pixels.min(2), 3)
    rest = chroma[~ink]
    if not rest.size or rest.max() < CHROMA_RANGE[0]:
        return np.zeros(rgb.shape[:2], bool)
    threshold = threshold_otsu(rest) if rest.min() < rest.max() else rest.min()
    mask = (chroma > np.clip(threshold, *CHROMA_RANGE)) & ~ink
    mask = _without_small(mask, SPECK_UM2 / um_px**2)
    return mask | (~_without_small(~mask, HOLE_UM2 / um_px**2) & ~ink)


def _ink(rgb: np.ndarray, pixels: float) -> np.ndarray:
    """Return strokes of blue, green or black ink of at least `pixels` px (see `tissue_mask`)."""
    smooth = ndimage.uniform_filter(rgb.astype(np.float32), (3, 3, 1))
    red, green, high = smooth[..., 0], smooth[..., 1], smooth.max(2)
    chroma = high - smooth.min(2)
    hue = np.where(high > red, green - red, -high)
    cold = (hue >= INK_HUE * chroma) & (chroma >= INK_CHROMA)
    deep = chroma >= np.maximum(INK_BLUE_SATURATION * high, INK_BLUE_CHROMA)
    black = (high < INK_BLACK) & (chroma < INK_GREY)
    sure = cold | ((hue >= 0) & deep) | black
    labels, _ = ndimage.label(sure | ((hue >= -INK_EDGE * chroma) & deep))
    area = np.bincount(labels.ravel())
    keep = (area >= pixels) & (np.bincount(labels[sure], minlength=len(area)) >= INK_SURE * area)
    keep[0] = False
    return keep[labels]


def _without_small(mask: np.ndarray, pixels: float) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    keep = np.bincount(labels.ravel()) >= pixels
    keep[0] = False
    return keep[labels]
